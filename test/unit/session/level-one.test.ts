import { RESERVED_TAG, RejectReason, SnackType } from "../../../src/wire/constants.js";
import type { ScsiCommandPdu, SnackRequestPdu } from "../../../src/wire/pdu.js";
import { type OpenedSession, execute, openSession, read, settle, write } from "../../support/session-fixture.js";

const LEVEL_ONE = { session: { errorRecoveryLevel: 1 as const, dataDigest: "crc32c" as const } };

function part(fill: number): Buffer {
  return Buffer.alloc(512, fill);
}

async function begin(fixture: OpenedSession, blocks = 3) {
  const dataIn = Buffer.alloc(512 * blocks);
  const execution = execute(fixture.session, { cdb: read(0, blocks), dataIn });
  await fixture.clock.advance(1);
  return { execution, dataIn, command: fixture.target.connection.ofType("scsi-command").at(-1)! };
}

function snacks(fixture: OpenedSession): readonly SnackRequestPdu[] {
  return fixture.target.connection.ofType("snack-request");
}

/** A Data-In whose data digest is wrong. */
function spoiled(
  fixture: OpenedSession,
  command: ScsiCommandPdu,
  options: { dataSn: number; offset: number; status?: number },
): void {
  const { connection } = fixture.target;
  const before = connection.statSn;
  connection.spoilNext = true;
  connection.dataIn(command, {
    data: part(0xee),
    dataSn: options.dataSn,
    bufferOffset: options.offset,
    ...(options.status === undefined ? {} : { status: options.status }),
  });
  expect(connection.statSn).toBe(options.status === undefined ? before : before + 1);
}

describe("lost data (RFC 7143 §7.8, §7.9)", () => {
  test("a Data-In with a wrong digest is discarded and asked for again; the rest is taken meanwhile", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { execution, dataIn, command } = await begin(fixture);
    const { connection } = fixture.target;
    spoiled(fixture, command, { dataSn: 0, offset: 0 });
    connection.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512 });
    connection.dataIn(command, { data: part(3), dataSn: 2, bufferOffset: 1024, status: 0 });
    await fixture.clock.advance(1);
    expect(snacks(fixture)).toMatchObject([
      {
        snackType: SnackType.dataOrR2t,
        initiatorTaskTag: command.initiatorTaskTag,
        begRun: 0,
        targetTransferTag: RESERVED_TAG,
      },
    ]);
    expect(execution.results).toHaveLength(0);
    connection.dataIn(command, { data: part(1), dataSn: 0, bufferOffset: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({
      kind: "status",
      status: 0,
      transferredBytes: 1536,
    });
    expect(dataIn.equals(Buffer.concat([part(1), part(2), part(3)]))).toBe(true);
    const { reconnects, recovery } = fixture.session.status();
    expect(reconnects).toBe(0);
    expect(recovery).toMatchObject({ dataDigestErrors: 1, dataSnacks: 1, sessionRecoveries: 0 });
  });

  test("status is not acknowledged while data of its task is missing", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { execution, command } = await begin(fixture, 2);
    const { connection } = fixture.target;
    const statSn = connection.statSn;
    connection.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512, status: 0 });
    await fixture.clock.advance(1);
    expect(snacks(fixture).map(({ begRun }) => begRun)).toEqual([0]);
    const ping = fixture.session.nop();
    await fixture.clock.advance(1);
    const [nop] = connection.ofType("nop-out");
    expect(nop!.expStatSn).toBe(statSn);
    connection.dataIn(command, { data: part(1), dataSn: 0, bufferOffset: 0 });
    await settle(fixture.clock, execution.done);
    connection.pong(nop!);
    await settle(fixture.clock, ping);
    void fixture.session.nop().catch(() => undefined);
    await fixture.clock.advance(1);
    expect(connection.ofType("nop-out").at(-1)!.expStatSn).toBe(statSn + 2);
  });

  test("what does not come is asked for again, and in the end the connection is given up", async () => {
    const fixture = await openSession({ session: { ...LEVEL_ONE.session, timers: { nopIntervalMs: 0 } } });
    const { command } = await begin(fixture);
    const first = fixture.target.connection;
    first.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512 });
    await fixture.clock.advance(7_000);
    const asked = first.ofType("snack-request").length;
    expect(asked).toBeGreaterThan(1);
    expect(fixture.target.connections).toHaveLength(1);
    await fixture.clock.advance(10_000);
    expect(fixture.target.connections).toHaveLength(2);
    expect(fixture.events.find(({ kind }) => kind === "disconnected")).toMatchObject({
      reason: { code: "SESSION_DIGEST" },
    });
  });

  test("data that the target refuses to send again fails the task, whatever its status says", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { execution, command } = await begin(fixture, 2);
    const { connection } = fixture.target;
    connection.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512, status: 0 });
    await fixture.clock.advance(1);
    const [snack] = snacks(fixture);
    connection.reject(RejectReason.snackReject, snack!);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_SHORT_TRANSFER" } });
    expect(fixture.target.connections).toHaveLength(1);
  });

  test("Data-In that comes twice changes nothing", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { execution, dataIn, command } = await begin(fixture, 2);
    const { connection } = fixture.target;
    connection.dataIn(command, { data: part(1), dataSn: 0 });
    connection.dataIn(command, { data: part(9), dataSn: 0 });
    connection.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512, status: 0 });
    await settle(fixture.clock, execution.done);
    expect(dataIn.equals(Buffer.concat([part(1), part(2)]))).toBe(true);
  });
});

