import type { SessionOptions } from "../../../src/session/session-options.js";
import type { Pdu, ScsiCommandPdu, SnackRequestPdu } from "../../../src/wire/pdu.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";
import { LUN_ONE, openSession, type OpenedSession, read, settle, write } from "../../support/session-fixture.js";
import { answerPing, begin, beginRead, lostBecause, RESERVED } from "../../support/trap-helpers.js";

/** Traps 6, 7, 9, 19, 20, 63 and 64: recovery within a connection (RFC 7143 §7.1.4, §7.2.1, §7.8, §7.9, §11.16). */

type Target = NonNullable<Parameters<typeof openSession>[0]>["target"];

function openAt(level: 1 | 2, target: Target = {}, session: Partial<SessionOptions> = {}): Promise<OpenedSession> {
  return openSession({ target, session: { errorRecoveryLevel: level, ...session } });
}

/** What a connection would send, as bytes, instead of sending it. */
function capture(connection: ScriptedConnection, act: () => void): Buffer {
  const chunks: Buffer[] = [];
  const { sendBytes } = connection;
  connection.sendBytes = (parts) => chunks.push(...parts);
  act();
  connection.sendBytes = sendBytes;
  return Buffer.concat(chunks);
}

function snacks(connection: ScriptedConnection): [type: number, begRun: number, runLength: number][] {
  return connection.ofType("snack-request").map((pdu) => [pdu.snackType, pdu.begRun, pdu.runLength]);
}

test("trap 06: a retry keeps task tag, CmdSN, LUN, CDB and data, on the same connection", async () => {
  const fixture = await openAt(1, { onPdu: answerPing });
  let lost = 0;
  fixture.target.ignores = (pdu) => pdu.type === "scsi-command" && (lost += 1) === 1;
  const { command, execution } = await begin(fixture, { cdb: write(0, 1), dataOut: Buffer.alloc(512, 7) });
  await fixture.clock.advance(6_000);
  const { connection } = fixture.target;
  const [first, second, ...more] = connection.ofType("scsi-command");
  expect(more).toEqual([]);
  expect({ ...second, expStatSn: 0 }).toEqual({ ...first, expStatSn: 0 });
  expect(first).toEqual(command);
  expect(fixture.session.status().recovery.commandRetries).toBe(1);
  connection.respond(command);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0, transferredBytes: 512 });
});

test("trap 06: what follows a lost command is not sent again: only the one that is due is", async () => {
  const fixture = await openAt(1, { onPdu: answerPing });
  let lost = 0;
  fixture.target.ignores = (pdu) => pdu.type === "scsi-command" && (lost += 1) === 1;
  const first = await begin(fixture);
  const second = await begin(fixture);
  await fixture.clock.advance(6_000);
  const sent = fixture.target.connection.ofType("scsi-command").map(({ cmdSn }) => cmdSn);
  expect(sent).toEqual([first.command.cmdSn, second.command.cmdSn, first.command.cmdSn]);
});

test.each([0, 1] as const)(
  "trap 07: the CmdSN of a rejected command, not counted by the target, is filled at level %i",
  async (level) => {
    const fixture = level === 0 ? await openSession() : await openAt(level);
    fixture.target.ignores = (pdu) => pdu.type === "scsi-command";
    const { command, execution } = await begin(fixture);
    const { connection } = fixture.target;
    connection.send({
      ...{ type: "reject", reason: 0x09, dataSnOrR2tSn: 0 },
      data: Buffer.concat(encodePdu(command, { header: false, data: false })).subarray(0, 48),
    });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_TASK_REJECTED" } });
    await fixture.clock.advance(1);
    expect(connection.ofType("nop-out")).toMatchObject([{ isImmediate: false, cmdSn: command.cmdSn }]);
    fixture.target.ignores = () => false;
    const next = await begin(fixture);
    expect(next.command.cmdSn).toBe(command.cmdSn + 1);
    expect(lostBecause(fixture)).toBeUndefined();
  },
);

