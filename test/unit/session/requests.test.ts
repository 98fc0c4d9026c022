import { lunFromNumber } from "../../../src/base/lun.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import { decodeTextKeys, encodeTextKeys } from "../../../src/wire/text-keys.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";
import { LUN_ONE, execute, openSession, sense, settle } from "../../support/session-fixture.js";

const NO_DATA = Buffer.alloc(0);
const RESERVED = 0xffff_ffff;

function answerPing(connection: ScriptedConnection, pdu: Pdu): void {
  if (pdu.type !== "nop-out" || pdu.initiatorTaskTag === RESERVED) return;
  connection.send({
    type: "nop-in",
    lun: pdu.lun,
    initiatorTaskTag: pdu.initiatorTaskTag,
    targetTransferTag: RESERVED,
    data: NO_DATA,
  });
}

function answerManagement(response: number) {
  return (connection: ScriptedConnection, pdu: Pdu): void => {
    if (pdu.type !== "task-management-request") return;
    connection.send({
      type: "task-management-response",
      response,
      initiatorTaskTag: pdu.initiatorTaskTag,
      additionalResponse: 0,
    });
  };
}

function answerLogout(response: number, time2Wait = 0) {
  return (connection: ScriptedConnection, pdu: Pdu): void => {
    if (pdu.type !== "logout-request") return;
    connection.send({
      type: "logout-response",
      response,
      initiatorTaskTag: pdu.initiatorTaskTag,
      time2Wait,
      time2Retain: 0,
    });
  };
}

describe("NOP", () => {
  test("a ping is immediate: it carries the next CmdSN and does not use it", async () => {
    const { session, target, clock } = await openSession({ target: { onPdu: answerPing } });
    await settle(clock, session.nop());
    execute(session, {});
    await clock.advance(1);
    const [ping] = target.connection.ofType("nop-out");
    expect(ping).toMatchObject({ isImmediate: true, targetTransferTag: RESERVED });
    expect(target.connection.ofType("scsi-command")[0]?.cmdSn).toBe(ping?.cmdSn);
  });

  test("an idle target is pinged, and one that answers is kept", async () => {
    const { session, target, clock } = await openSession({ target: { onPdu: answerPing } });
    await clock.advance(60_000);
    expect(target.connections).toHaveLength(1);
    expect(target.connection.ofType("nop-out").length).toBeGreaterThan(5);
    expect(session.state).toBe("ready");
  });

  test("a target that does not answer a ping is given up", async () => {
    const { target, clock, events } = await openSession();
    await clock.advance(9_000);
    expect(events).toEqual([]);
    await clock.advance(4_000);
    expect(events[0]).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_TIMEOUT" } });
    expect(target.connections.length).toBeGreaterThan(1);
  });

  test("the target's own ping is answered with its tag and LUN, without a tag of ours (RFC 7143 §11.18)", async () => {
    const { target, clock } = await openSession();
    const lun = lunFromNumber(3);
    const before = target.connection.statSn;
    target.connection.send({
      type: "nop-in",
      lun,
      initiatorTaskTag: RESERVED,
      targetTransferTag: 0x77,
      data: NO_DATA,
    });
    await clock.advance(1);
    expect(target.connection.ofType("nop-out")).toMatchObject([
      { isImmediate: true, initiatorTaskTag: RESERVED, targetTransferTag: 0x77, lun, expStatSn: before },
    ]);
  });

  test("a NOP-In that asks for nothing is not answered", async () => {
    const { target, clock } = await openSession();
    target.connection.send({
      type: "nop-in",
      lun: LUN_ONE,
      initiatorTaskTag: RESERVED,
      targetTransferTag: RESERVED,
      data: NO_DATA,
    });
    await clock.advance(1);
    expect(target.connection.received).toEqual([]);
  });
});

