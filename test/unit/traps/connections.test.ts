import { DEFAULT_PARAMETERS } from "../../../src/login/parameters.js";
import { noRecovery } from "../../../src/session/session-events.js";
import type { SessionOptions } from "../../../src/session/session-options.js";
import { StatusSequence } from "../../../src/session/status-sequence.js";
import { TaskRecord } from "../../../src/session/task-record.js";
import { TaskTransfers } from "../../../src/session/task-transfers.js";
import type { Pdu, ScsiCommandPdu, ScsiDataInPdu, ScsiResponsePdu, SnackRequestPdu } from "../../../src/wire/pdu.js";
import { type ScriptedConnection, ScriptedTarget } from "../../support/scripted-target.js";
import {
  execute,
  LUN_ONE,
  openSession,
  type OpenedSession,
  read,
  settle,
  write,
} from "../../support/session-fixture.js";
import { answerManagement, answerPing, begin, codeOf, lostBecause, RESERVED } from "../../support/trap-helpers.js";
import { ScriptedLogin } from "../../support/scripted-login.js";

/** Traps 5, 45, 59 to 62, 68 and 74: several connections, and the loss of one (RFC 7143 §4.2.2, §6.3, §7.1.4.3, §7.2.2). */

const portal = { host: "target", port: 3260 };

interface Two extends OpenedSession {
  readonly first: ScriptedConnection;
  readonly second: ScriptedConnection;
}

type Target = NonNullable<Parameters<typeof openSession>[0]>["target"];

/** A session with two connections to one scripted target. */
async function openTwo(level: 0 | 1 | 2, target: Target = {}, session: Partial<SessionOptions> = {}): Promise<Two> {
  const fixture = await openSession({
    target: { ...(level === 2 ? { keys: { DefaultTime2Wait: "2", DefaultTime2Retain: "20" } } : {}), ...target },
    session: { errorRecoveryLevel: level, additionalConnections: [{ portal }], ...session },
  });
  await fixture.clock.advance(100);
  const [first, second] = fixture.target.connections;
  if (first === undefined || second === undefined) throw new Error("the second connection did not join");
  return { ...fixture, first, second };
}

function commands({ first, second }: Two): ScsiCommandPdu[] {
  return [...first.ofType("scsi-command"), ...second.ofType("scsi-command")];
}

function answerRecoveryLogout(connection: ScriptedConnection, pdu: Pdu, time2Wait = 0): void {
  if (pdu.type !== "logout-request") return;
  const { initiatorTaskTag } = pdu;
  connection.send({ type: "logout-response", response: 0, initiatorTaskTag, time2Wait, time2Retain: 20 });
}

test("trap 05: the window is the session's: it counts the commands of all connections, each in rising order", async () => {
  const two = await openTwo(0, { windowSize: 6 });
  for (let index = 0; index < 12; index += 1) execute(two.session, {});
  await two.clock.advance(1);
  const sent = commands(two).map(({ cmdSn }) => cmdSn);
  const start = Math.min(...sent);
  expect([...sent].sort((a, b) => a - b)).toEqual(Array.from({ length: 6 }, (_, index) => start + index));
  expect(two.second.ofType("scsi-command").length).toBeGreaterThan(0);
  // A response over one connection lets both go on.
  for (const command of two.first.ofType("scsi-command")) two.first.respond(command);
  await two.clock.advance(1);
  expect(commands(two).length).toBeGreaterThan(6);
  for (const connection of [two.first, two.second]) {
    const numbers = connection.ofType("scsi-command").map(({ cmdSn }) => cmdSn);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  }
});

test("trap 74: task tags are unique over the connections of a session", async () => {
  const two = await openTwo(0);
  for (let index = 0; index < 30; index += 1) execute(two.session, {});
  await two.clock.advance(1);
  const tags = commands(two).map(({ initiatorTaskTag }) => initiatorTaskTag);
  expect(tags).toHaveLength(30);
  expect(new Set(tags).size).toBe(30);
});

