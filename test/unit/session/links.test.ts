import { MAX_CONNECTIONS_PER_SESSION } from "../../../src/base/limits.js";
import { AppError } from "../../../src/base/errors.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { Session } from "../../../src/session/session.js";
import type { SessionOptions } from "../../../src/session/session-options.js";
import { AsyncEvent, LogoutReason } from "../../../src/wire/constants.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import type { ScriptedConnection, ScriptedPdu } from "../../support/scripted-target.js";
import {
  LUN_ONE,
  type OpenedSession,
  createFixture,
  execute,
  openSession,
  read,
  settle,
  write,
} from "../../support/session-fixture.js";

const PORTAL = { host: "target", port: 3260 };
const block = Buffer.alloc(512, 0x61);

function keepHouse(connection: ScriptedConnection, pdu: Pdu): void {
  if (pdu.type === "nop-out") connection.pong(pdu);
  if (pdu.type === "logout-request") connection.loggedOut(pdu);
  if (pdu.type === "task-management-request") connection.managed(pdu);
}

async function open(
  session: Partial<SessionOptions> = {},
  onPdu: (connection: ScriptedConnection, pdu: Pdu) => void = keepHouse,
  keys: Readonly<Record<string, string>> = {},
): Promise<OpenedSession> {
  const fixture = await openSession({ target: { keys, onPdu }, session });
  await fixture.clock.advance(10);
  return fixture;
}

const two = { additionalConnections: [{ portal: PORTAL }] };

function asyncMessage(asyncEvent: number, more: Partial<ScriptedPdu> = {}): ScriptedPdu {
  return {
    type: "async-message",
    lun: LUN_ZERO,
    asyncEvent,
    asyncVCode: 0,
    parameter1: 0,
    parameter2: 0,
    parameter3: 0,
    data: Buffer.alloc(0),
    ...more,
  } as ScriptedPdu;
}

async function readEach(fixture: OpenedSession, count = 2): Promise<void> {
  for (let lba = 0; lba < count; lba += 1) {
    execute(fixture.session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) });
  }
  await fixture.clock.advance(1);
}

describe("removing a connection while the world changes", () => {
  test("it is lost meanwhile: then it is gone, and not made again", async () => {
    const fixture = await open(two, keepHouse, { DefaultTime2Wait: "1" });
    await readEach(fixture);
    const removal = fixture.session.removeConnection(1);
    await fixture.clock.advance(100);
    fixture.target.connections[1]!.close();
    await settle(fixture.clock, removal);
    await fixture.clock.advance(30_000);
    expect(fixture.target.connections[1]!.ofType("logout-request")).toHaveLength(0);
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0]);
  });

  test("the others are lost meanwhile: the last one stays and is used", async () => {
    const fixture = await open(two, keepHouse, { DefaultTime2Wait: "30" });
    await readEach(fixture);
    const removal = fixture.session.removeConnection(1);
    await fixture.clock.advance(100);
    fixture.target.connections[0]!.close();
    const second = fixture.target.connections[1]!;
    second.dataIn(second.ofType("scsi-command")[0]!, { data: block, status: 0 });
    await expect(settle(fixture.clock, removal)).rejects.toMatchObject({ code: "SESSION_CONNECTION_LAST" });
    const execution = execute(fixture.session, { cdb: read(9, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    expect(second.ofType("scsi-command").at(-1)!.cdb[5]).toBe(9);
    expect(execution.results).toEqual([]);
  });

  test("the target refuses the logout: the connection is given up all the same, and the caller is told", async () => {
    const fixture = await open(two, (connection, pdu) => {
      if (pdu.type === "logout-request" && connection.cid === 1) connection.loggedOut(pdu, 3);
      else keepHouse(connection, pdu);
    });
    await expect(settle(fixture.clock, fixture.session.removeConnection(1))).rejects.toMatchObject({
      code: "SESSION_LOGOUT_FAILED",
    });
    await fixture.clock.advance(100);
    expect(fixture.target.connections[1]!.isClosed).toBe(true);
    expect(fixture.session.state).toBe("ready");
  });

  test("the target closes the connection instead of answering: the others say the logout", async () => {
    const fixture = await open(two, (connection, pdu) => {
      if (pdu.type === "logout-request" && connection.cid === 1) connection.close();
      else keepHouse(connection, pdu);
    });
    await expect(settle(fixture.clock, fixture.session.removeConnection(1))).rejects.toMatchObject({
      code: "SESSION_CONNECTION_LOST",
    });
    await fixture.clock.advance(20_000);
    expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 0 });
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0]);
    expect(fixture.target.connections[0]!.ofType("logout-request")).toMatchObject([
      { reason: LogoutReason.closeConnection, cid: 1 },
    ]);
  });
});