describe("DataACK (§11.16.2)", () => {
  test("acknowledges what came in order, with the target's tag and unit, once", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { command } = await begin(fixture, 3);
    const { connection } = fixture.target;
    connection.dataIn(command, { data: part(1), dataSn: 0, acknowledge: 77 });
    await fixture.clock.advance(1);
    expect(snacks(fixture)).toMatchObject([
      { snackType: SnackType.dataAck, targetTransferTag: 77, initiatorTaskTag: RESERVED_TAG, begRun: 1, runLength: 0 },
    ]);
    connection.dataIn(command, { data: part(1), dataSn: 0, acknowledge: 77 });
    await fixture.clock.advance(1);
    expect(snacks(fixture)).toHaveLength(1);
  });

  test("waits while something before it is missing", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { command } = await begin(fixture, 3);
    const { connection } = fixture.target;
    connection.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512, acknowledge: 5 });
    await fixture.clock.advance(1);
    expect(snacks(fixture).map(({ snackType }) => snackType)).toEqual([SnackType.dataOrR2t]);
    connection.dataIn(command, { data: part(1), dataSn: 0 });
    await fixture.clock.advance(1);
    expect(snacks(fixture).at(-1)).toMatchObject({ snackType: SnackType.dataAck, begRun: 2 });
  });
});

describe("lost status (§4.2.2.2, §7.9)", () => {
  test("a gap is asked for; what came behind it counts but is not acknowledged before", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const first = await begin(fixture, 1);
    const second = await begin(fixture, 1);
    const { connection } = fixture.target;
    const lost = connection.statSn;
    connection.statSn += 1;
    connection.dataIn(second.command, { data: part(2), status: 0 });
    await settle(fixture.clock, second.execution.done);
    expect(snacks(fixture)).toMatchObject([
      { snackType: SnackType.status, begRun: lost, runLength: 1, expStatSn: lost },
    ]);
    connection.dataIn(first.command, { data: part(1), status: 0, statSn: lost });
    await settle(fixture.clock, first.execution.done);
    connection.statSn = lost + 2;
    void fixture.session.nop().catch(() => undefined);
    await fixture.clock.advance(1);
    expect(connection.ofType("nop-out").at(-1)!.expStatSn).toBe(lost + 2);
  });

  test("a status lost on an idle connection is noticed by the next ping, which shows the StatSN", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { execution, command } = await begin(fixture, 1);
    const { connection } = fixture.target;
    connection.statSn += 1;
    await fixture.clock.advance(6_500);
    connection.pong(connection.ofType("nop-out").at(-1)!);
    await fixture.clock.advance(1);
    expect(snacks(fixture)).toMatchObject([{ snackType: SnackType.status, runLength: 1 }]);
    connection.dataIn(command, { data: part(1), status: 0, statSn: connection.statSn - 2 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  });

  test("a target that answers a status SNACK with a Reject loses the connection", async () => {
    const fixture = await openSession(LEVEL_ONE);
    const { command } = await begin(fixture, 1);
    const { connection } = fixture.target;
    connection.statSn += 1;
    connection.dataIn(command, { data: part(2), status: 0 });
    await fixture.clock.advance(1);
    connection.reject(RejectReason.snackReject, snacks(fixture)[0]!, connection.statSn - 2);
    await fixture.clock.advance(5_000);
    expect(fixture.target.connections).toHaveLength(2);
  });
});