test("trap 45: a connection must reach the portal group of its session: another one is refused, and 0208 is an error", async () => {
  const fixture = await openSession({ target: { onPdu: answerPing }, session: { maxConnections: 4 } });
  const endpoint = { kind: "tcp", host: "other", port: 3260 } as const;
  const other = await ScriptedTarget.listen(fixture.network, { endpoint, portalGroupTag: 2 });
  const adding = fixture.session.addConnection({ portal: { host: "other", port: 3260 } });
  await expect(settle(fixture.clock, adding)).rejects.toMatchObject({ code: "LOGIN_PORTAL_GROUP_MISMATCH" });
  await fixture.clock.advance(60_000);
  expect(other.connections).toHaveLength(1);
  expect(other.connection.isClosed).toBe(true);
  expect(lostBecause(fixture)).toBeUndefined();
  expect(fixture.session.status().connections).toHaveLength(1);
  const script = new ScriptedLogin();
  expect(codeOf(() => script.answer({}, { statusClass: 2, statusDetail: 8, isTransit: false }))).toMatch(/^LOGIN_/);
});

test("trap 59: event 5: no more data for the unit's tasks, and a NOP-Out with its LUN that acknowledges the event", async () => {
  const fixture = await openSession({
    target: { keys: { InitialR2T: "Yes", ImmediateData: "No" }, onPdu: answerManagement() },
    session: { offers: { taskReporting: ["FastAbort", "ResponseFence", "RFC3720"] }, timers: { nopIntervalMs: 0 } },
  });
  const { command } = await begin(fixture, { cdb: write(0, 2), dataOut: Buffer.alloc(1024) });
  const { connection } = fixture.target;
  const eventStatSn = connection.statSn;
  connection.send({
    ...{ type: "async-message", lun: LUN_ONE, asyncEvent: 5, asyncVCode: 0, data: Buffer.alloc(0) },
    ...{ parameter1: 0, parameter2: 0, parameter3: 0 },
  });
  connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 1024, tag: 0x42 });
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-data-out")).toEqual([]);
  expect(connection.ofType("nop-out")).toMatchObject([
    {
      ...{ isImmediate: true, initiatorTaskTag: RESERVED, targetTransferTag: RESERVED, lun: LUN_ONE },
      expStatSn: eventStatSn + 1,
    },
  ]);
  expect(fixture.target.connections).toHaveLength(1);
});

/** A task at the target, over the first connection. */
async function runOnFirst(two: Two, task: Parameters<typeof execute>[1] = {}): Promise<ScsiCommandPdu> {
  two.session.setPolicy("fail-over-only");
  const [leading] = two.session.status().connections;
  expect(leading?.cid).toBe(0);
  execute(two.session, { cdb: read(0, 2), dataIn: Buffer.alloc(1024), ...task });
  await two.clock.advance(1);
  return two.first.ofType("scsi-command").at(-1)!;
}

test("trap 60: nothing is said of a lost connection before Time2Wait, and nothing is reassigned after Time2Retain", async () => {
  const two = await openTwo(2, { keys: { DefaultTime2Wait: "4", DefaultTime2Retain: "6" }, onPdu: answerPing });
  const command = await runOnFirst(two);
  two.second.received.length = 0;
  two.first.close();
  await two.clock.advance(3_900);
  expect(two.second.received.filter(({ type }) => type !== "nop-out")).toEqual([]);
  await two.clock.advance(1_200);
  expect(two.second.ofType("logout-request")).toMatchObject([{ reason: 2, cid: 0 }]);
  // The target is silent for longer than it keeps tasks.
  await two.clock.advance(26_000);
  const management = two.target.connections.flatMap((connection) => connection.ofType("task-management-request"));
  expect(management.filter((pdu) => pdu.function === 8)).toEqual([]);
  const again = two.target.connections.slice(2).flatMap((connection) => connection.ofType("scsi-command"));
  expect(again.map(({ cdb }) => cdb)).toEqual([command.cdb]);
});

test("trap 61: TASK REASSIGN comes after the recovery logout has been answered, immediate, with the task's tag", async () => {
  const two = await openTwo(2, { onPdu: answerPing });
  const command = await runOnFirst(two);
  two.first.close();
  await two.clock.advance(4_000);
  expect(two.second.ofType("logout-request")).toMatchObject([{ reason: 2, cid: 0, isImmediate: true }]);
  expect(two.second.ofType("task-management-request")).toEqual([]);
  answerRecoveryLogout(two.second, two.second.ofType("logout-request")[0]!);
  await two.clock.advance(1);
  expect(two.second.ofType("task-management-request")).toMatchObject([
    { function: 8, isImmediate: true, referencedTaskTag: command.initiatorTaskTag, lun: LUN_ONE },
  ]);
  expect(two.second.ofType("scsi-command").map(({ initiatorTaskTag }) => initiatorTaskTag)).not.toContain(
    command.initiatorTaskTag,
  );
});