describe("task management", () => {
  test.each([
    [{ function: "abort-task-set", lun: LUN_ONE }, 2],
    [{ function: "clear-aca", lun: LUN_ONE }, 3],
    [{ function: "clear-task-set", lun: LUN_ONE }, 4],
    [{ function: "lun-reset", lun: LUN_ONE }, 5],
    [{ function: "target-warm-reset" }, 6],
    [{ function: "target-cold-reset" }, 7],
  ] as const)("%o is function %i on the wire", async (request, code) => {
    const { session, target, clock } = await openSession({ target: { onPdu: answerManagement(0) } });
    await settle(clock, session.taskManagement(request));
    expect(target.connection.ofType("task-management-request")).toMatchObject([
      { function: code, isImmediate: true, referencedTaskTag: RESERVED, lun: "lun" in request ? LUN_ONE : { high: 0 } },
    ]);
  });

  test("tasks that it ended fail, those of other units go on", async () => {
    const { session, clock } = await openSession({ target: { onPdu: answerManagement(0) } });
    const mine = execute(session, {});
    const other = execute(session, { lun: lunFromNumber(2) });
    await clock.advance(1);
    await settle(clock, session.taskManagement({ function: "abort-task-set", lun: LUN_ONE }));
    expect(mine.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_TASK_ABORTED" } }]);
    expect(other.results).toEqual([]);
  });

  test("a refusal names its reason", async () => {
    const { session, clock } = await openSession({ target: { onPdu: answerManagement(5) } });
    await expect(settle(clock, session.taskManagement({ function: "lun-reset", lun: LUN_ONE }))).rejects.toMatchObject({
      code: "SESSION_TASK_MANAGEMENT_FAILED",
      message: "lun-reset failed: the function is not supported",
    });
  });
});

describe("text", () => {
  test("a long answer is followed with its tag until it is final", async () => {
    const parts = ["SendTar", "gets=x\0Targ", "etName=iqn.a\0"];
    let sent = 0;
    const { session, target, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type !== "text-request") return;
          const isLast = sent === parts.length - 1;
          connection.send({
            type: "text-response",
            isFinal: isLast,
            isContinued: !isLast,
            lun: pdu.lun,
            initiatorTaskTag: pdu.initiatorTaskTag,
            targetTransferTag: isLast ? RESERVED : 0x99,
            data: Buffer.from(parts[sent] ?? ""),
          });
          sent += 1;
        },
      },
    });
    const pairs = await settle(clock, session.text([["X-ask", "1"]]));
    expect(pairs).toEqual([
      ["SendTargets", "x"],
      ["TargetName", "iqn.a"],
    ]);
    const requests = target.connection.ofType("text-request");
    expect(requests.map((request) => request.targetTransferTag)).toEqual([RESERVED, 0x99, 0x99]);
    expect(new Set(requests.map((request) => request.initiatorTaskTag)).size).toBe(1);
    expect(requests.map((request) => request.data.length)).toEqual([8, 0, 0]);
  });

  test("a long request goes in segments the target takes, with the C bit", async () => {
    const { session, target, clock } = await openSession({
      target: {
        keys: { MaxRecvDataSegmentLength: "512" },
        onPdu: (connection, pdu) => {
          if (pdu.type !== "text-request") return;
          connection.send({
            type: "text-response",
            isFinal: pdu.isFinal,
            isContinued: false,
            lun: pdu.lun,
            initiatorTaskTag: pdu.initiatorTaskTag,
            targetTransferTag: pdu.isFinal ? RESERVED : 5,
            data: pdu.isFinal ? encodeTextKeys([["X-got", "all"]]) : NO_DATA,
          });
        },
      },
    });
    const pairs = Array.from({ length: 8 }, (_, index): [string, string] => [`X-key${index}`, "v".repeat(100)]);
    expect(await settle(clock, session.text(pairs))).toEqual([["X-got", "all"]]);
    const requests = target.connection.ofType("text-request");
    expect(requests.map(({ isContinued, isFinal }) => [isContinued, isFinal])).toEqual([
      [true, false],
      [false, true],
    ]);
    expect(decodeTextKeys(Buffer.concat(requests.map(({ data }) => data)))).toEqual(pairs);
  });

  test("an answer larger than the limit is refused", async () => {
    const { session, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type !== "text-request") return;
          connection.send({
            type: "text-response",
            isFinal: false,
            isContinued: true,
            lun: pdu.lun,
            initiatorTaskTag: pdu.initiatorTaskTag,
            targetTransferTag: 1,
            data: Buffer.alloc(1000, 0x41),
          });
        },
      },
    });
    await expect(settle(clock, session.text([], 5000))).rejects.toMatchObject({ code: "TEXT_TOO_LONG" });
  });
});

