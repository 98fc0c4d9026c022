import { lunEquals } from "../../../src/base/lun.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { ScsiCommandPdu } from "../../../src/wire/pdu.js";
import { ScriptedLogin } from "../../support/scripted-login.js";
import { LUN_ONE, openSession, settle, write } from "../../support/session-fixture.js";
import type { OpenedSession } from "../../support/session-fixture.js";
import { begin, type Begun, codeOf, lostBecause, NO_DATA, RESERVED } from "../../support/trap-helpers.js";
import { dataOut, outcomeOf, READ_8, ready, TARGET_NAME, TargetWorld, textOf, WRITE_8 } from "../target/target-peer.js";

/** Traps 23 to 28: what a write sends, when, and how much at a time (RFC 7143 §11.3.4, §11.7, §11.8, §13.12). */

const source = Buffer.from(Array.from({ length: 8192 }, (_, index) => (index * 7) & 0xff));

async function beginWrite(keys: Readonly<Record<string, string>>): Promise<OpenedSession & Begun> {
  const fixture = await openSession({ target: { keys } });
  return { ...fixture, ...(await begin(fixture, { cdb: write(0, 16), dataOut: source })) };
}

test("trap 23: a command that writes nothing has F set, and one without F is a format error", async () => {
  const fixture = await openSession();
  const { command } = await begin(fixture, { cdb: Buffer.from([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), dataIn: source });
  expect(command).toMatchObject({ isWrite: false, isFinal: true });
  const bytes = Buffer.concat(encodePdu({ ...command, isFinal: false }, { header: false, data: false }));
  expect(codeOf(() => decodePdu(bytes, undefined, NO_DATA))).toBe("PDU_FIELD_INVALID");
});

test.each([
  ["smaller than a segment", "512", "1024", 512],
  ["of several segments", "4096", "1024", 4096],
  ["longer than the write", "65536", "65536", 8192],
])("trap 23: FirstBurstLength %s counts immediate and unsolicited data together", async (_, burst, mrdsl, total) => {
  const { command, target } = await beginWrite({
    ...{ InitialR2T: "No", ImmediateData: "Yes", FirstBurstLength: burst, MaxRecvDataSegmentLength: mrdsl },
  });
  const unsolicited = target.connection.ofType("scsi-data-out");
  expect(Buffer.concat([command.data, ...unsolicited.map((pdu) => pdu.data)])).toEqual(source.subarray(0, total));
  expect(command.data.length).toBe(Math.min(Number(mrdsl), total));
});

test("trap 23: the target takes no unsolicited byte beyond FirstBurstLength, immediate data counted", async () => {
  const peer = await ready({ FirstBurstLength: "1024", MaxBurstLength: "4096" });
  const command = peer.command(WRITE_8, {
    ...{ isWrite: true, isFinal: false, expectedDataTransferLength: 4096, data: Buffer.alloc(512, 1) },
  });
  await peer.send(command, dataOut(command.initiatorTaskTag, { bufferOffset: 512, data: Buffer.alloc(1024, 2) }));
  expect(outcomeOf(peer.result(command.initiatorTaskTag))).not.toBe("good");
  const { data } = await peer.run(READ_8, 4096);
  expect(data.every((byte) => byte === 0)).toBe(true);
});

test("trap 24: of unsolicited data all goes or only the immediate part; F tells, the tag is ffffffff, DataSN starts at 0", async () => {
  const keys = { ImmediateData: "Yes", FirstBurstLength: "4096", MaxRecvDataSegmentLength: "1024" };
  const all = await beginWrite({ ...keys, InitialR2T: "No" });
  const sent = all.target.connection.ofType("scsi-data-out");
  expect(all.command.isFinal).toBe(false);
  expect(sent.map((pdu) => [pdu.targetTransferTag, pdu.dataSn, pdu.bufferOffset, pdu.isFinal])).toEqual([
    [RESERVED, 0, 1024, false],
    [RESERVED, 1, 2048, false],
    [RESERVED, 2, 3072, true],
  ]);
  const immediate = await beginWrite({ ...keys, InitialR2T: "Yes" });
  expect(immediate.command.isFinal).toBe(true);
  expect(immediate.target.connection.ofType("scsi-data-out")).toEqual([]);
  const nothing = await beginWrite({ ...keys, InitialR2T: "Yes", ImmediateData: "No" });
  expect([nothing.command.data.length, nothing.command.isFinal]).toEqual([0, true]);
});

test("trap 24: the target waits for all of an unsolicited burst that F announced, then asks for the rest", async () => {
  const peer = await ready({ FirstBurstLength: "1024", MaxBurstLength: "4096" });
  const command = peer.command(WRITE_8, {
    ...{ isWrite: true, isFinal: false, expectedDataTransferLength: 4096, data: Buffer.alloc(512, 1) },
  });
  await peer.send(command);
  expect(peer.received).toEqual([]);
  await peer.send(dataOut(command.initiatorTaskTag, { bufferOffset: 512, data: Buffer.alloc(512, 2) }));
  expect(peer.next("ready-to-transfer")).toMatchObject({ bufferOffset: 1024, desiredDataTransferLength: 3072 });
});

test("trap 25: DataSN starts anew with each R2T, and LUN and tag are those of the R2T", async () => {
  const { command, target, clock, execution } = await beginWrite({
    ...{ InitialR2T: "Yes", ImmediateData: "No", MaxBurstLength: "4096", MaxRecvDataSegmentLength: "2048" },
  });
  const { connection } = target;
  connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 4096, tag: 0x1111 });
  await clock.advance(1);
  connection.readyToTransfer(command, { r2tSn: 1, offset: 4096, length: 4096, tag: 0x2222 });
  await clock.advance(1);
  const sent = connection.ofType("scsi-data-out");
  expect(sent.map((pdu) => [pdu.targetTransferTag, pdu.dataSn, pdu.isFinal])).toEqual([
    [0x1111, 0, false],
    [0x1111, 1, true],
    [0x2222, 0, false],
    [0x2222, 1, true],
  ]);
  expect(sent.every((pdu) => lunEquals(pdu.lun, LUN_ONE))).toBe(true);
  expect(Buffer.concat(sent.map((pdu) => pdu.data))).toEqual(source);
  connection.respond(command);
  expect(await settle(clock, execution.done)).toMatchObject({ status: 0 });
});