test("trap 61: a login with the CID of the lost connection is the implicit logout, and reassigning follows it", async () => {
  const fixture = await openSession({
    target: { keys: { DefaultTime2Wait: "0", DefaultTime2Retain: "20" }, onPdu: answerPing },
    session: { errorRecoveryLevel: 2 },
  });
  const { command } = await begin(fixture, { cdb: read(0, 2), dataIn: Buffer.alloc(1024) });
  const [lost] = fixture.target.connections;
  lost?.send({
    ...{ type: "nop-in", lun: LUN_ONE, initiatorTaskTag: RESERVED, targetTransferTag: RESERVED },
    data: Buffer.alloc(0),
  });
  await fixture.clock.advance(1);
  lost?.close();
  await fixture.clock.advance(2_000);
  const { connection } = fixture.target;
  expect(connection).not.toBe(lost);
  expect(connection.logins.every(({ tsih, cid }) => tsih === 1 && cid === lost?.logins[0]?.cid)).toBe(true);
  expect(connection.ofType("logout-request")).toEqual([]);
  expect(connection.ofType("task-management-request")).toMatchObject([
    { function: 8, isImmediate: true, referencedTaskTag: command.initiatorTaskTag },
  ]);
});

test("trap 61: where the target says that the task is still allegiant the session begins anew", async () => {
  const two = await openTwo(2, {
    onPdu: (connection, pdu) => {
      answerPing(connection, pdu);
      answerRecoveryLogout(connection, pdu);
      answerManagement(3)(connection, pdu);
    },
  });
  const command = await runOnFirst(two);
  two.first.close();
  await two.clock.advance(20_000);
  expect(two.target.connections.length).toBeGreaterThan(2);
  const logins = two.target.connections.slice(2).map(({ logins: [login] }) => login);
  expect(logins.some((login) => login?.tsih === 0)).toBe(true);
  const again = two.target.connections.slice(2).flatMap((connection) => connection.ofType("scsi-command"));
  expect(again.map(({ cdb }) => cdb)).toContainEqual(command.cdb);
});

/** A read of which two segments have come over the first connection, reassigned to the second. */
async function reassignRead(session: Partial<SessionOptions> = {}): Promise<{ two: Two; command: ScsiCommandPdu }> {
  const two = await openTwo(
    2,
    {
      onPdu: (connection, pdu) => {
        answerPing(connection, pdu);
        answerRecoveryLogout(connection, pdu);
        answerManagement()(connection, pdu);
      },
    },
    session,
  );
  const command = await runOnFirst(two);
  two.first.dataIn(command, { data: Buffer.alloc(256, 1), bufferOffset: 0, dataSn: 0 });
  two.first.dataIn(command, { data: Buffer.alloc(256, 2), bufferOffset: 256, dataSn: 1 });
  await two.clock.advance(1);
  two.first.close();
  await two.clock.advance(4_000);
  return { two, command };
}

test("trap 62: TASK REASSIGN acknowledges by ExpDataSN what has come, and the rest goes on from there", async () => {
  const { two, command } = await reassignRead();
  expect(two.second.ofType("task-management-request")).toMatchObject([{ function: 8, expDataSn: 2 }]);
  two.second.dataIn(command, { data: Buffer.alloc(256, 3), bufferOffset: 512, dataSn: 2 });
  two.second.dataIn(command, { data: Buffer.alloc(256, 4), bufferOffset: 768, dataSn: 3, status: 0 });
  await two.clock.advance(1);
  expect(two.session.status()).toMatchObject({ readOperations: 1, readBytes: 1024, commandsInFlight: 0 });
  expect(two.session.status().recovery).toMatchObject({ taskReassigns: 1, sessionRecoveries: 0 });
});