describe("logout", () => {
  test("closes the session at the target and then the connection", async () => {
    const { session, target, clock } = await openSession({ target: { onPdu: answerLogout(0) } });
    await settle(clock, session.logout());
    await clock.advance(10);
    expect(target.connection.ofType("logout-request")).toMatchObject([{ reason: 0, isImmediate: true }]);
    expect(target.connection.isClosed).toBe(true);
    expect(session.state).toBe("closed");
    expect(clock.pendingTimers).toBe(0);
  });

  test.each([1, 2, 3])("response %i is an error, and the connection is closed all the same", async (response) => {
    const { session, clock } = await openSession({ target: { onPdu: answerLogout(response) } });
    await expect(settle(clock, session.logout())).rejects.toMatchObject({
      code: "SESSION_LOGOUT_FAILED",
      details: { response },
    });
    expect(session.state).toBe("closed");
  });

  test("a target that does not answer is left after its time", async () => {
    const { session, clock } = await openSession();
    await expect(settle(clock, session.logout())).rejects.toMatchObject({ code: "SESSION_TIMEOUT" });
    expect(session.state).toBe("closed");
  });
});

describe("async messages (RFC 7143 §11.9.1)", () => {
  const message = (asyncEvent: number, more: object = {}) => ({
    type: "async-message" as const,
    lun: LUN_ONE,
    asyncEvent,
    asyncVCode: 0,
    parameter1: 0,
    parameter2: 0,
    parameter3: 0,
    data: NO_DATA,
    ...more,
  });

  test("0: sense is passed on", async () => {
    const { target, clock, events } = await openSession();
    const data = Buffer.concat([Buffer.from([0, 18]), sense(6, 0x2a, 9)]);
    target.connection.send(message(0, { data }));
    await clock.advance(1);
    expect(events).toEqual([{ kind: "scsi-event", lun: LUN_ONE, sense: sense(6, 0x2a, 9) }]);
  });

  test("1: logs out in time after the tasks, waits as told and comes back", async () => {
    const { session, target, clock } = await openSession({ target: { onPdu: answerLogout(0, 3) } });
    const running = execute(session, {});
    await clock.advance(1);
    target.connection.send(message(1, { parameter3: 10 }));
    await clock.advance(100);
    const held = execute(session, {});
    await clock.advance(100);
    expect(target.connection.ofType("scsi-command")).toHaveLength(1);
    expect(target.connection.ofType("logout-request")).toHaveLength(0);
    target.connection.respond(target.connection.ofType("scsi-command")[0]!);
    await clock.advance(100);
    expect(running.results).toMatchObject([{ kind: "status" }]);
    expect(target.connection.ofType("logout-request")).toHaveLength(1);
    await clock.advance(2_800);
    expect(target.connections).toHaveLength(1);
    await clock.advance(500);
    expect(target.connections).toHaveLength(2);
    target.connection.respond(target.connection.ofType("scsi-command")[0]!);
    expect(await settle(clock, held.done)).toMatchObject({ kind: "status" });
  });

  test("1: does not wait for tasks longer than half the time", async () => {
    const { session, target, clock } = await openSession({ target: { onPdu: answerLogout(0) } });
    execute(session, {});
    await clock.advance(1);
    target.connection.send(message(1, { parameter3: 4 }));
    await clock.advance(2_100);
    expect(target.connections[0]?.ofType("logout-request")).toHaveLength(1);
    await clock.advance(1_000);
    expect(target.connection.ofType("scsi-command")).toHaveLength(1);
  });

  test.each([2, 3])("%i: the connection is given up, Parameter2 is waited", async (event) => {
    const { target, clock } = await openSession();
    target.connection.send(message(event, { parameter2: 6, parameter3: 20 }));
    await clock.advance(5_900);
    expect(target.connections).toHaveLength(1);
    await clock.advance(400);
    expect(target.connections).toHaveLength(2);
  });

  test("2: about another connection is none of ours", async () => {
    const { target, clock, session } = await openSession();
    target.connection.send(message(2, { parameter1: 9 }));
    await clock.advance(100);
    expect(session.state).toBe("ready");
  });

  test("4: a text negotiation follows", async () => {
    const { target, clock } = await openSession();
    target.connection.send(message(4, { parameter3: 5 }));
    await clock.advance(1);
    expect(target.connection.ofType("text-request")).toHaveLength(1);
  });

  test("5, to which nobody agreed: a fresh session", async () => {
    const { target, clock, events } = await openSession();
    target.connection.send(message(5));
    await clock.advance(1);
    expect(events.at(-1)).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
  });
});