describe("the end of a session with several connections", () => {
  test("a connection that is lost during the logout changes nothing; the second logout waits for nothing", async () => {
    const fixture = await open(two, () => undefined);
    const logout = fixture.session.logout();
    logout.catch(() => undefined);
    await fixture.clock.advance(1);
    await fixture.session.logout();
    fixture.target.connections[1]!.close();
    await fixture.clock.advance(1);
    expect(fixture.session.state).toBe("closing");
    const first = fixture.target.connections[0]!;
    first.loggedOut(first.ofType("logout-request")[0]!);
    await settle(fixture.clock, logout);
    await fixture.session.logout();
    expect(fixture.session.state).toBe("closed");
    expect(fixture.clock.pendingTimers).toBe(0);
  });

  test("all are lost during the logout: it is over", async () => {
    const fixture = await open(two, () => undefined);
    const logout = fixture.session.logout();
    logout.catch(() => undefined);
    await fixture.clock.advance(1);
    for (const connection of fixture.target.connections) connection.close();
    await expect(settle(fixture.clock, logout)).rejects.toMatchObject({ layer: "session" });
    expect(fixture.session.state).toBe("closed");
    expect(fixture.target.connections).toHaveLength(2);
  });

  test("a discovery session that the target ends is not made again", async () => {
    const fixture = await open({ sessionType: "Discovery" });
    fixture.target.connection.send(asyncMessage(AsyncEvent.allConnectionsWillDrop));
    await fixture.clock.advance(60_000);
    expect(fixture.session.state).toBe("closed");
    expect(fixture.target.connections).toHaveLength(1);
    expect(fixture.clock.pendingTimers).toBe(0);
  });
});

describe("requests of the target that come twice, late or early", () => {
  test("a second wish for a logout does not begin a second one", async () => {
    const fixture = await open();
    execute(fixture.session, {});
    await fixture.clock.advance(1);
    for (const seconds of [10, 10]) {
      fixture.target.connection.send(asyncMessage(AsyncEvent.logoutRequested, { parameter3: seconds }));
    }
    await fixture.clock.advance(6_000);
    expect(fixture.target.connections[0]!.ofType("logout-request")).toHaveLength(1);
  });

  test("a connection that is lost before its tasks have ended is not logged out", async () => {
    const fixture = await open(two);
    await readEach(fixture);
    const second = fixture.target.connections[1]!;
    second.send(asyncMessage(AsyncEvent.logoutRequested, { parameter3: 10 }));
    await fixture.clock.advance(100);
    second.close();
    await fixture.clock.advance(30_000);
    expect(second.ofType("logout-request")).toHaveLength(0);
    expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 0 });
  });

  test("a connection that the target closes instead of answering the logout it asked for comes back once", async () => {
    const fixture = await open(two, (connection, pdu) => {
      if (pdu.type === "logout-request") connection.close();
      else keepHouse(connection, pdu);
    });
    fixture.target.connections[1]!.send(asyncMessage(AsyncEvent.logoutRequested, { parameter3: 10 }));
    await fixture.clock.advance(1_000);
    const lost = fixture.events.filter(({ kind }) => kind === "connection-lost");
    expect(lost).toHaveLength(1);
  });

  test("the announcement of a drop in the same breath as the login answer is a failed login", async () => {
    const fixture = await createFixture({});
    fixture.target.onLoggedIn = (connection) => connection.send(asyncMessage(AsyncEvent.allConnectionsWillDrop));
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ code: "SESSION_CONNECTION_LOST" });
    expect(fixture.clock.pendingTimers).toBe(0);
  });
});

describe("giving all up", () => {
  const reason = new AppError("initiator", "NOT_TRUSTED", "its owner does not trust it");

  test("twice is once, while nothing is kept", async () => {
    const fixture = await open();
    fixture.session.reconnect(reason);
    fixture.session.reconnect(reason);
    await fixture.clock.advance(5_000);
    expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 1 });
  });

  test("what the target keeps is not taken up any more", async () => {
    const fixture = await open({ errorRecoveryLevel: 2 }, keepHouse, {
      DefaultTime2Wait: "2",
      DefaultTime2Retain: "20",
    });
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    fixture.target.connection.close();
    await fixture.clock.advance(100);
    fixture.session.reconnect(reason);
    await fixture.clock.advance(5_000);
    expect(fixture.target.connections[1]!.logins[0]).toMatchObject({ tsih: 0 });
    fixture.target.connection.respond(fixture.target.connection.ofType("scsi-command")[0]!);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
  });

  test("a login that takes the session up is not used when the session is given up meanwhile", async () => {
    const fixture = await open(
      { errorRecoveryLevel: 2, timers: { reconnectLimitMs: 5_000, connectTimeoutMs: 10_000 } },
      keepHouse,
      { DefaultTime2Wait: "1", DefaultTime2Retain: "20" },
    );
    const written = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    let isReached = false;
    fixture.target.onLoggedIn = () => {
      if (isReached) return;
      isReached = true;
      fixture.session.reconnect(reason);
    };
    fixture.target.connection.close();
    await fixture.clock.advance(10_000);
    expect(isReached).toBe(true);
    const [, joined, fresh] = fixture.target.connections;
    expect(joined!.logins[0]!.tsih).not.toBe(0);
    expect(joined!.received).toEqual([]);
    expect(joined!.isClosed).toBe(true);
    expect(fresh!.logins[0]).toMatchObject({ tsih: 0 });
    fresh!.respond(fresh!.ofType("scsi-command")[0]!);
    expect(await settle(fixture.clock, written.done)).toMatchObject({ kind: "status", status: 0 });
    expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 1 });
  });
});