/** The transfers of a connection that declared 8192 bytes, and a read that was sent when 4096 held. */
function resized(): { sent: SnackRequestPdu[]; transfers: TaskTransfers; record: TaskRecord } {
  const sent: SnackRequestPdu[] = [];
  const record = new TaskRecord(
    { lun: LUN_ONE, cdb: read(0, 16), dataIn: Buffer.alloc(8192), onDone: () => undefined },
    1,
  );
  record.initiatorTaskTag = 7;
  record.segmentBytes = 4096;
  const transfers = new TaskTransfers({
    parameters: { ...DEFAULT_PARAMETERS, errorRecoveryLevel: 1 },
    sequence: new StatusSequence(100),
    counters: noRecovery(),
    snackTimeoutMs: 1_000,
    send: (pdu) => {
      if (pdu.type === "snack-request") sent.push(pdu);
    },
    find: () => record,
    has: () => true,
  });
  return { sent, transfers, record };
}

test("trap 62: after a change of MaxRecvDataSegmentLength lost data is asked for by R-Data, and the status must bear its tag", () => {
  const { sent, transfers, record } = resized();
  const part: ScsiDataInPdu = {
    ...{ type: "scsi-data-in", isFinal: false, isAcknowledgeRequested: false, hasStatus: false, isOverflow: false },
    ...{ isUnderflow: false, status: 0, lun: LUN_ONE, initiatorTaskTag: 7, targetTransferTag: RESERVED, dataSn: 1 },
    ...{ bufferOffset: 4096, residualCount: 0, data: Buffer.alloc(4096), statSn: 0, expCmdSn: 2, maxCmdSn: 9 },
  };
  transfers.onDataIn(record, part, "early");
  expect(sent).toMatchObject([{ snackType: 3, initiatorTaskTag: 7, begRun: 0, runLength: 0, expStatSn: 100 }]);
  const tag = sent[0]!.targetTransferTag;
  expect([0, RESERVED]).not.toContain(tag);
  transfers.onDataIn(record, { ...part, dataSn: 0, bufferOffset: 0, data: Buffer.alloc(8192) }, "next");
  const response: ScsiResponsePdu = {
    ...{ type: "scsi-response", response: 0, status: 0, initiatorTaskTag: 7, snackTag: 0, expDataSn: 1 },
    ...{ isBidirectionalOverflow: false, isBidirectionalUnderflow: false, isOverflow: false, isUnderflow: false },
    ...{
      bidirectionalResidualCount: 0,
      residualCount: 0,
      data: Buffer.alloc(0),
      statSn: 100,
      expCmdSn: 2,
      maxCmdSn: 9,
    },
  };
  expect(transfers.isWhole(response)).toBe(false);
  expect(transfers.isWhole({ ...response, snackTag: tag })).toBe(true);
});

test("trap 62: a task that was moved has SNACK tag 0 again, and what was acknowledged is not asked for", async () => {
  const { two, command } = await reassignRead();
  two.second.dataIn(command, { data: Buffer.alloc(256, 4), bufferOffset: 768, dataSn: 3 });
  await two.clock.advance(1);
  expect(two.second.ofType("snack-request")).toMatchObject([{ snackType: 0, begRun: 2 }]);
  two.second.dataIn(command, { data: Buffer.alloc(256, 3), bufferOffset: 512, dataSn: 2 });
  two.second.respond(command);
  await two.clock.advance(1);
  expect(two.session.status()).toMatchObject({ readOperations: 1, readBytes: 1024, commandsInFlight: 0 });
});

test("trap 68: a response over another connection that comes after the TMF response is dropped, and harms nothing", async () => {
  const two = await openTwo(0);
  execute(two.session, {});
  const victims = [execute(two.session, {}), execute(two.session, {})];
  await two.clock.advance(1);
  const over = two.second.ofType("scsi-command").at(-1);
  const aborting = two.session.taskManagement({ function: "abort-task-set", lun: LUN_ONE });
  await two.clock.advance(1);
  const [asked] = [two.first, two.second].filter((connection) => connection.ofType("task-management-request").length);
  answerManagement()(asked!, asked!.ofType("task-management-request")[0]!);
  await settle(two.clock, aborting);
  expect(victims.flatMap(({ results }) => results)).toMatchObject([{ kind: "failed" }, { kind: "failed" }]);
  const other = asked === two.first ? two.second : two.first;
  const late = other.ofType("scsi-command").at(-1) ?? over;
  other.respond(late!);
  await two.clock.advance(1);
  expect(victims.flatMap(({ results }) => results)).toHaveLength(2);
  expect(two.session.status().connections).toHaveLength(2);
  expect(lostBecause(two)).toBeUndefined();
});