describe("writes", () => {
  const source = Buffer.alloc(2048, 0x5a);

  async function beginWrite(fixture: OpenedSession) {
    const execution = execute(fixture.session, { cdb: write(0, 4), dataOut: source });
    await fixture.clock.advance(1);
    return { execution, command: fixture.target.connection.ofType("scsi-command").at(-1)! };
  }

  const manual = { target: { keys: { ImmediateData: "No", MaxRecvDataSegmentLength: "512" } }, ...LEVEL_ONE };

  test("a recovery R2T may ask for what was sent already", async () => {
    const fixture = await openSession(manual);
    const { execution, command } = await beginWrite(fixture);
    const { connection } = fixture.target;
    connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 2048, tag: 1 });
    await fixture.clock.advance(1);
    connection.reject(RejectReason.dataDigestError, connection.ofType("scsi-data-out")[1]!);
    connection.readyToTransfer(command, { r2tSn: 1, offset: 512, length: 1536, tag: 2 });
    await fixture.clock.advance(1);
    const again = connection.ofType("scsi-data-out").filter(({ targetTransferTag }) => targetTransferTag === 2);
    expect(again.map(({ dataSn, bufferOffset }) => [dataSn, bufferOffset])).toEqual([
      [0, 512],
      [1, 1024],
      [2, 1536],
    ]);
    connection.respond(command);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
    expect(fixture.session.status().recovery.recoveryR2ts).toBe(1);
  });

  test("the Reject of a Data-Out is acknowledged only with the status of its write: LIO forgets the write with it", async () => {
    const fixture = await openSession(manual);
    const { execution, command } = await beginWrite(fixture);
    const { connection } = fixture.target;
    connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 2048, tag: 1 });
    await fixture.clock.advance(1);
    const rejectStatSn = connection.statSn;
    connection.reject(RejectReason.dataDigestError, connection.ofType("scsi-data-out")[0]!);
    connection.readyToTransfer(command, { r2tSn: 1, offset: 0, length: 2048, tag: 2 });
    await fixture.clock.advance(1);
    expect(connection.ofType("scsi-data-out").at(-1)!.expStatSn).toBe(rejectStatSn);
    connection.respond(command);
    await settle(fixture.clock, execution.done);
    void fixture.session.nop().catch(() => undefined);
    await fixture.clock.advance(1);
    expect(connection.ofType("nop-out").at(-1)!.expStatSn).toBe(rejectStatSn + 2);
  });

  test("a gap in R2TSN is asked for, and R2Ts are answered in their order", async () => {
    const fixture = await openSession(manual);
    const { command } = await beginWrite(fixture);
    const { connection } = fixture.target;
    connection.readyToTransfer(command, { r2tSn: 1, offset: 1024, length: 1024, tag: 2 });
    await fixture.clock.advance(1);
    expect(connection.ofType("scsi-data-out")).toHaveLength(0);
    expect(snacks(fixture)).toMatchObject([{ snackType: SnackType.dataOrR2t, begRun: 0, runLength: 1 }]);
    connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 1024, tag: 1 });
    await fixture.clock.advance(1);
    expect(connection.ofType("scsi-data-out").map(({ targetTransferTag }) => targetTransferTag)).toEqual([1, 1, 2, 2]);
  });

  test("an R2T is never asked for because of a time of ours (§7.1.4.1)", async () => {
    const fixture = await openSession({ ...manual, session: { ...manual.session, timers: { nopIntervalMs: 0 } } });
    await beginWrite(fixture);
    await fixture.clock.advance(20_000);
    expect(snacks(fixture)).toHaveLength(0);
  });
});

