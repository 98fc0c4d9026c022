import type { ConnectionPolicy } from "../../../src/session/connection-policy.js";
import { ConnectionSelector } from "../../../src/session/connection-policy.js";
import type { SessionOptions } from "../../../src/session/session-options.js";
import { AsyncEvent, LogoutReason } from "../../../src/wire/constants.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import { LUN_ONE, type OpenedSession, execute, openSession, read, settle } from "../../support/session-fixture.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";

const PORTAL = { host: "target", port: 3260 };
const block = Buffer.alloc(512, 0x61);

function keepHouse(connection: ScriptedConnection, pdu: Pdu): void {
  if (pdu.type === "nop-out") connection.pong(pdu);
  if (pdu.type === "logout-request") connection.loggedOut(pdu);
}

async function open(
  session: Partial<SessionOptions>,
  keys: Readonly<Record<string, string>> = {},
): Promise<OpenedSession> {
  const fixture = await openSession({ target: { keys, onPdu: keepHouse }, session });
  await fixture.clock.advance(10);
  return fixture;
}

/** Sends `count` reads and says how many each connection got, in the order of their CIDs. */
async function spread(fixture: OpenedSession, count: number): Promise<number[]> {
  const connections = [...fixture.target.connections].filter((c) => !c.isClosed).sort((a, b) => a.cid - b.cid);
  const before = connections.map((connection) => connection.ofType("scsi-command").length);
  for (let index = 0; index < count; index += 1) {
    execute(fixture.session, { cdb: read(index, 1), dataIn: Buffer.alloc(512) });
  }
  await fixture.clock.advance(1);
  return connections.map((connection, index) => connection.ofType("scsi-command").length - before[index]!);
}

