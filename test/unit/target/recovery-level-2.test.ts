import type { BlockDevice } from "../../../src/block/device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import type { ScsiCommandPdu } from "../../../src/wire/pdu.js";
import {
  dataOut,
  INITIATOR_NAME,
  management,
  nopOut,
  outcomeOf,
  READ_8,
  ready,
  TARGET_NAME,
  TargetWorld,
  WRITE_8,
  type TargetPeer,
} from "./target-peer.js";

const level2 = { ErrorRecoveryLevel: "2", MaxConnections: "4", DefaultTime2Wait: "2", DefaultTime2Retain: "20" };
const solicited = { InitialR2T: "Yes", ImmediateData: "No" };
const small = { MaxRecvDataSegmentLength: "512", MaxBurstLength: "1024", FirstBurstLength: "512" };

async function pair(more: Record<string, string> = {}, world = new TargetWorld()): Promise<[TargetPeer, TargetPeer]> {
  const first = await ready({ ...level2, ...more }, world);
  return [first, await world.join(first, { keys: more })];
}

function readOf(peer: TargetPeer): ScsiCommandPdu {
  return peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 });
}

function writeOf(peer: TargetPeer): ScsiCommandPdu {
  return peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
}

/** The second connection breaks and is logged out for recovery from the first. */
async function recover(first: TargetPeer, second: TargetPeer): Promise<void> {
  await second.break();
  expect(first.next("async-message")).toMatchObject({ asyncEvent: 2, parameter1: 2, parameter2: 2, parameter3: 20 });
  expect(await first.logout(2, 2)).toMatchObject({ response: 0, time2Wait: 2, time2Retain: 20 });
}

/** A device whose writes wait until the test lets them go. */
function slowDevice(): { readonly device: BlockDevice; release(): void } {
  const memory = new MemoryDevice({ sizeBytes: 1_048_576 });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const write = memory.write.bind(memory);
  memory.write = async (offset: number, source: Buffer) => {
    await gate;
    await write(offset, source);
  };
  return { device: memory, release: () => release() };
}

