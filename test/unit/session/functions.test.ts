import { LUN_ZERO } from "../../../src/base/lun.js";
import type { SessionOptions } from "../../../src/session/session-options.js";
import type { ScsiTask } from "../../../src/session/task.js";
import { AsyncEvent, RESERVED_TAG, TaskManagementFunction } from "../../../src/wire/constants.js";
import type { AsyncMessagePdu } from "../../../src/wire/pdu.js";
import {
  LUN_ONE,
  type OpenedSession,
  execute,
  openSession,
  read,
  settle,
  write,
} from "../../support/session-fixture.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";

const block = Buffer.alloc(512, 1);

async function open(
  session: Partial<SessionOptions> = {},
  answer: (
    connection: ScriptedConnection,
    pdu: { readonly initiatorTaskTag: number; readonly function: number },
  ) => void = (connection, pdu) => connection.managed(pdu),
): Promise<OpenedSession> {
  return openSession({
    session,
    target: {
      onPdu: (connection, pdu) => {
        if (pdu.type === "task-management-request") answer(connection, pdu);
        if (pdu.type === "nop-out" && pdu.initiatorTaskTag !== RESERVED_TAG) connection.pong(pdu);
      },
    },
  });
}

const levelTwo = { offers: { iscsiProtocolLevel: 2 } };

describe("functions of RFC 7144", () => {
  test.each([
    ["query-task-set", TaskManagementFunction.queryTaskSet],
    ["query-async-event", TaskManagementFunction.queryAsyncEvent],
  ] as const)("%s asks and ends nothing; 7 means yes, 0 means no", async (name, code) => {
    const answers = [7, 0];
    const fixture = await open(levelTwo, (connection, pdu) => connection.managed(pdu, answers.shift()));
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    const ask = () => settle(fixture.clock, fixture.session.taskManagement({ function: name, lun: LUN_ONE }));
    expect(await ask()).toEqual({ isPresent: true, additionalResponse: 0 });
    expect(await ask()).toEqual({ isPresent: false, additionalResponse: 0 });
    expect(fixture.target.connection.ofType("task-management-request")[0]).toMatchObject({
      function: code,
      lun: LUN_ONE,
    });
    expect(execution.results).toHaveLength(0);
  });

  test("I_T NEXUS RESET ends all tasks of the session", async () => {
    const fixture = await open(levelTwo);
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    await settle(fixture.clock, fixture.session.taskManagement({ function: "i-t-nexus-reset" }));
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_TASK_ABORTED" } });
    expect(fixture.target.connection.ofType("task-management-request")[0]!.function).toBe(11);
  });

  test("QUERY TASK names the task by its tag", async () => {
    const fixture = await open(levelTwo, (connection, pdu) => connection.managed(pdu, 7));
    const task: ScsiTask = { lun: LUN_ONE, cdb: read(0, 1), dataIn: Buffer.alloc(512), onDone: () => undefined };
    expect(await fixture.session.queryTask(task)).toBe(false);
    fixture.session.execute(task);
    await fixture.clock.advance(1);
    const [command] = fixture.target.connection.ofType("scsi-command");
    expect(await settle(fixture.clock, fixture.session.queryTask(task))).toBe(true);
    expect(fixture.target.connection.ofType("task-management-request")[0]).toMatchObject({
      function: TaskManagementFunction.queryTask,
      referencedTaskTag: command!.initiatorTaskTag,
    });
  });

  test("are not sent where level 2 was not agreed on", async () => {
    const fixture = await open();
    const asking = fixture.session.taskManagement({ function: "query-task-set", lun: LUN_ONE });
    await expect(settle(fixture.clock, asking)).rejects.toMatchObject({ code: "SESSION_TASK_MANAGEMENT_FAILED" });
    expect(fixture.target.connection.ofType("task-management-request")).toHaveLength(0);
  });

  test("an answer of another kind is a protocol error", async () => {
    const fixture = await open(levelTwo, (connection, pdu) => connection.pong(pdu));
    const task: ScsiTask = { lun: LUN_ONE, cdb: read(0, 1), dataIn: Buffer.alloc(512), onDone: () => undefined };
    fixture.session.execute(task);
    const asking = fixture.session.queryTask(task);
    await expect(settle(fixture.clock, asking)).rejects.toMatchObject({ code: "SESSION_PROTOCOL" });
    const resetting = fixture.session.taskManagement({ function: "target-warm-reset" });
    await expect(settle(fixture.clock, resetting)).rejects.toMatchObject({ code: "SESSION_PROTOCOL" });
  });
});

