import { decodePdu } from "../../../src/wire/decode.js";
import { openSession, read, sense, settle, write } from "../../support/session-fixture.js";
import { begin, beginRead, codeOf, lostBecause, NO_DATA, RESERVED } from "../../support/trap-helpers.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { ready, READ_8 } from "../target/target-peer.js";

/** Traps 11 to 16: what ends a command, and what it says (RFC 7143 §11.4, §11.7.3). */

/** A Data-In header as bytes; `flags` is byte 1. */
function dataInHeader(flags: number): Buffer {
  const header = Buffer.alloc(48);
  header.writeUInt8(0x25, 0);
  header.writeUInt8(flags, 1);
  header.writeUInt8(0x08, 3);
  header.writeUInt32BE(5, 16);
  header.writeUInt32BE(RESERVED, 20);
  header.writeUInt32BE(0x1234, 24);
  header.writeUInt32BE(77, 44);
  return header;
}

test("trap 11: status, StatSN and residual of a Data-In without S mean nothing", async () => {
  const decoded = decodePdu(dataInHeader(0x84), undefined, NO_DATA);
  expect(decoded).toMatchObject({ hasStatus: false, status: 0, residualCount: 0, statSn: 0 });

  const fixture = await openSession();
  const { command, execution } = await beginRead(fixture);
  const { connection } = fixture.target;
  // BUSY, an underflow and a StatSN far away, all without S: the response alone decides.
  connection.send({
    ...{ type: "scsi-data-in", isFinal: true, isAcknowledgeRequested: false, hasStatus: false, isOverflow: false },
    ...{ isUnderflow: true, status: 8, lun: LUN_ZERO, initiatorTaskTag: command.initiatorTaskTag },
    ...{ targetTransferTag: RESERVED, dataSn: 0, bufferOffset: 0, residualCount: 512, data: Buffer.alloc(512, 6) },
    ...{ statSn: 0x7777 },
  });
  connection.respond(command);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0, transferredBytes: 512 });
});

test("trap 11: S without F is a format error", () => {
  expect(codeOf(() => decodePdu(dataInHeader(0x01), undefined, NO_DATA))).toBe("PDU_FIELD_INVALID");
});

test("trap 12: a Data-In with S ends the command: a SCSI Response after it is for a task that is not there", async () => {
  const fixture = await openSession();
  const { command, execution } = await beginRead(fixture);
  fixture.target.connection.dataIn(command, { data: Buffer.alloc(512), status: 0 });
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  fixture.target.connection.respond(command);
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBe("SESSION_PROTOCOL");
  expect(execution.results).toHaveLength(1);
});

test("trap 12: the target sends status with data only for GOOD, never with sense, and no response after it", async () => {
  const peer = await ready({ MaxRecvDataSegmentLength: "1024" });
  const good = peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 });
  await peer.send(good);
  const parts = [0, 1, 2, 3].map(() => peer.next("scsi-data-in"));
  expect(parts.map((pdu) => [pdu.hasStatus, pdu.status])).toEqual([
    [false, 0],
    [false, 0],
    [false, 0],
    [true, 0],
  ]);
  expect(peer.received).toEqual([]);
  const beyond = peer.command("28 00 00 ff ff ff 00 00 08 00", { isRead: true, expectedDataTransferLength: 4096 });
  await peer.send(beyond);
  expect(peer.next("scsi-response")).toMatchObject({ status: 2 });
  expect(peer.received).toEqual([]);
});

test("trap 13: overflow and underflow at once are a format error", () => {
  const header = dataInHeader(0x87);
  expect(codeOf(() => decodePdu(header, undefined, NO_DATA))).toBe("PDU_FIELD_INVALID");
  const response = Buffer.alloc(48);
  response.writeUInt8(0x21, 0);
  response.writeUInt8(0x86, 1);
  response.writeUInt32BE(5, 16);
  expect(codeOf(() => decodePdu(response, undefined, NO_DATA))).toBe("PDU_FIELD_INVALID");
});

