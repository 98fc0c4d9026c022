import { MAX_CONTROL_EXCHANGES } from "../../../src/base/limits.js";
import { AsyncEvent, BHS_BYTES, RESERVED_TAG, RejectReason, SnackType } from "../../../src/wire/constants.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import type { Session } from "../../../src/session/session.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";
import { LUN_ONE, execute, openSession, read, sense, settle, write } from "../../support/session-fixture.js";

const NO_DATA = Buffer.alloc(0);
const block = Buffer.alloc(512, 0x61);

function textAnswer(connection: ScriptedConnection, tag: number, more: object = {}): void {
  connection.send({
    type: "text-response",
    isFinal: true,
    isContinued: false,
    lun: LUN_ONE,
    initiatorTaskTag: tag,
    targetTransferTag: RESERVED_TAG,
    data: NO_DATA,
    ...more,
  });
}

describe("an answer of another kind than was asked for is no answer", () => {
  const asks: readonly (readonly [string, (session: Session) => Promise<unknown>, string])[] = [
    ["a ping", (session) => session.nop(), "§11.19"],
    ["task management", (session) => session.taskManagement({ function: "lun-reset", lun: LUN_ONE }), "§11.6"],
    ["a logout", (session) => session.logout(), "§11.15"],
  ];

  test.each(asks)("%s answered with text", async (_name, ask, section) => {
    const { session, clock } = await openSession({
      target: { onPdu: (connection, pdu) => "initiatorTaskTag" in pdu && textAnswer(connection, pdu.initiatorTaskTag) },
    });
    await expect(settle(clock, ask(session))).rejects.toMatchObject({ code: "SESSION_PROTOCOL", details: { section } });
  });

  test("text answered with the response to a task management function", async () => {
    const { session, clock } = await openSession({
      target: { onPdu: (connection, pdu) => pdu.type === "text-request" && connection.managed(pdu) },
    });
    await expect(settle(clock, session.text([["X-a", "b"]]))).rejects.toMatchObject({
      code: "SESSION_PROTOCOL",
      details: { section: "§11.11" },
    });
    expect(session.state).toBe("ready");
  });
});

describe("text negotiations that go wrong", () => {
  test("the target ends it before our text did (§6.2)", async () => {
    const { session, clock } = await openSession({
      target: {
        keys: { MaxRecvDataSegmentLength: "512" },
        onPdu: (connection, pdu) => pdu.type === "text-request" && textAnswer(connection, pdu.initiatorTaskTag),
      },
    });
    const pairs = Array.from({ length: 8 }, (_, index): [string, string] => [`X-key${index}`, "v".repeat(100)]);
    await expect(settle(clock, session.text(pairs))).rejects.toMatchObject({
      code: "SESSION_PROTOCOL",
      details: { section: "§6.2" },
    });
  });
});

describe("requests without a connection", () => {
  test("text and functions are refused at once; those of RFC 7144 because no level was agreed on", async () => {
    const { session, target, clock } = await openSession();
    target.connection.close();
    await clock.advance(1);
    expect(session.state).toBe("recovering");
    await expect(session.text([["X-a", "b"]])).rejects.toMatchObject({ code: "SESSION_CONNECTION_LOST" });
    await expect(session.taskManagement({ function: "lun-reset", lun: LUN_ONE })).rejects.toMatchObject({
      code: "SESSION_CONNECTION_LOST",
      retry: "same-path",
    });
    await expect(session.taskManagement({ function: "i-t-nexus-reset" })).rejects.toMatchObject({
      details: { iscsiProtocolLevel: 1 },
    });
  });

  test("a probe fails instead of waiting", async () => {
    const { session, target, clock } = await openSession();
    target.connection.close();
    await clock.advance(1);
    const probe = execute(session, { isProbe: true });
    expect(await settle(clock, probe.done)).toMatchObject({ error: { code: "SESSION_CONNECTION_LOST" } });
  });
});

test("requests that nobody answers are bounded", async () => {
  const { session, clock } = await openSession();
  const pings = Array.from({ length: MAX_CONTROL_EXCHANGES }, () => session.nop());
  for (const ping of pings) ping.catch(() => undefined);
  await expect(session.nop()).rejects.toMatchObject({ code: "SESSION_QUEUE_FULL" });
  await clock.advance(1);
  session.close();
  for (const ping of pings) await expect(ping).rejects.toMatchObject({ layer: "session" });
});

describe("SCSI events and sense", () => {
  test.each([NO_DATA, Buffer.from([0])])("an event without sense is passed on without (%#)", async (data) => {
    const { target, clock, events } = await openSession();
    target.connection.send({
      type: "async-message",
      lun: LUN_ONE,
      asyncEvent: AsyncEvent.scsiAsync,
      asyncVCode: 0,
      parameter1: 0,
      parameter2: 0,
      parameter3: 0,
      data,
    });
    await clock.advance(1);
    expect(events).toEqual([{ kind: "scsi-event", lun: LUN_ONE, sense: NO_DATA }]);
  });

  test("a status whose sense has no bytes has no sense", async () => {
    const { session, target, clock } = await openSession();
    const execution = execute(session, {});
    await clock.advance(1);
    target.connection.respond(target.connection.ofType("scsi-command")[0]!, { status: 2, data: Buffer.from([0, 0]) });
    const result = await settle(clock, execution.done);
    expect(result).toMatchObject({ kind: "status", status: 2 });
    expect(result.kind === "status" && result.sense).toBeUndefined();
  });
});