describe("several connections in one session", () => {
  test("a planned connection joins with the session's ISID, TSIH and CmdSN, and its own CID", async () => {
    const fixture = await open({ additionalConnections: [{ portal: PORTAL }, { portal: PORTAL }] });
    const [leading, second, third] = fixture.target.connections;
    const { tsih } = fixture.session.status();
    for (const [connection, cid] of [
      [second, 1],
      [third, 2],
    ] as const) {
      expect(connection!.logins[0]).toMatchObject({ tsih, cid, isid: leading!.logins[0]!.isid, cmdSn: 1 });
      expect(connection!.logins.map(({ data }) => data.toString()).join()).not.toMatch(
        /MaxConnections|SessionType|ErrorRecoveryLevel/,
      );
    }
    expect(leading!.logins.map(({ data }) => data.toString()).join()).toContain("MaxConnections=3");
  });

  test("one command window over all of them: numbers go up in order on each, none is used twice", async () => {
    const fixture = await open({ additionalConnections: [{ portal: PORTAL }] });
    expect(await spread(fixture, 9)).toEqual([expect.any(Number), expect.any(Number)]);
    const perConnection = fixture.target.connections.map((c) => c.ofType("scsi-command").map(({ cmdSn }) => cmdSn));
    for (const numbers of perConnection) expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(perConnection.flat().sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("the window is the session's: it closes for all of them at once", async () => {
    const fixture = await openSession({
      target: { windowSize: 4, onPdu: keepHouse },
      session: { additionalConnections: [{ portal: PORTAL }] },
    });
    await fixture.clock.advance(10);
    expect((await spread(fixture, 9)).reduce((sum, count) => sum + count)).toBe(4);
    expect(fixture.session.status()).toMatchObject({ commandsInFlight: 4, commandsQueued: 5 });
  });

  test("never more than the target admits", async () => {
    const plans = [{ portal: PORTAL }, { portal: PORTAL }, { portal: PORTAL }];
    const fixture = await open({ additionalConnections: plans }, { MaxConnections: "2" });
    await fixture.clock.advance(60_000);
    expect(fixture.session.status().connections).toHaveLength(2);
    await expect(settle(fixture.clock, fixture.session.addConnection({ portal: PORTAL }))).rejects.toMatchObject({
      code: "SESSION_CONNECTION_LIMIT",
    });
  });

  test("a portal of another portal group does not join (§6.3.1)", async () => {
    const fixture = await open({ maxConnections: 2 });
    Object.assign(fixture.target.options, { portalGroupTag: 9 });
    const adding = fixture.session.addConnection({ portal: PORTAL });
    await expect(settle(fixture.clock, adding)).rejects.toMatchObject({ code: "LOGIN_PORTAL_GROUP_MISMATCH" });
    expect(fixture.session.status().connections).toHaveLength(1);
  });

  test("a task's PDUs over another connection are a protocol error (§4.2.5.1)", async () => {
    const fixture = await open({ additionalConnections: [{ portal: PORTAL }] });
    await spread(fixture, 1);
    const [a, b] = fixture.target.connections;
    const [from, to] = a!.ofType("scsi-command").length > 0 ? [a!, b!] : [b!, a!];
    to.dataIn(from.ofType("scsi-command")[0]!, { data: block, status: 0 });
    await fixture.clock.advance(1);
    expect(to.isClosed).toBe(true);
  });
});

describe("adding and removing while commands flow", () => {
  test("an added connection carries commands; a removed one is drained, logged out and made no more", async () => {
    const fixture = await open({ maxConnections: 4 });
    await spread(fixture, 3);
    expect(await settle(fixture.clock, fixture.session.addConnection({ portal: PORTAL }))).toBe(1);
    expect((await spread(fixture, 4))[1]).toBe(2);
    const [leading, second] = fixture.target.connections;
    const removal = fixture.session.removeConnection(1);
    await fixture.clock.advance(100);
    expect(second!.ofType("logout-request")).toHaveLength(0);
    for (const command of second!.ofType("scsi-command")) second!.dataIn(command, { data: block, status: 0 });
    await settle(fixture.clock, removal);
    expect(second!.ofType("logout-request")).toMatchObject([{ reason: LogoutReason.closeConnection, cid: 1 }]);
    expect(await spread(fixture, 2)).toEqual([2]);
    await fixture.clock.advance(60_000);
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0]);
    expect(leading!.isClosed).toBe(false);
    const kinds = fixture.events.map(({ kind }) => kind).filter((kind) => kind.startsWith("connection-"));
    expect(kinds).toEqual(["connection-added", "connection-removed"]);
  });

  test("the leading one may go, the last one may not", async () => {
    const fixture = await open({ additionalConnections: [{ portal: PORTAL }] });
    await settle(fixture.clock, fixture.session.removeConnection(0));
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([1]);
    await expect(settle(fixture.clock, fixture.session.removeConnection(1))).rejects.toMatchObject({
      code: "SESSION_CONNECTION_LAST",
    });
    await expect(settle(fixture.clock, fixture.session.removeConnection(7))).rejects.toMatchObject({
      code: "SESSION_CONNECTION_UNKNOWN",
    });
    expect((await spread(fixture, 1))[0]).toBe(1);
  });

  test("what a removed connection did not finish in time goes on over the others", async () => {
    const fixture = await open({ additionalConnections: [{ portal: PORTAL }], policy: "least-queue-depth" });
    await spread(fixture, 2);
    const removal = fixture.session.removeConnection(1);
    await settle(fixture.clock, removal);
    await fixture.clock.advance(10);
    const [leading] = fixture.target.connections;
    expect(leading!.ofType("scsi-command")).toHaveLength(2);
    expect(fixture.session.status().commandsInFlight).toBe(2);
  });

  test("nothing stays when the session is closed while a connection joins", async () => {
    const fixture = await open({ maxConnections: 2 });
    const adding = fixture.session.addConnection({ portal: PORTAL });
    adding.catch(() => undefined);
    fixture.session.close();
    await expect(settle(fixture.clock, adding)).rejects.toMatchObject({ layer: expect.any(String) as string });
    await fixture.clock.advance(60_000);
    expect(fixture.network.links).toHaveLength(0);
    expect(fixture.clock.pendingTimers).toBe(0);
  });
});

describe("policies", () => {
  const plans = [{ portal: PORTAL }, { portal: PORTAL, isStandby: true, weight: -1 }];

  test.each<[ConnectionPolicy, number[]]>([
    ["fail-over-only", [6, 0, 0]],
    ["round-robin", [2, 2, 2]],
    ["round-robin-subset", [3, 3, 0]],
    ["weighted-path", [0, 0, 6]],
    ["least-queue-depth", [2, 2, 2]],
  ])("%s spreads six commands as it should", async (policy, expected) => {
    const fixture = await open({ additionalConnections: plans, policy });
    expect(await spread(fixture, 6)).toEqual(expected);
  });

  test("can be changed while commands flow", async () => {
    const fixture = await open({ additionalConnections: plans, policy: "fail-over-only" });
    expect(await spread(fixture, 4)).toEqual([4, 0, 0]);
    fixture.session.setPolicy("weighted-path");
    expect(await spread(fixture, 4)).toEqual([0, 0, 4]);
    expect(fixture.session.status().policy).toBe("weighted-path");
  });

  test("fail-over-only goes back to the preferred connection when it is there again", async () => {
    const fixture = await open(
      { additionalConnections: [{ portal: PORTAL }], policy: "fail-over-only" },
      { DefaultTime2Wait: "2" },
    );
    fixture.target.connections[0]!.close();
    await fixture.clock.advance(50);
    await spread(fixture, 1);
    expect(fixture.target.connections[1]!.ofType("scsi-command")).toHaveLength(1);
    await fixture.clock.advance(10_000);
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0, 1]);
    expect(await spread(fixture, 2)).toEqual([2, 0]);
  });

  test("the standby ones of a subset serve while no active one lives", () => {
    const selector = new ConnectionSelector("round-robin-subset");
    const standby = [
      { rank: 1, weight: 0, isStandby: true, inFlight: 0 },
      { rank: 2, weight: 0, isStandby: true, inFlight: 0 },
    ];
    expect(new Set([selector.choose(standby), selector.choose(standby)])).toEqual(new Set(standby));
  });
});

