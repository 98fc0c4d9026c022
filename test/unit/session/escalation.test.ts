import { lunFromNumber } from "../../../src/base/lun.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";
import { execute, openSession, read } from "../../support/session-fixture.js";

/** Answers each function with its own response code; those without one are not answered. */
function management(responses: Readonly<Record<number, number>>) {
  return (connection: ScriptedConnection, pdu: Pdu): void => {
    if (pdu.type === "nop-out" && pdu.initiatorTaskTag !== 0xffff_ffff) {
      connection.send({
        type: "nop-in",
        lun: pdu.lun,
        initiatorTaskTag: pdu.initiatorTaskTag,
        targetTransferTag: 0xffff_ffff,
        data: Buffer.alloc(0),
      });
    }
    if (pdu.type !== "task-management-request") return;
    const response = responses[pdu.function];
    if (response === undefined) return;
    connection.send({
      type: "task-management-response",
      response,
      initiatorTaskTag: pdu.initiatorTaskTag,
      additionalResponse: 0,
    });
  };
}

const timers = { taskTimeoutMs: 5_000, abortTimeoutMs: 2_000, lunResetTimeoutMs: 3_000, targetResetTimeoutMs: 4_000 };

describe("a task that runs out of time", () => {
  test.each([0, 1])("is aborted with its tag and CmdSN (response %i)", async (response) => {
    const { session, target, clock, events } = await openSession({
      target: { onPdu: management({ 1: response }) },
      session: { timers },
    });
    execute(session, { timeoutMs: 60_000 });
    const slow = execute(session, {});
    await clock.advance(7_000);
    const [, command] = target.connection.ofType("scsi-command");
    expect(target.connection.ofType("task-management-request")).toMatchObject([
      { function: 1, referencedTaskTag: command!.initiatorTaskTag, refCmdSn: command!.cmdSn, isImmediate: true },
    ]);
    expect(slow.results).toMatchObject([
      { kind: "failed", error: { code: "SESSION_TASK_TIMEOUT", retry: "same-path" } },
    ]);
    expect(events.map(({ kind }) => kind)).toEqual(["task-timeout", "escalation"]);
    expect(session.status()).toMatchObject({ state: "ready", commandsInFlight: 1 });
  });

  test("whose answer comes before that of the abort has succeeded", async () => {
    const { session, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type !== "task-management-request") return;
          connection.respond({ initiatorTaskTag: pdu.referencedTaskTag });
          management({ 1: 1 })(connection, pdu);
        },
      },
      session: { timers },
    });
    const slow = execute(session, {});
    await clock.advance(7_000);
    expect(slow.results).toMatchObject([{ kind: "status", status: 0 }]);
    expect(session.state).toBe("ready");
  });

  test("when it cannot be aborted its unit is reset; others of the unit are sent again, other units do not notice", async () => {
    const { session, target, clock } = await openSession({
      target: { onPdu: management({ 1: 255, 5: 0 }) },
      session: { timers },
    });
    const slow = execute(session, { cdb: read(1, 1), dataIn: Buffer.alloc(512) });
    const neighbour = execute(session, { cdb: read(2, 1), dataIn: Buffer.alloc(512), timeoutMs: 60_000 });
    const once = execute(session, { isRetryable: false, timeoutMs: 60_000 });
    const other = execute(session, { lun: lunFromNumber(2), timeoutMs: 60_000 });
    await clock.advance(7_000);
    expect(target.connection.ofType("task-management-request").map((pdu) => pdu.function)).toEqual([1, 5]);
    expect(slow.results).toMatchObject([{ error: { code: "SESSION_TASK_TIMEOUT" } }]);
    expect(once.results).toMatchObject([{ error: { code: "SESSION_TASK_ABORTED" } }]);
    expect(neighbour.results).toEqual([]);
    expect(other.results).toEqual([]);
    expect(target.connection.ofType("scsi-command").map(({ cdb }) => cdb[5])).toEqual([1, 2, 0, 0, 2]);
  });

  test("climbs on in time when nothing is answered, and ends in a new session that sends it again", async () => {
    const { session, target, clock, events } = await openSession({
      target: { onPdu: management({}) },
      session: { timers },
    });
    const slow = execute(session, { cdb: read(1, 1), dataIn: Buffer.alloc(512) });
    await clock.advance(17_000);
    const first = target.connections[0]!;
    expect(first.ofType("task-management-request").map((pdu) => pdu.function)).toEqual([1, 5, 6]);
    expect(events.filter(({ kind }) => kind === "escalation")).toMatchObject([
      { step: "abort-task", outcome: "failed" },
      { step: "lun-reset", outcome: "failed" },
      { step: "target-reset", outcome: "failed" },
      { step: "drop", outcome: "succeeded" },
    ]);
    expect(target.connections).toHaveLength(2);
    expect(slow.results).toEqual([]);
    target.connection.dataIn(target.connection.ofType("scsi-command")[0]!, { data: Buffer.alloc(512), status: 0 });
    await clock.advance(1);
    expect(slow.results).toMatchObject([{ kind: "status", status: 0 }]);
  });

  test("a late answer to an abort that was given up does no harm", async () => {
    const { session, target, clock } = await openSession({
      target: { onPdu: management({ 5: 0 }) },
      session: { timers },
    });
    execute(session, {});
    await clock.advance(9_000);
    const [abort] = target.connection.ofType("task-management-request");
    target.connection.send({
      type: "task-management-response",
      response: 0,
      initiatorTaskTag: abort!.initiatorTaskTag,
      additionalResponse: 0,
    });
    await clock.advance(10);
    expect(session.state).toBe("ready");
    expect(target.connections).toHaveLength(1);
  });
});