describe("command retry (§7.2.1, §7.3)", () => {
  test("a command that the target does not acknowledge after a ping goes out again with its tag and CmdSN", async () => {
    const fixture = await openSession({
      ...LEVEL_ONE,
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type === "nop-out") connection.pong(pdu);
        },
      },
    });
    fixture.target.ignores = (pdu) => pdu.type === "scsi-command";
    const { execution, command } = await begin(fixture, 1);
    fixture.target.ignores = () => false;
    await fixture.clock.advance(5_000);
    const [, again] = fixture.target.connection.ofType("scsi-command");
    expect(again).toMatchObject({
      cmdSn: command.cmdSn,
      initiatorTaskTag: command.initiatorTaskTag,
      isImmediate: false,
    });
    expect(again!.cdb.equals(command.cdb)).toBe(true);
    fixture.target.connection.dataIn(again!, { data: part(1), status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
    expect(fixture.session.status().recovery.commandRetries).toBe(1);
    expect(fixture.target.connections).toHaveLength(1);
  });

  test("a command that is acknowledged is never sent again, however long it takes", async () => {
    const fixture = await openSession({
      ...LEVEL_ONE,
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type === "nop-out") connection.pong(pdu);
        },
      },
    });
    await begin(fixture, 1);
    await fixture.clock.advance(20_000);
    expect(fixture.target.connection.ofType("scsi-command")).toHaveLength(1);
  });

  test("a command whose immediate data arrived damaged goes out again at once", async () => {
    const fixture = await openSession(LEVEL_ONE);
    fixture.target.ignores = (pdu) => pdu.type === "scsi-command";
    const dataOut = Buffer.alloc(512, 7);
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut });
    await fixture.clock.advance(1);
    fixture.target.ignores = () => false;
    const { connection } = fixture.target;
    const [command] = connection.ofType("scsi-command");
    connection.reject(RejectReason.dataDigestError, command!);
    await fixture.clock.advance(1);
    const again = connection.ofType("scsi-command")[1];
    expect(again).toMatchObject({ cmdSn: command!.cmdSn, initiatorTaskTag: command!.initiatorTaskTag });
    expect(again!.data.equals(dataOut)).toBe(true);
    connection.respond(again!);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  });
});

describe("a damaged header (§7.8)", () => {
  test("is left out when the next PDU can be found, and what it carried is asked for", async () => {
    const fixture = await openSession({ session: { ...LEVEL_ONE.session, headerDigest: "crc32c" } });
    const { execution, dataIn, command } = await begin(fixture, 2);
    const { connection } = fixture.target;
    connection.spoilNextHeader = true;
    connection.dataIn(command, { data: part(0xee), dataSn: 0 });
    connection.dataIn(command, { data: part(2), dataSn: 1, bufferOffset: 512, status: 0 });
    await fixture.clock.advance(1);
    expect(snacks(fixture)).toMatchObject([{ snackType: SnackType.dataOrR2t, begRun: 0 }]);
    connection.dataIn(command, { data: part(1), dataSn: 0 });
    await settle(fixture.clock, execution.done);
    expect(dataIn.equals(Buffer.concat([part(1), part(2)]))).toBe(true);
    expect(fixture.session.status().recovery).toMatchObject({ headerDigestErrors: 1, sessionRecoveries: 0 });
  });
});