test("trap 13: an underflow is subtracted from what was expected, and never passes for success unasked", async () => {
  const fixture = await openSession();
  const asked = await begin(fixture, { dataIn: Buffer.alloc(96), allowUnderflow: true });
  fixture.target.connection.dataIn(asked.command, { data: Buffer.alloc(36), status: 0, underflow: 60 });
  expect(await settle(fixture.clock, asked.execution.done)).toMatchObject({ kind: "status", transferredBytes: 36 });
  const unasked = await begin(fixture, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
  fixture.target.connection.dataIn(unasked.command, { data: Buffer.alloc(512), status: 0, underflow: 60 });
  expect(await settle(fixture.clock, unasked.execution.done)).toMatchObject({
    error: { code: "SESSION_SHORT_TRANSFER" },
  });
});

test("trap 13: REPORT LUNS counts its residual by the whole list, however little of it was asked for", async () => {
  const peer = await ready();
  // One LUN: 16 bytes of list, of which 8 fit. What the allocation length cut off is no residual (SPC-4 §4.2.5.6).
  const cut = await peer.run("a0 00 00 00 00 00 00 00 00 08 00 00", 8);
  expect([cut.data.length, cut.data.readUInt32BE(0), cut.residual]).toEqual([8, 8, 0]);
  const roomy = await peer.run("a0 00 00 00 00 00 00 00 10 00 00 00", 4096);
  expect([roomy.data.length, roomy.residual]).toEqual([16, 16 - 4096]);
});

test.each([1, 0x80, 0xff])(
  "trap 14: with iSCSI response %i the status is ignored: a target failure",
  async (response) => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { cdb: write(0, 1), dataOut: Buffer.alloc(512) });
    fixture.target.connection.respond(command, { response, status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({
      kind: "failed",
      error: { code: "SESSION_TARGET_FAILURE" },
    });
  },
);

test("trap 15: sense is as long as SenseLength says; what follows is response data", async () => {
  const fixture = await openSession();
  const { command, execution } = await begin(fixture);
  const own = sense(5, 0x24, 0);
  const data = Buffer.concat([Buffer.from([0, own.length]), own, Buffer.alloc(40, 0xee)]);
  fixture.target.connection.respond(command, { status: 2, data });
  const result = await settle(fixture.clock, execution.done);
  expect(result.kind === "status" ? result.sense : undefined).toEqual(own);
});

test.each([
  ["SenseLength beyond the segment", Buffer.from([0, 40, 0x70, 0])],
  ["a segment of one byte", Buffer.from([0])],
])("trap 15: %s is a format error", async (_name, data) => {
  const fixture = await openSession();
  const { command, execution } = await begin(fixture);
  fixture.target.connection.respond(command, { status: 2, data });
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBe("SESSION_PROTOCOL");
  expect(execution.results).toEqual([]);
});

test("trap 15: the target frames its sense with SenseLength", async () => {
  const peer = await ready();
  await peer.send(peer.command("28 00 00 ff ff ff 00 00 08 00", { isRead: true, expectedDataTransferLength: 4096 }));
  const { data } = peer.next("scsi-response");
  expect(data.readUInt16BE(0)).toBe(data.length - 2);
  expect([(data[2] ?? 0) & 0x7f, data[14]]).toEqual([0x70, 0x21]);
});

test("trap 16: CHECK CONDITION without a data segment is a format error: the session recovers", async () => {
  const fixture = await openSession();
  const { execution } = await begin(fixture);
  const { connection } = fixture.target;
  connection.respond(connection.ofType("scsi-command")[0]!, { status: 2 });
  await fixture.clock.advance(2_000);
  expect(lostBecause(fixture)).toBe("SESSION_PROTOCOL");
  expect(fixture.target.connections).toHaveLength(2);
  const [again] = fixture.target.connection.ofType("scsi-command");
  fixture.target.connection.respond(again!);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
});
