import { encodePdu } from "../../../src/wire/encode.js";
import type { InitiatorPdu, ScsiCommandPdu } from "../../../src/wire/pdu.js";
import {
  dataOut,
  INITIATOR_NAME,
  nopOut,
  READ_8,
  ready,
  type TargetPeer,
  TargetWorld,
  WRITE_8,
} from "../target/target-peer.js";

/** The target's side of traps 5 to 7, 20, 42, 45, 60 to 62, 64, 70 and 74: recovery and several connections. */

const small = { MaxRecvDataSegmentLength: "512", MaxBurstLength: "1024", FirstBurstLength: "512" };
const level1 = { ErrorRecoveryLevel: "1" };
const level2 = { ErrorRecoveryLevel: "2", MaxConnections: "2", DefaultTime2Wait: "0", DefaultTime2Retain: "20" };

/** A session with two connections. */
async function pair(
  keys: Record<string, string> = level2,
  world = new TargetWorld(),
): Promise<[TargetPeer, TargetPeer]> {
  const first = await ready({ MaxConnections: "2", ...keys }, world);
  return [first, await world.join(first, { keys })];
}

function readOf(peer: TargetPeer): ScsiCommandPdu {
  return peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 });
}

function writeOf(peer: TargetPeer): ScsiCommandPdu {
  return peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
}

test("trap 05: the target takes the commands of all connections by CmdSN, in one window", async () => {
  const world = new TargetWorld({ limits: { queueDepth: 4 } });
  const [first, second] = await pair({}, world);
  const missing = first.command("00");
  const later = [0, 1, 2].map(() => second.command("00"));
  await second.send(...later);
  expect(second.received).toEqual([]);
  await second.send(second.command("00", { cmdSn: missing.cmdSn + 4 }));
  await first.send(missing);
  expect(first.next("scsi-response").initiatorTaskTag).toBe(missing.initiatorTaskTag);
  expect(second.received).toHaveLength(3);
  expect(second.received.at(-1)).toMatchObject({ expCmdSn: missing.cmdSn + 4 });
});

test("trap 06: the target ignores the retry of a command that it has, and does it once", async () => {
  const peer = await ready({ ...level1, InitialR2T: "Yes", ImmediateData: "No" });
  const command = writeOf(peer);
  await peer.send(command);
  const { targetTransferTag } = peer.next("ready-to-transfer");
  await peer.send(command);
  expect(peer.received).toEqual([]);
  await peer.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 3) }));
  expect(peer.next("scsi-response").status).toBe(0);
  expect(peer.received).toEqual([]);
});

test("trap 07: the target shows by ExpCmdSN that a rejected command left a gap, and takes what fills it", async () => {
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" });
  const running = writeOf(peer);
  const twin = { ...peer.command("00"), initiatorTaskTag: running.initiatorTaskTag };
  const behind = peer.command("00");
  await peer.send(running, twin, behind);
  peer.next("ready-to-transfer");
  expect(peer.next("reject")).toMatchObject({ reason: 0x07, expCmdSn: twin.cmdSn });
  expect(peer.received).toEqual([]);
  await peer.send({ ...nopOut(peer), isImmediate: false, cmdSn: twin.cmdSn });
  const types = peer.received.map(({ type }) => type).sort();
  expect(types).toEqual(["nop-in", "scsi-response"]);
});

test("trap 20: at level 1 the target asks again for data whose digest was wrong, and the write succeeds", async () => {
  const keys = { ...level1, InitialR2T: "Yes", ImmediateData: "No", HeaderDigest: "CRC32C", DataDigest: "CRC32C" };
  const digests = { header: true, data: true };
  const peer = await new TargetWorld().login({ keys });
  peer.useDigests(digests);
  await peer.clearAttention();
  const command = writeOf(peer);
  await peer.send(command);
  const asked = peer.next("ready-to-transfer");
  const answer: InitiatorPdu = dataOut(command.initiatorTaskTag, {
    targetTransferTag: asked.targetTransferTag,
    data: Buffer.alloc(4096, 6),
  });
  const damaged = Buffer.concat(encodePdu(answer, digests));
  damaged.writeUInt8(7, 60);
  await peer.sendBytes(damaged);
  expect(peer.next("reject").reason).toBe(0x02);
  const again = peer.next("ready-to-transfer");
  expect([again.bufferOffset, again.desiredDataTransferLength]).toEqual([0, 4096]);
  await peer.send({ ...answer, targetTransferTag: again.targetTransferTag });
  expect(peer.next("scsi-response").status).toBe(0);
  const { data } = await peer.run(READ_8, 4096);
  expect(data.every((byte) => byte === 6)).toBe(true);
});

test("trap 42: TSIH of the session with a CID in use reinstates that connection alone", async () => {
  const world = new TargetWorld();
  const [first, second] = await pair({}, world);
  const again = await world.join(first);
  expect([first.stream.closed, second.stream.closed, again.stream.closed]).toEqual(["open", "destroyed", "open"]);
  expect(world.server.sessions()).toHaveLength(1);
});

test("trap 45: a login that joins a session of another portal group is refused with 0208", async () => {
  const portals = [
    { host: "192.0.2.1", port: 3260 },
    { host: "192.0.2.2", port: 3260, portalGroupTag: 2 },
  ];
  const world = new TargetWorld({ portals });
  const first = await ready({ MaxConnections: "2" }, world);
  const stranger = await world.connect(1);
  expect(await stranger.login({ tsih: first.tsih, cid: 2 })).toMatchObject({ statusClass: 2, statusDetail: 8 });
  expect(first.stream.closed).toBe("open");
});