test.each([
  ["for no bytes", { r2tSn: 0, offset: 0, length: 0, tag: 1 }],
  ["with the reserved tag", { r2tSn: 0, offset: 0, length: 512, tag: RESERVED }],
  ["longer than MaxBurstLength", { r2tSn: 0, offset: 0, length: 4097, tag: 1 }],
  ["beyond the end of the write", { r2tSn: 0, offset: 0, length: 8193, tag: 1 }],
  ["whose end wraps round 2^32", { r2tSn: 0, offset: 0xffff_ff00, length: 4096, tag: 1 }],
])("trap 26: an R2T %s gets no data, and the session recovers", async (_name, part) => {
  const fixture = await beginWrite({ InitialR2T: "Yes", ImmediateData: "No", MaxBurstLength: "4096" });
  const [first] = fixture.target.connections;
  first?.readyToTransfer(fixture.command, part);
  await fixture.clock.advance(1);
  expect(first?.ofType("scsi-data-out")).toEqual([]);
  expect(lostBecause(fixture)).toBeDefined();
});

test("trap 26: the target's R2Ts are never empty, never longer than MaxBurstLength, and have a tag", async () => {
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No", MaxBurstLength: "1536", MaxOutstandingR2T: "1" });
  const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
  await peer.send(command);
  const lengths: number[] = [];
  for (let at = 0; at < 4096;) {
    const { targetTransferTag, bufferOffset, desiredDataTransferLength } = peer.next("ready-to-transfer");
    expect([bufferOffset, targetTransferTag === RESERVED]).toEqual([at, false]);
    lengths.push(desiredDataTransferLength);
    const data = Buffer.alloc(desiredDataTransferLength, 3);
    await peer.send(dataOut(command.initiatorTaskTag, { targetTransferTag, bufferOffset, data }));
    at += desiredDataTransferLength;
  }
  expect(lengths).toEqual([1536, 1536, 1024]);
  expect(peer.next("scsi-response").status).toBe(0);
});