test("trap 09: at level 1 a gap in StatSN is asked for by a Status SNACK, and ExpStatSN waits before it", async () => {
  const fixture = await openAt(1, { onPdu: answerPing });
  const first = await begin(fixture);
  const second = await begin(fixture);
  const { connection } = fixture.target;
  const due = first.command.expStatSn;
  const lost = capture(connection, () => connection.respond(first.command));
  connection.respond(second.command);
  await fixture.clock.advance(1);
  expect(snacks(connection)).toEqual([[1, due, 1]]);
  const third = await begin(fixture);
  expect(third.command.expStatSn).toBe(due);
  connection.sendBytes([lost]);
  expect(await settle(fixture.clock, first.execution.done)).toMatchObject({ status: 0 });
  expect(await settle(fixture.clock, second.execution.done)).toMatchObject({ status: 0 });
  const fourth = await begin(fixture);
  expect(fourth.command.expStatSn).toBe(due + 2);
  expect(lostBecause(fixture)).toBeUndefined();
});

const withDigests = { headerDigest: "crc32c", dataDigest: "crc32c" } as const;

test("trap 19: at level 1 a damaged header costs its PDU alone, where the next header proves the place", async () => {
  const fixture = await openAt(1, {}, withDigests);
  const first = await begin(fixture);
  const second = await begin(fixture);
  const { connection } = fixture.target;
  const due = first.command.expStatSn;
  const good = capture(connection, () => connection.respond(first.command));
  const damaged = Buffer.from(good);
  damaged.writeUInt8(damaged.readUInt8(36) ^ 0x10, 36);
  connection.sendBytes([damaged]);
  connection.respond(second.command);
  await fixture.clock.advance(1);
  expect(fixture.session.status().recovery.headerDigestErrors).toBe(1);
  expect(snacks(connection)).toEqual([[1, due, 1]]);
  connection.sendBytes([good]);
  expect(await settle(fixture.clock, first.execution.done)).toMatchObject({ status: 0 });
  expect(await settle(fixture.clock, second.execution.done)).toMatchObject({ status: 0 });
  expect(fixture.target.connections).toHaveLength(1);
});

test("trap 20: at level 1 data with a wrong digest is dropped with its status, and both are asked for", async () => {
  const fixture = await openAt(1, {}, withDigests);
  const { command, execution, dataIn } = await beginRead(fixture);
  const { connection } = fixture.target;
  const good = capture(connection, () => connection.dataIn(command, { data: Buffer.alloc(512, 9), status: 0 }));
  const damaged = Buffer.from(good);
  damaged.writeUInt8(8, 100);
  connection.sendBytes([damaged]);
  await fixture.clock.advance(1);
  expect(execution.results).toEqual([]);
  const [data] = connection.ofType("snack-request");
  expect(data).toMatchObject({ snackType: 0, initiatorTaskTag: command.initiatorTaskTag, begRun: 0 });
  // The StatSN of what was dropped is not acknowledged.
  expect(data?.expStatSn).toBe(command.expStatSn);
  connection.sendBytes([good]);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  expect(dataIn.every((byte) => byte === 9)).toBe(true);
  expect(fixture.target.connections).toHaveLength(1);
});

/** A write that waits for its R2Ts. */
async function beginWrite(): Promise<{
  fixture: OpenedSession;
  command: ScsiCommandPdu;
  connection: ScriptedConnection;
}> {
  const keys = { InitialR2T: "Yes", ImmediateData: "No", MaxBurstLength: "512", DataSequenceInOrder: "Yes" };
  const fixture = await openAt(1, { keys, onPdu: answerPing });
  const { command } = await begin(fixture, { cdb: write(0, 4), dataOut: Buffer.alloc(2048, 5) });
  return { fixture, command, connection: fixture.target.connection };
}