describe("TASK REASSIGN (RFC 7143 §7.2.2, §11.5.6)", () => {
  test("a task is allegiant to its connection until that is logged out for recovery", async () => {
    const [first, second] = await pair(solicited);
    const command = writeOf(second);
    await second.send(command);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(3);
    await second.break();
    first.next("async-message");
    expect(await first.reassign(command.initiatorTaskTag)).toBe(3);
    expect((await first.logout(2, 2)).response).toBe(0);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(0);
    first.next("ready-to-transfer");
    expect(await first.reassign(command.initiatorTaskTag)).toBe(3);
    expect(await first.reassign(0x7777)).toBe(1);
  });

  test("is not supported below level 2, nor is a logout for recovery", async () => {
    const peer = await ready({ ErrorRecoveryLevel: "1" });
    expect(await peer.reassign(0x7777)).toBe(4);
    expect((await peer.logout(2)).response).toBe(2);
  });

  test("a write is asked for what has not come, under the number of the lost R2T", async () => {
    const [first, second] = await pair(solicited);
    const command = writeOf(second);
    await second.send(command);
    const { targetTransferTag } = second.next("ready-to-transfer");
    const begin = { targetTransferTag, isFinal: false, data: Buffer.alloc(1024, 1) };
    await second.send(dataOut(command.initiatorTaskTag, begin));
    await recover(first, second);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(0);
    const r2t = first.next("ready-to-transfer");
    expect(r2t).toMatchObject({ r2tSn: 0, bufferOffset: 1024, desiredDataTransferLength: 3072 });
    const rest = { targetTransferTag: r2t.targetTransferTag, bufferOffset: 1024, data: Buffer.alloc(3072, 2) };
    await first.send(dataOut(command.initiatorTaskTag, rest));
    expect(first.next("scsi-response").status).toBe(0);
    const { data } = await first.run(READ_8, 4096);
    expect([data[1023], data[1024]]).toEqual([1, 2]);
  });

  test("a write whose R2T had come goes on with the next number", async () => {
    const [first, second] = await pair(solicited);
    const command = writeOf(second);
    await second.send(command);
    second.next("ready-to-transfer");
    await recover(first, second);
    expect(await first.reassign(command.initiatorTaskTag, 1)).toBe(0);
    expect(first.next("ready-to-transfer")).toMatchObject({ r2tSn: 1, bufferOffset: 0 });
  });

  test("a task that ended sends its status again, with the StatSN of its new connection", async () => {
    const [first, second] = await pair();
    const command = { ...writeOf(second), data: Buffer.alloc(4096, 8) };
    await second.send(command);
    second.next("scsi-response");
    await recover(first, second);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(0);
    const response = first.next("scsi-response");
    expect(response).toMatchObject({ initiatorTaskTag: command.initiatorTaskTag, status: 0 });
    expect(first.expStatSn).toBe((response.statSn + 1) >>> 0);
  });

  test("a status that the logout acknowledged is not kept (§11.14.4)", async () => {
    const [first, second] = await pair();
    const command = second.command("00");
    await second.runPdu(command);
    await second.break();
    first.next("async-message");
    const logout = { isImmediate: true, cmdSn: first.cmdSn, expStatSn: second.expStatSn, initiatorTaskTag: 0x6000 };
    await first.send({ type: "logout-request", reason: 2, cid: 2, ...logout });
    expect(first.next("logout-response").response).toBe(0);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(1);
  });

  test("a read goes on from ExpDataSN, cut as its new connection takes it", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(small, world);
    const read = readOf(second);
    await second.send(read);
    expect(second.received).toHaveLength(8);
    await recover(first, second);
    const third = await world.join(first, { cid: 3, keys: { MaxRecvDataSegmentLength: "1024" } });
    expect(await third.reassign(read.initiatorTaskTag, 3)).toBe(0);
    const pieces = third.received.filter((pdu) => pdu.type === "scsi-data-in");
    expect(pieces.map((pdu) => [pdu.dataSn, pdu.bufferOffset, pdu.data.length, pdu.hasStatus])).toEqual([
      [3, 1536, 1024, false],
      [4, 2560, 1024, false],
      [5, 3584, 512, true],
    ]);
  });

  test("ExpDataSN 0 leaves the reference number where DataACK put it", async () => {
    const [first, second] = await pair(small);
    const read = readOf(second);
    await second.send(read);
    const asking = second.received.find((pdu) => pdu.type === "scsi-data-in" && pdu.isAcknowledgeRequested);
    if (asking?.type !== "scsi-data-in") throw new Error("no A bit");
    await second.snack({ snackType: 2, targetTransferTag: asking.targetTransferTag, lun: asking.lun, begRun: 6 });
    await recover(first, second);
    expect(await first.reassign(read.initiatorTaskTag, 0)).toBe(0);
    expect([first.next("scsi-data-in").dataSn, first.next("scsi-data-in").dataSn]).toEqual([6, 7]);
  });

  test("a read whose data has all come sends its status alone", async () => {
    const [first, second] = await pair(small);
    const read = readOf(second);
    await second.send(read);
    await recover(first, second);
    expect(await first.reassign(read.initiatorTaskTag, 8)).toBe(0);
    expect(first.next("scsi-response")).toMatchObject({ status: 0, expDataSn: 8, snackTag: 0 });
  });

  test("a task runs on while its connection is gone, and answers on the new one", async () => {
    const { device, release } = slowDevice();
    const world = new TargetWorld({ devices: [device] });
    const [first, second] = await pair({}, world);
    const command = { ...writeOf(second), data: Buffer.alloc(4096, 8) };
    await second.send(command);
    await recover(first, second);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(0);
    expect(first.received).toEqual([]);
    release();
    await world.clock.advance(0);
    expect(first.next("scsi-response").status).toBe(0);
  });

  test("ABORT TASK of a task that ended on a lost connection sends its status first (§11.5.1)", async () => {
    const [first, second] = await pair();
    const command = second.command("00");
    await second.send(command);
    await recover(first, second);
    const abort = { referencedTaskTag: command.initiatorTaskTag, refCmdSn: command.cmdSn };
    await first.send(management(first, abort));
    expect(first.received.map((pdu) => pdu.type)).toEqual(["scsi-response", "task-management-response"]);
  });
});