test("trap 60: the target keeps the tasks of a broken connection for Time2Wait and Time2Retain, and no longer", async () => {
  const world = new TargetWorld();
  const keys = { ...level2, DefaultTime2Wait: "2", DefaultTime2Retain: "5", InitialR2T: "Yes", ImmediateData: "No" };
  const [first, second] = await pair(keys, world);
  const inTime = writeOf(second);
  const late = writeOf(second);
  await second.send(inTime, late);
  await second.break();
  first.received = [];
  await world.clock.advance(2_000);
  expect((await first.logout(2, 2)).response).toBe(0);
  await world.clock.advance(4_000);
  expect(await first.reassign(inTime.initiatorTaskTag)).toBe(0);
  await world.clock.advance(30_000);
  first.received = [];
  expect(await first.reassign(late.initiatorTaskTag)).toBe(1);
});

test("trap 61: the target lets a task go only after the recovery logout of its connection: else still allegiant", async () => {
  const [first, second] = await pair({ ...level2, InitialR2T: "Yes", ImmediateData: "No" });
  const command = writeOf(second);
  await second.send(command);
  second.next("ready-to-transfer");
  expect(await first.reassign(command.initiatorTaskTag)).toBe(3);
  await second.break();
  first.received = [];
  expect((await first.logout(2, 2)).response).toBe(0);
  expect(await first.reassign(command.initiatorTaskTag)).toBe(0);
  const { targetTransferTag } = first.next("ready-to-transfer");
  await first.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 8) }));
  expect(first.next("scsi-response").status).toBe(0);
});

test("trap 62: after TASK REASSIGN the target goes on behind ExpDataSN, and with SNACK tag 0", async () => {
  const [first, second] = await pair({ ...level2, ...small });
  const read = readOf(second);
  await second.send(read);
  expect(second.next("scsi-data-in").dataSn).toBe(0);
  await second.break();
  first.received = [];
  expect((await first.logout(2, 2)).response).toBe(0);
  expect(await first.reassign(read.initiatorTaskTag, 3)).toBe(0);
  const rest = first.received.filter((pdu) => pdu.type === "scsi-data-in");
  expect(rest.map((pdu) => pdu.dataSn)).toEqual([3, 4, 5, 6, 7]);
  const response = first.received.find((pdu) => pdu.type === "scsi-response");
  expect(response?.snackTag ?? 0).toBe(0);
});

test("trap 62: R-Data brings all data that was not acknowledged, and a response with its tag", async () => {
  const peer = await ready({ ...level1, ...small });
  const read = readOf(peer);
  await peer.send(read);
  peer.received = [];
  await peer.snack({ snackType: 3, initiatorTaskTag: read.initiatorTaskTag, targetTransferTag: 0x51 });
  const data = peer.received.filter((pdu) => pdu.type === "scsi-data-in");
  expect(data.map((pdu) => [pdu.dataSn, pdu.hasStatus])).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((sn) => [sn, false]));
  expect(peer.received.at(-1)).toMatchObject({ type: "scsi-response", snackTag: 0x51, status: 0 });
});

test("trap 64: RunLength 0 is all from BegRun on; a SNACK for what was acknowledged is a protocol error", async () => {
  const peer = await ready({ ...level1, ...small });
  const read = readOf(peer);
  await peer.send(read);
  const sent = peer.received.filter((pdu) => pdu.type === "scsi-data-in");
  expect(sent).toHaveLength(8);
  peer.received = [];
  await peer.snack({ initiatorTaskTag: read.initiatorTaskTag, begRun: 5, runLength: 0 });
  expect(peer.received).toEqual(sent.slice(5));
  peer.received = [];
  await peer.acknowledge();
  await peer.snack({ initiatorTaskTag: read.initiatorTaskTag, begRun: 5, runLength: 1 });
  expect(peer.next("reject").reason).toBe(0x04);
  await peer.snack({ snackType: 1, begRun: (peer.expStatSn - 2) >>> 0, runLength: 1 });
  expect(peer.next("reject").reason).toBe(0x04);
});

test.each([
  ["a NOP-Out", (peer: TargetPeer): InitiatorPdu => nopOut(peer)],
  ["a logout of the connection", (peer: TargetPeer): InitiatorPdu => logout(peer, 1)],
  ["a logout for recovery", (peer: TargetPeer): InitiatorPdu => logout(peer, 2)],
])("trap 70: the target rejects %s in a discovery session too", async (_name, pdu) => {
  const peer = await new TargetWorld().connect();
  await peer.send(peer.loginRequest({ InitiatorName: INITIATOR_NAME, SessionType: "Discovery" }));
  expect(peer.next("login-response").statusClass).toBe(0);
  await peer.send(pdu(peer));
  expect([0x04, 0x05]).toContain(peer.next("reject").reason);
  await peer.send(logout(peer, 0));
  expect(peer.next("logout-response").response).toBe(0);
});

function logout(peer: TargetPeer, reason: number): InitiatorPdu {
  const fields = { isImmediate: true, cid: 1, cmdSn: peer.cmdSn, expStatSn: 0, initiatorTaskTag: 6 };
  return { type: "logout-request", reason, ...fields };
}

test("trap 74: a task tag in use on one connection is refused on another of the session", async () => {
  const [first, second] = await pair({ InitialR2T: "Yes", ImmediateData: "No" });
  const command = writeOf(first);
  await first.send(command);
  first.next("ready-to-transfer");
  await second.send({ ...second.command("00"), initiatorTaskTag: command.initiatorTaskTag });
  expect(second.next("reject").reason).toBe(0x07);
});