test("trap 63: an R2T that does not come is not asked for: only a later one shows that it was sent", async () => {
  const { fixture, command, connection } = await beginWrite();
  await fixture.clock.advance(20_000);
  expect(snacks(connection)).toEqual([]);
  connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 512, tag: 1 });
  await fixture.clock.advance(5_000);
  expect(snacks(connection)).toEqual([]);
  connection.readyToTransfer(command, { r2tSn: 2, offset: 1024, length: 512, tag: 3 });
  await fixture.clock.advance(1);
  expect(snacks(connection)).toEqual([[0, 1, 1]]);
  expect(connection.ofType("scsi-data-out").map((pdu) => pdu.bufferOffset)).toEqual([0]);
  connection.readyToTransfer(command, { r2tSn: 1, offset: 512, length: 512, tag: 2 });
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-data-out").map((pdu) => pdu.bufferOffset)).toEqual([0, 512, 1024]);
});

/** Data-In of 256 bytes with the A bit, which wants a DataACK. */
function dataIn(connection: ScriptedConnection, command: ScsiCommandPdu, dataSn: number, isAsking: boolean): void {
  connection.send({
    ...{ type: "scsi-data-in", isFinal: isAsking, isAcknowledgeRequested: isAsking, hasStatus: false },
    ...{ isOverflow: false, isUnderflow: false, status: 0, lun: LUN_ONE, initiatorTaskTag: command.initiatorTaskTag },
    ...{ targetTransferTag: isAsking ? 0x4711 : RESERVED, dataSn, bufferOffset: dataSn * 256, residualCount: 0 },
    data: Buffer.alloc(256, dataSn + 1),
  });
}

test("trap 63: a DataACK waits while data before it is missing, and acknowledges all of it then", async () => {
  const fixture = await openAt(1);
  const { command, execution } = await begin(fixture, { cdb: read(0, 2), dataIn: Buffer.alloc(1024) });
  const { connection } = fixture.target;
  dataIn(connection, command, 0, false);
  dataIn(connection, command, 2, true);
  await fixture.clock.advance(1);
  expect(snacks(connection).map(([type]) => type)).toEqual([0]);
  dataIn(connection, command, 1, false);
  await fixture.clock.advance(1);
  const isAck = ({ snackType }: SnackRequestPdu): boolean => snackType === 2;
  expect(connection.ofType("snack-request").filter(isAck)).toMatchObject([
    { lun: LUN_ONE, initiatorTaskTag: RESERVED, targetTransferTag: 0x4711, begRun: 3, runLength: 0 },
  ]);
  connection.dataIn(command, { data: Buffer.alloc(256, 4), bufferOffset: 768, dataSn: 3, status: 0 });
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0, transferredBytes: 1024 });
});

test("trap 64: RunLength 0 means all from BegRun on; lost data is asked for before its status is acknowledged", async () => {
  const fixture = await openAt(1, { onPdu: answerPing });
  const { command, execution } = await begin(fixture, { cdb: read(0, 2), dataIn: Buffer.alloc(1024) });
  const { connection } = fixture.target;
  const due = command.expStatSn;
  dataIn(connection, command, 0, false);
  const lost = capture(connection, () => dataIn(connection, command, 1, false));
  dataIn(connection, command, 2, false);
  connection.dataIn(command, { data: Buffer.alloc(256, 4), bufferOffset: 768, dataSn: 3, status: 0 });
  await fixture.clock.advance(1);
  const [request] = connection.ofType("snack-request");
  expect(request).toMatchObject({
    snackType: 0,
    begRun: 1,
    expStatSn: due,
    initiatorTaskTag: command.initiatorTaskTag,
  });
  // Either the run that is missing, or all from its beginning.
  expect([0, 1]).toContain(request?.runLength);
  expect(execution.results).toEqual([]);
  await settle(
    fixture.clock,
    fixture.session.nop().catch(() => undefined),
  );
  const numbered = connection.received.filter((pdu): pdu is Pdu & { expStatSn: number } => "expStatSn" in pdu);
  expect(numbered.every(({ expStatSn }) => expStatSn === due)).toBe(true);
  connection.sendBytes([lost]);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0, transferredBytes: 1024 });
  const next = await begin(fixture);
  expect(next.command.expStatSn).toBeGreaterThan(due);
});