describe("connections that are recovered (RFC 7143 §6.3.4, §7.5)", () => {
  test("commands that were held early are forgotten, and may come again with their CmdSN (§11.14)", async () => {
    const [first, second] = await pair();
    const gap = first.command("00");
    const held = second.command("00");
    await second.send(held);
    await recover(first, second);
    await first.send(gap, held);
    expect(first.received.map((pdu) => "initiatorTaskTag" in pdu && pdu.initiatorTaskTag)).toEqual([
      gap.initiatorTaskTag,
      held.initiatorTaskTag,
    ]);
  });

  test("the only connection is replaced by one with its CID, and its tasks are reassigned", async () => {
    const world = new TargetWorld();
    const first = await ready({ ...level2, ...solicited }, world);
    const command = writeOf(first);
    await first.send(command);
    await first.break();
    expect(world.server.sessions()).toMatchObject([{ connections: [{ cid: 1, state: "lost" }] }]);
    const again = await world.join(first, { cid: 1 });
    expect(again.tsih).toBe(first.tsih);
    expect(await again.reassign(command.initiatorTaskTag)).toBe(0);
    const { targetTransferTag } = again.next("ready-to-transfer");
    await again.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 1) }));
    expect(again.next("scsi-response").status).toBe(0);
  });

  test("the login that replaces a connection says which of its statuses came (§11.12.9)", async () => {
    const world = new TargetWorld();
    const first = await ready(level2, world);
    const read = readOf(first);
    await first.runPdu(read);
    const again = await world.connect();
    const names = { InitiatorName: INITIATOR_NAME, TargetName: TARGET_NAME };
    await again.send(again.loginRequest(names, { tsih: first.tsih, cmdSn: first.cmdSn, expStatSn: first.expStatSn }));
    expect(again.next("login-response").statusClass).toBe(0);
    again.counters = first.counters;
    expect(await again.reassign(read.initiatorTaskTag)).toBe(1);
  });

  test("a connection that seems alive is replaced as well", async () => {
    const world = new TargetWorld();
    const first = await ready({ ...level2, ...solicited }, world);
    const command = writeOf(first);
    await first.send(command);
    const again = await world.join(first, { cid: 1 });
    expect(first.stream.closed).toBe("destroyed");
    expect(await again.reassign(command.initiatorTaskTag)).toBe(0);
  });

  test("a connection may log itself out for recovery; the session waits without one", async () => {
    const world = new TargetWorld();
    const first = await ready({ ...level2, ...solicited }, world);
    const command = writeOf(first);
    await first.send(command);
    first.next("ready-to-transfer");
    expect(await first.logout(2)).toMatchObject({ response: 0, time2Wait: 2, time2Retain: 20 });
    expect(first.stream.closed).toBe("ended");
    const again = await world.join(first, { cid: 5 });
    expect(await again.reassign(command.initiatorTaskTag)).toBe(0);
  });

  test("tasks that nobody reassigns end after Time2Wait and Time2Retain; the initiator is told (§7.6, §11.14.5)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(solicited, world);
    const command = writeOf(second);
    await second.send(command);
    await recover(first, second);
    await world.clock.advance(21_999);
    expect(world.server.sessions()[0]?.connections).toMatchObject([{ cid: 1 }, { cid: 2, state: "recovering" }]);
    await world.clock.advance(1);
    expect(world.server.sessions()[0]?.connections).toMatchObject([{ cid: 1 }]);
    expect(await first.reassign(command.initiatorTaskTag)).toBe(1);
    expect(outcomeOf(await first.run("00"))).toBe("6/47/7f");
  });

  test("a session whose last connection is not recovered in time is over", async () => {
    const world = new TargetWorld();
    const first = await ready(level2, world);
    await first.break();
    await world.clock.advance(21_999);
    expect(world.server.sessions()).toHaveLength(1);
    await world.clock.advance(1);
    expect(world.server.sessions()).toEqual([]);
    await world.server.stop();
    expect(world.clock.pendingTimers).toBe(0);
  });

  test("with Time2Retain 0 nothing is kept", async () => {
    const world = new TargetWorld();
    const first = await ready({ ...level2, DefaultTime2Retain: "0" }, world);
    await first.break();
    expect(world.server.sessions()).toEqual([]);
  });

  test("session reinstatement ends what waits for recovery (§6.3.5)", async () => {
    const { device, release } = slowDevice();
    const world = new TargetWorld({ devices: [device] });
    const first = await ready(level2, world);
    await first.send({ ...writeOf(first), data: Buffer.alloc(4096, 8) });
    await first.break();
    const again = await world.connect();
    await again.send(
      again.loginRequest({ InitiatorName: "iqn.2026-11.dev.hawser:peer", TargetName: "iqn.2026-11.dev.hawser:unit" }),
    );
    // The write still runs: the new session must wait for it.
    expect(again.received).toEqual([]);
    release();
    await world.clock.advance(0);
    expect(again.next("login-response").statusClass).toBe(0);
    expect(world.server.sessions()).toHaveLength(1);
  });

  test("a connection that breaks while its login waits for an old session leaves no session", async () => {
    const { device, release } = slowDevice();
    const world = new TargetWorld({ devices: [device] });
    const first = await ready({}, world);
    await first.send({ ...writeOf(first), data: Buffer.alloc(4096, 8) });
    const again = await world.connect();
    const names = { InitiatorName: INITIATOR_NAME, TargetName: TARGET_NAME };
    await again.send(again.loginRequest(names));
    await again.break();
    release();
    await world.clock.advance(0);
    expect(world.server.sessions()).toEqual([]);
  });

  test("withdrawn access ends a session that has no connection", async () => {
    const world = new TargetWorld();
    const first = await ready(level2, world);
    await first.break();
    await world.server.setAccess(TARGET_NAME, { kind: "list", rules: [] });
    expect([world.server.sessions().length, world.clock.pendingTimers]).toEqual([0, 1]);
  });

  test("counts what it repaired", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    const command = second.command("00");
    await second.send(command, nopOut(second));
    await recover(first, second);
    await first.reassign(command.initiatorTaskTag);
    expect(world.server.recoveryTally()).toMatchObject({ connectionRecoveries: 1, taskReassigns: 1 });
  });
});