test("a request PDU from a target ends the connection (§11.2.1.2)", async () => {
  const { target, clock, events } = await openSession();
  const request: Pdu = {
    type: "nop-out",
    isImmediate: true,
    lun: LUN_ONE,
    initiatorTaskTag: 7,
    targetTransferTag: RESERVED_TAG,
    cmdSn: 1,
    expStatSn: 1,
    data: NO_DATA,
  };
  target.connection.sendBytes(encodePdu(request, { header: false, data: false }));
  await clock.advance(1);
  expect(events[0]).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
});

describe("Rejects that decide nothing, and those that make no sense (RFC 7143 §11.17)", () => {
  test("without the header of what was rejected", async () => {
    const { target, clock, events } = await openSession();
    const data = Buffer.alloc(BHS_BYTES - 4);
    target.connection.send({ type: "reject", reason: RejectReason.protocolError, dataSnOrR2tSn: 0, data });
    await clock.advance(1);
    expect(events[0]).toMatchObject({ reason: { code: "SESSION_PROTOCOL", details: { section: "§11.17.4" } } });
  });

  test("task in progress: the target has the command, and will answer it", async () => {
    const { session, target, clock } = await openSession();
    const execution = execute(session, {});
    await clock.advance(1);
    const [command] = target.connection.ofType("scsi-command");
    target.connection.reject(RejectReason.taskInProgress, command!);
    await clock.advance(1);
    expect(execution.results).toEqual([]);
    target.connection.respond(command!);
    expect(await settle(clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
  });

  test("task in progress, of a task that is over: we never sent that again", async () => {
    const { session, target, clock, events } = await openSession();
    execute(session, {});
    await clock.advance(1);
    const [command] = target.connection.ofType("scsi-command");
    target.connection.respond(command!);
    target.connection.reject(RejectReason.taskInProgress, command!);
    await clock.advance(1);
    expect(events[0]).toMatchObject({ reason: { code: "SESSION_PROTOCOL", details: { section: "§11.17" } } });
  });

  test("of our answer to the target's own ping: nothing is lost with it", async () => {
    const { session, target, clock } = await openSession({
      target: { onPdu: (connection, pdu) => pdu.type === "nop-out" && connection.reject(5, pdu) },
    });
    target.connection.send({
      type: "nop-in",
      lun: LUN_ONE,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: 4,
      data: NO_DATA,
    });
    await clock.advance(10);
    expect(target.connection.ofType("nop-out")).toHaveLength(1);
    expect(session.state).toBe("ready");
  });

  test("of a Data-Out: the response decides", async () => {
    const { session, target, clock } = await openSession({
      target: {
        keys: { ImmediateData: "No", InitialR2T: "Yes" },
        onPdu: (connection, pdu) =>
          pdu.type === "scsi-data-out" && connection.reject(RejectReason.invalidPduField, pdu),
      },
    });
    const execution = execute(session, { cdb: write(0, 1), dataOut: block });
    await clock.advance(1);
    const [command] = target.connection.ofType("scsi-command");
    target.connection.readyToTransfer(command!, { r2tSn: 0, offset: 0, length: 512, tag: 3 });
    await clock.advance(1);
    expect(execution.results).toEqual([]);
    target.connection.respond(command!, { status: 2, sense: sense(0xb, 0x47, 3) });
    expect(await settle(clock, execution.done)).toMatchObject({ kind: "status", status: 2 });
  });
});

describe("Rejects at ErrorRecoveryLevel 1", () => {
  const open = () => openSession({ session: { errorRecoveryLevel: 1, dataDigest: "crc32c" } });
  const snack = (snackType: SnackType, initiatorTaskTag: number): Pdu => ({
    type: "snack-request",
    snackType,
    lun: LUN_ONE,
    initiatorTaskTag,
    targetTransferTag: RESERVED_TAG,
    expStatSn: 0,
    begRun: 0,
    runLength: 0,
  });

  test("of an acknowledgement of data: nothing was asked for", async () => {
    const { session, target, clock } = await open();
    target.connection.reject(RejectReason.invalidDataAck, snack(SnackType.dataAck, RESERVED_TAG));
    await clock.advance(10);
    expect(session.status()).toMatchObject({ state: "ready", reconnects: 0 });
  });

  test("of a SNACK for status: without status nothing goes on, so a new session is begun", async () => {
    const { target, clock, events } = await open();
    target.connection.reject(RejectReason.snackReject, snack(SnackType.status, RESERVED_TAG));
    await clock.advance(10);
    expect(events[0]).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_DIGEST" } });
  });

  test("of a SNACK for data of a task that is over: it matters no more", async () => {
    const { session, target, clock } = await open();
    target.connection.reject(RejectReason.snackReject, snack(SnackType.dataOrR2t, 5));
    await clock.advance(10);
    expect(session.status()).toMatchObject({ state: "ready", reconnects: 0 });
  });

  test("a command that arrived damaged behind a gap waits until the gap is filled", async () => {
    const { session, target, clock } = await open();
    target.ignores = (pdu) => pdu.type === "scsi-command";
    execute(session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    execute(session, { cdb: write(1, 1), dataOut: block });
    await clock.advance(1);
    const [, second] = target.connection.ofType("scsi-command");
    target.connection.reject(RejectReason.dataDigestError, second!);
    await clock.advance(1);
    expect(target.connection.ofType("scsi-command")).toHaveLength(2);
    expect(session.status().recovery.commandRetries).toBe(0);
  });
});