describe("FastAbort (RFC 7143 §4.2.3.4, §11.9.1)", () => {
  const termination: Omit<AsyncMessagePdu, "statSn" | "expCmdSn" | "maxCmdSn"> = {
    type: "async-message",
    lun: LUN_ONE,
    asyncEvent: AsyncEvent.fastAbort,
    asyncVCode: 0,
    parameter1: 0,
    parameter2: 0,
    parameter3: 0,
    data: Buffer.alloc(0),
  };

  test.each([0, 1] as const)(
    "task termination is acknowledged by a NOP-Out that is no ping; the tasks are aborted and fail (level %i)",
    async (errorRecoveryLevel) => {
      const fixture = await open({ errorRecoveryLevel, offers: { taskReporting: ["FastAbort"] } });
      const affected = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
      const other = execute(fixture.session, { lun: LUN_ZERO, cdb: read(0, 1), dataIn: Buffer.alloc(512) });
      await fixture.clock.advance(1);
      const { connection } = fixture.target;
      const { statSn } = connection;
      connection.send(termination);
      expect(await settle(fixture.clock, affected.done)).toMatchObject({ error: { retry: "same-path" } });
      const [acknowledgment] = connection.ofType("nop-out");
      expect(acknowledgment).toMatchObject({
        initiatorTaskTag: RESERVED_TAG,
        targetTransferTag: RESERVED_TAG,
        lun: LUN_ONE,
        isImmediate: true,
        expStatSn: statSn + 1,
      });
      expect(connection.ofType("task-management-request")).toMatchObject([{ function: 1 }]);
      expect(other.results).toHaveLength(0);
    },
  );

  test("without the agreement it is a protocol error", async () => {
    const fixture = await open();
    fixture.target.connection.send(termination);
    await fixture.clock.advance(5_000);
    expect(fixture.events.find(({ kind }) => kind === "disconnected")).toMatchObject({
      reason: { code: "SESSION_PROTOCOL" },
    });
  });

  test.each([248, 255])("event %i is the vendor's: told, and nothing else", async (asyncEvent) => {
    const fixture = await open();
    fixture.target.connection.send({ ...termination, asyncEvent, asyncVCode: 9 });
    await fixture.clock.advance(10);
    expect(fixture.events).toMatchObject([{ kind: "async-message", event: asyncEvent, vendorCode: 9 }]);
    expect(fixture.session.state).toBe("ready");
  });

  test("an event that nobody has assigned is a protocol error", async () => {
    const fixture = await open();
    fixture.target.connection.send({ ...termination, asyncEvent: 77 });
    await fixture.clock.advance(10);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
  });
});

describe("coming back", () => {
  test("to another portal group: a unit that cannot be reset is waited for (§7.1.4.4)", async () => {
    const fixture = await open({}, (connection, pdu) => connection.managed(pdu, 5));
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    Object.assign(fixture.target.options, { portalGroupTag: 4 });
    fixture.target.connection.close();
    await fixture.clock.advance(10_000);
    expect(fixture.target.connection.ofType("task-management-request")[0]).toMatchObject({
      function: TaskManagementFunction.logicalUnitReset,
    });
    fixture.target.connection.respond(fixture.target.connection.ofType("scsi-command").at(-1)!);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  });

  test("no more often than allowed: then the session is closed", async () => {
    const fixture = await open({ maxReconnectAttempts: 3 });
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    fixture.target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    await fixture.clock.advance(1);
    fixture.target.connection.close();
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_CLOSED" } });
    expect(fixture.events.filter(({ kind }) => kind === "reconnect-failed")).toHaveLength(3);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "closed", reason: { code: "SESSION_UNAVAILABLE" } });
    expect(fixture.session.state).toBe("closed");
  });

  test("portals that the target advertised later are tried too", async () => {
    const fixture = await open({ timers: { nopIntervalMs: 0 } });
    fixture.session.setAdvertisedPortals([{ host: "elsewhere", port: 3260 }]);
    fixture.network.setBlackHole({ kind: "tcp", host: "target", port: 3260 }, true);
    fixture.target.connection.close();
    await fixture.clock.advance(40_000);
    const failures = fixture.events.flatMap((event) => (event.kind === "reconnect-failed" ? [event.portal.host] : []));
    expect(new Set(failures)).toEqual(new Set(["target", "elsewhere"]));
  });
});