describe("Reject (RFC 7143 §7.3, §11.17)", () => {
  const reject = (reason: number, pdu: Pdu) => ({
    type: "reject" as const,
    reason,
    dataSnOrR2tSn: 0,
    data: Buffer.concat(encodePdu(pdu, { header: false, data: false })).subarray(0, 48),
  });

  test("a command that was not taken fails, and its CmdSN is used up by a NOP-Out", async () => {
    const { session, target, clock } = await openSession();
    const execution = execute(session, {});
    await clock.advance(1);
    const { connection } = target;
    const [command] = connection.ofType("scsi-command");
    connection.send({ ...reject(5, command!), expCmdSn: command!.cmdSn });
    expect(await settle(clock, execution.done)).toMatchObject({ error: { code: "SESSION_TASK_REJECTED" } });
    await clock.advance(1);
    expect(connection.ofType("nop-out")).toMatchObject([
      { isImmediate: false, cmdSn: command!.cmdSn, targetTransferTag: RESERVED },
    ]);
    expect(session.state).toBe("ready");
  });

  test("a task that was taken is decided by its response", async () => {
    const { session, target, clock } = await openSession();
    const execution = execute(session, {});
    await clock.advance(1);
    const [command] = target.connection.ofType("scsi-command");
    target.connection.send(reject(9, command!));
    await clock.advance(1);
    expect(execution.results).toEqual([]);
    target.connection.respond(command!, { status: 2, sense: sense(0xb, 0x47, 5) });
    expect(await settle(clock, execution.done)).toMatchObject({ kind: "status", status: 2 });
  });

  test("a data digest error ends the connection, and the task is repeated", async () => {
    const { session, target, clock, events } = await openSession();
    execute(session, { cdb: Buffer.alloc(10, 0x2a), dataOut: Buffer.alloc(512) });
    await clock.advance(1);
    target.connection.send(reject(2, target.connection.ofType("scsi-command")[0]!));
    await clock.advance(5_000);
    expect(events[0]).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_DIGEST" } });
    expect(target.connection.ofType("scsi-command")).toHaveLength(1);
  });

  test("a rejected request fails the one who asked, and nothing else", async () => {
    const { session, target, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type === "task-management-request") connection.send(reject(6, pdu));
        },
      },
    });
    await expect(settle(clock, session.taskManagement({ function: "lun-reset", lun: LUN_ONE }))).rejects.toMatchObject({
      code: "SESSION_TASK_REJECTED",
    });
    expect(session.state).toBe("ready");
    expect(target.connections).toHaveLength(1);
  });
});