describe("the target speaks to one of several connections", () => {
  test("a logout that it asks for closes that connection alone, and it comes back", async () => {
    const fixture = await open({ additionalConnections: [{ portal: PORTAL }] });
    const second = fixture.target.connections[1]!;
    second.send({
      type: "async-message",
      lun: LUN_ZERO,
      asyncEvent: AsyncEvent.logoutRequested,
      asyncVCode: 0,
      parameter1: 0,
      parameter2: 0,
      parameter3: 10,
      data: Buffer.alloc(0),
    });
    await fixture.clock.advance(100);
    expect(second.ofType("logout-request")).toMatchObject([{ reason: LogoutReason.closeConnection, cid: 1 }]);
    await fixture.clock.advance(5_000);
    expect(fixture.session.status()).toMatchObject({ reconnects: 0, state: "ready" });
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0, 1]);
  });

  test("an answer to a task that a reset has ended, late over another connection, does no harm (§4.2.2.3)", async () => {
    const fixture = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type === "task-management-request") connection.managed(pdu);
        },
      },
      session: { additionalConnections: [{ portal: PORTAL }] },
    });
    await fixture.clock.advance(10);
    const executions = [0, 1].map((lba) => execute(fixture.session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) }));
    await fixture.clock.advance(1);
    await settle(fixture.clock, fixture.session.taskManagement({ function: "lun-reset", lun: LUN_ONE }));
    for (const { done } of executions) {
      expect(await settle(fixture.clock, done)).toMatchObject({ error: { code: "SESSION_TASK_ABORTED" } });
    }
    for (const connection of fixture.target.connections) {
      connection.dataIn(connection.ofType("scsi-command")[0]!, { data: block, status: 0 });
    }
    await fixture.clock.advance(10);
    expect(fixture.target.connections.every(({ isClosed }) => !isClosed)).toBe(true);
    expect(executions.every(({ results }) => results.length === 1)).toBe(true);
  });

  test("each silent connection is found by its own ping, the others go on", async () => {
    const fixture = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (connection.cid === 0) keepHouse(connection, pdu);
        },
      },
      session: { additionalConnections: [{ portal: PORTAL }] },
    });
    await fixture.clock.advance(15_000);
    expect(fixture.events.find(({ kind }) => kind === "connection-lost")).toMatchObject({
      cid: 1,
      reason: { code: "SESSION_TIMEOUT" },
    });
    expect(fixture.target.connections[0]!.isClosed).toBe(false);
  });
});

test("a reset over one connection gives a buffer back while a Data-In fills it over another: nothing more is written into it", async () => {
  const fixture = await openSession({
    target: {
      onPdu: (connection, pdu) => {
        if (pdu.type === "task-management-request") connection.managed(pdu);
      },
    },
    session: { additionalConnections: [{ portal: PORTAL, weight: -1 }], policy: "weighted-path" },
  });
  await fixture.clock.advance(10);
  const dataIn = Buffer.alloc(512);
  const execution = execute(fixture.session, { cdb: read(0, 1), dataIn });
  await fixture.clock.advance(1);
  // The reset goes over the session's first connection, the data comes over the other one.
  const carrier = fixture.target.connections[1]!;
  const [command] = carrier.ofType("scsi-command");
  const bytes = carrier.capture(() => carrier.dataIn(command!, { data: Buffer.alloc(512, 0xee), status: 0 }));
  carrier.sendBytes([bytes.subarray(0, 100)]);
  await fixture.clock.advance(1);
  await settle(fixture.clock, fixture.session.taskManagement({ function: "lun-reset", lun: LUN_ONE }));
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_TASK_ABORTED" } });
  dataIn.fill(0x11);
  carrier.sendBytes([bytes.subarray(100)]);
  await fixture.clock.advance(1);
  expect(dataIn.equals(Buffer.alloc(512, 0x11))).toBe(true);
  expect(fixture.target.connections.every(({ isClosed }) => !isClosed)).toBe(true);
});

test("a place that had no room is filled when another connection is removed", async () => {
  const plans = [{ portal: PORTAL }, { portal: PORTAL }];
  const fixture = await open({ additionalConnections: plans }, { MaxConnections: "2" });
  expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0, 1]);
  await settle(fixture.clock, fixture.session.removeConnection(1));
  await fixture.clock.advance(1_000);
  expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0, 2]);
});