describe("joining", () => {
  test("never more than a session may have, whatever the target admits", async () => {
    const plans = Array.from({ length: MAX_CONNECTIONS_PER_SESSION - 1 }, () => ({ portal: PORTAL }));
    const fixture = await open({ additionalConnections: plans }, keepHouse, { MaxConnections: "1" });
    await expect(settle(fixture.clock, fixture.session.addConnection({ portal: PORTAL }))).rejects.toMatchObject({
      code: "SESSION_CONNECTION_LIMIT",
    });
  });

  test("a session that is lost meanwhile is not joined, nor one that is lost while a guard looks", async () => {
    for (const isGuarded of [false, true]) {
      const fixture = await open({ maxConnections: 2 }, keepHouse, { DefaultTime2Wait: "1" });
      const [leading] = fixture.target.connections;
      if (isGuarded) {
        fixture.session.addGuard({
          lun: LUN_ONE,
          verify: () => {
            leading!.close();
            return new Promise((resolve) => fixture.clock.setTimer(10, () => resolve({ kind: "accepted" })));
          },
        });
      } else fixture.target.onLoggedIn = () => leading!.close();
      const adding = fixture.session.addConnection({ portal: PORTAL });
      await expect(settle(fixture.clock, adding)).rejects.toMatchObject({ layer: "session" });
      fixture.session.close();
    }
  });

  test("a guard with a mistake in it: the connection is closed and the mistake comes out", async () => {
    const fixture = await open({ maxConnections: 2 });
    const mistake = new TypeError("x is undefined");
    fixture.session.addGuard({ lun: LUN_ONE, verify: () => Promise.reject(mistake) });
    await expect(settle(fixture.clock, fixture.session.addConnection({ portal: PORTAL }))).rejects.toBe(mistake);
    expect(fixture.target.connections[1]!.isClosed).toBe(true);
    expect(fixture.session.state).toBe("ready");
  });

  test("a portal that is down is tried again with growing pauses, and told once", async () => {
    const down = { host: "nowhere", port: 3260 };
    const fixture = await open({ additionalConnections: [{ portal: down, localAddress: "10.0.0.9" }] });
    await fixture.clock.advance(60_000);
    expect(fixture.session.status()).toMatchObject({ state: "ready", connections: [{ cid: 0 }] });
    fixture.session.close();
    await fixture.clock.advance(60_000);
    expect(fixture.clock.pendingTimers).toBe(0);
  });
});

describe("resets over several connections", () => {
  test("a late answer of a neighbour that a reset has ended is expected, and dropped", async () => {
    const fixture = await open(
      { ...two, timers: { taskTimeoutMs: 5_000, abortTimeoutMs: 2_000 } },
      (connection, pdu) => {
        if (pdu.type === "task-management-request") connection.managed(pdu, pdu.function === 1 ? 5 : 0);
        else keepHouse(connection, pdu);
      },
    );
    const slow = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    execute(fixture.session, { cdb: read(1, 1), dataIn: Buffer.alloc(512), timeoutMs: 60_000 });
    await fixture.clock.advance(1);
    const [holder] = fixture.target.connections.filter((c) => c.ofType("scsi-command").some(({ cdb }) => cdb[5] === 1));
    const [neighbour] = holder!.ofType("scsi-command");
    await fixture.clock.advance(7_000);
    expect(slow.results).toMatchObject([{ error: { code: "SESSION_TASK_TIMEOUT" } }]);
    holder!.respond(neighbour!);
    await fixture.clock.advance(10);
    expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 0, reissuedTasks: 1 });
    expect(holder!.isClosed).toBe(false);
  });

  test("a target reset ends the climb; a task that is answered on the way is left alone", async () => {
    const timers = {
      taskTimeoutMs: 5_000,
      abortTimeoutMs: 2_000,
      lunResetTimeoutMs: 2_000,
      targetResetTimeoutMs: 2_000,
    };
    for (const answeredAt of [undefined, 5, 6]) {
      const fixture = await open({ timers }, (connection, pdu) => {
        if (pdu.type === "nop-out") connection.pong(pdu);
        if (pdu.type !== "task-management-request") return;
        if (pdu.function === answeredAt) connection.respond(connection.ofType("scsi-command")[0]!);
        connection.managed(pdu, answeredAt === undefined && pdu.function === 6 ? 0 : 5);
      });
      const execution = execute(fixture.session, {});
      await fixture.clock.advance(8_000);
      const steps = fixture.target.connections[0]!.ofType("task-management-request").map((pdu) => pdu.function);
      expect(steps).toEqual(answeredAt === 5 ? [1, 5] : [1, 5, 6]);
      expect(execution.results).toMatchObject([
        answeredAt === undefined ? { error: { code: "SESSION_TASK_TIMEOUT" } } : { kind: "status", status: 0 },
      ]);
      expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 0 });
      fixture.session.close();
    }
  });
});