test("trap 27: our data segments are as long as the target's MaxRecvDataSegmentLength, not ours", async () => {
  const { command, target, clock } = await beginWrite({
    ...{ InitialR2T: "Yes", ImmediateData: "Yes", MaxBurstLength: "8192", MaxRecvDataSegmentLength: "512" },
  });
  expect(target.connection.logins.some(({ data }) => data.includes("MaxRecvDataSegmentLength=262144"))).toBe(true);
  target.connection.readyToTransfer(command, { r2tSn: 0, offset: 512, length: 7680, tag: 1 });
  await clock.advance(1);
  const lengths = [command, ...target.connection.ofType("scsi-data-out")].map((pdu) => pdu.data.length);
  expect(lengths).toEqual(Array.from({ length: 16 }, () => 512));
});

test("trap 27: the target's Data-In is as long as the initiator's MaxRecvDataSegmentLength, not its own", async () => {
  const peer = await ready({ MaxRecvDataSegmentLength: "512" });
  await peer.send(peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 }));
  expect(peer.received.map((pdu) => ("data" in pdu ? pdu.data.length : -1))).toEqual(
    Array.from({ length: 8 }, () => 512),
  );
});

test("trap 28: a target that declares no MaxRecvDataSegmentLength gets 8192 bytes at most", async () => {
  const big = Buffer.alloc(65_536, 4);
  const fixture = await openSession({ target: { keys: { InitialR2T: "No", ImmediateData: "Yes" } } });
  const { command }: { command: ScsiCommandPdu } = await begin(fixture, { cdb: write(0, 128), dataOut: big });
  const sent = [command, ...fixture.target.connection.ofType("scsi-data-out")];
  expect(new Set(sent.map((pdu) => pdu.data.length))).toEqual(new Set([8192]));
});

test("trap 28: login text is cut at 8192 bytes, whatever is being declared in it", () => {
  const script = new ScriptedLogin();
  script.answer({});
  const proposals = Array.from({ length: 400 }, (_, at) => [`X-com.example.${at}.${"k".repeat(30)}`, "1"] as const);
  const answers = [...Object.entries(script.agree()), ["MaxRecvDataSegmentLength", "262144"] as const, ...proposals];
  script.answer(answers, { isTransit: false });
  const lengths = [script.request.data.length];
  while (script.request.isContinued) {
    script.answer({});
    lengths.push(script.request.data.length);
  }
  expect(Math.max(...lengths)).toBe(8192);
  expect(lengths.length).toBeGreaterThan(2);
});

test("trap 28: the target sends 8192 bytes at most to an initiator that declared nothing", async () => {
  const world = new TargetWorld();
  for (let index = 0; index < 300; index += 1) {
    world.server.addTarget({ name: `${TARGET_NAME}-${index}`, luns: new Map(), access: { kind: "any" } });
  }
  const peer = await world.connect();
  await peer.send(peer.loginRequest({ InitiatorName: "iqn.2026-11.a:b", SessionType: "Discovery" }));
  expect(textOf(peer.next("login-response"))["MaxRecvDataSegmentLength"]).toBeDefined();
  await peer.send({
    ...{ type: "text-request", isImmediate: true, isFinal: true, isContinued: false, lun: { high: 0, low: 0 } },
    ...{ initiatorTaskTag: 5, targetTransferTag: RESERVED, cmdSn: 100, expStatSn: 0 },
    data: Buffer.from("SendTargets=All\0"),
  });
  const response = peer.next("text-response");
  expect(response).toMatchObject({ isContinued: true, isFinal: false });
  expect(response.data.length).toBeLessThanOrEqual(8192);
});
