import { LogoutReason, TaskManagementFunction } from "../../../src/wire/constants.js";
import type { LogoutRequestPdu, Pdu, TaskManagementRequestPdu } from "../../../src/wire/pdu.js";
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

const PORTAL_PLAN = { portal: { host: "target", port: 3260 } };
const PORTAL = { host: "target", port: 3260 };
const block = Buffer.alloc(512, 0x61);
const keys = { DefaultTime2Wait: "1", DefaultTime2Retain: "20" };

/** Answers what belongs to the house-keeping; `onLogout` and `onReassign` decide the rest. */
function keepHouse(connection: ScriptedConnection, pdu: Pdu): void {
  if (pdu.type === "nop-out") connection.pong(pdu);
  if (pdu.type === "logout-request") connection.loggedOut(pdu);
  if (pdu.type === "task-management-request") connection.managed(pdu);
}

async function twoConnections(
  options: {
    readonly errorRecoveryLevel?: 0 | 1 | 2;
    readonly onPdu?: (connection: ScriptedConnection, pdu: Pdu) => void;
  } = {},
): Promise<OpenedSession> {
  const fixture = await openSession({
    target: {
      keys: options.errorRecoveryLevel === 0 ? { DefaultTime2Wait: "1" } : keys,
      onPdu: options.onPdu ?? keepHouse,
    },
    session: { errorRecoveryLevel: options.errorRecoveryLevel ?? 2, additionalConnections: [{ portal: PORTAL }] },
  });
  await fixture.clock.advance(10);
  expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0, 1]);
  return fixture;
}

function reassigns(connection: ScriptedConnection): readonly TaskManagementRequestPdu[] {
  return connection.ofType("task-management-request");
}

/** Which connection of the target has a command that is not answered. */
function holder(fixture: OpenedSession): ScriptedConnection {
  return fixture.target.connections.findLast((connection) => connection.ofType("scsi-command").length > 0)!;
}

describe("connection recovery with another connection (RFC 7143 §7.1.4.3)", () => {
  test("after Time2Wait the lost one is logged out for recovery, then its tasks are reassigned", async () => {
    const fixture = await twoConnections();
    const dataIn = Buffer.alloc(1024);
    const execution = execute(fixture.session, { cdb: read(0, 2), dataIn });
    await fixture.clock.advance(1);
    const lost = holder(fixture);
    const [command] = lost.ofType("scsi-command");
    lost.dataIn(command!, { data: block, dataSn: 0 });
    await fixture.clock.advance(1);
    const survivor = fixture.target.connections.find((connection) => connection !== lost)!;
    const statSn = lost.statSn;
    lost.close();
    await fixture.clock.advance(900);
    expect(survivor.ofType("logout-request")).toHaveLength(0);
    await fixture.clock.advance(200);
    expect(survivor.ofType("logout-request")).toMatchObject([
      { reason: LogoutReason.recovery, cid: lost.cid, expStatSn: statSn },
    ]);
    expect(reassigns(survivor)).toMatchObject([
      {
        function: TaskManagementFunction.taskReassign,
        isImmediate: true,
        referencedTaskTag: command!.initiatorTaskTag,
        expDataSn: 1,
        refCmdSn: 0,
      },
    ]);
    survivor.dataIn(command!, { data: block, dataSn: 1, bufferOffset: 512, status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0, transferredBytes: 1024 });
    expect(fixture.session.status()).toMatchObject({
      reconnects: 0,
      state: "ready",
      recovery: { taskReassigns: 1, connectionRecoveries: 1, sessionRecoveries: 0 },
    });
    expect(fixture.events.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(["connection-lost", "connection-recovered", "connection-added"]),
    );
    expect(fixture.session.status().connections.map(({ cid }) => cid)).toEqual([0, 1]);
  });

  test("a command the target never saw is sent again with its CmdSN, not reassigned", async () => {
    const fixture = await twoConnections();
    fixture.target.ignores = (pdu) => pdu.type === "scsi-command";
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    fixture.target.ignores = () => false;
    const lost = holder(fixture);
    const [command] = lost.ofType("scsi-command");
    lost.close();
    await fixture.clock.advance(1_500);
    const survivor = fixture.target.connections.find((connection) => !connection.isClosed)!;
    expect(reassigns(survivor)).toHaveLength(0);
    const [again] = survivor.ofType("scsi-command");
    expect(again).toMatchObject({ cmdSn: command!.cmdSn, initiatorTaskTag: command!.initiatorTaskTag });
    expect(again!.data.equals(block)).toBe(true);
    survivor.respond(again!);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  });

  test("a task that the target does not have any more begins anew", async () => {
    const fixture = await twoConnections({
      onPdu: (connection, pdu) => {
        if (pdu.type === "task-management-request") connection.managed(pdu, 1);
        else keepHouse(connection, pdu);
      },
    });
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    const lost = holder(fixture);
    const [command] = lost.ofType("scsi-command");
    lost.close();
    await fixture.clock.advance(1_500);
    const survivor = fixture.target.connections.find((connection) => !connection.isClosed)!;
    const [again] = survivor.ofType("scsi-command");
    expect(again!.cmdSn).not.toBe(command!.cmdSn);
    survivor.dataIn(again!, { data: block, status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  });

  test.each([
    [
      "the logout is refused",
      (c: ScriptedConnection, pdu: Pdu) => pdu.type === "logout-request" && c.loggedOut(pdu, 2),
    ],
    [
      "reassignment is not supported",
      (c: ScriptedConnection, pdu: Pdu) => pdu.type === "task-management-request" && c.managed(pdu, 4),
    ],
    [
      "the task is still allegiant",
      (c: ScriptedConnection, pdu: Pdu) => pdu.type === "task-management-request" && c.managed(pdu, 3),
    ],
  ])("falls back to session recovery when %s", async (_name, refuse) => {
    const fixture = await twoConnections({
      onPdu: (connection, pdu) => {
        if (refuse(connection, pdu) === false) keepHouse(connection, pdu);
      },
    });
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    holder(fixture).close();
    await fixture.clock.advance(5_000);
    const fresh = fixture.target.connections.find(({ logins }, index) => index > 1 && logins[0]?.tsih === 0)!;
    expect(fresh.logins[0]!.isid.equals(fixture.options.isid)).toBe(true);
    fresh.respond(fixture.target.connections.flatMap((c) => c.ofType("scsi-command")).at(-1)!);
    expect(fixture.session.status().reconnects).toBe(1);
    expect(execution.results.length).toBeLessThan(2);
  });

  test("a target that accepts a reassignment and then says nothing is not believed", async () => {
    const fixture = await twoConnections();
    execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    holder(fixture).close();
    await fixture.clock.advance(2_000);
    expect(fixture.session.status().recovery.taskReassigns).toBe(1);
    await fixture.clock.advance(8_000);
    expect(fixture.session.status()).toMatchObject({ reconnects: 1 });
  });

  test("both connections lost at once: one is made again, the other logged out over it", async () => {
    const fixture = await twoConnections();
    const executions = [0, 1].map((lba) => execute(fixture.session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) }));
    await fixture.clock.advance(1);
    const [first, second] = fixture.target.connections;
    const commands = [...first!.ofType("scsi-command"), ...second!.ofType("scsi-command")];
    expect(commands).toHaveLength(2);
    first!.close();
    second!.close();
    await fixture.clock.advance(3_000);
    const again = fixture.target.connections[2]!;
    expect(again.logins[0]).toMatchObject({ tsih: first!.logins.length > 0 ? fixture.session.status().tsih : 0 });
    expect(again.logins[0]!.cid).toBe(0);
    expect(again.ofType("logout-request")).toMatchObject([{ reason: LogoutReason.recovery, cid: 1 }]);
    const moved = fixture.target.connections.slice(2).flatMap((connection) => reassigns(connection));
    expect(new Set(moved.map(({ referencedTaskTag }) => referencedTaskTag))).toEqual(
      new Set(commands.map(({ initiatorTaskTag }) => initiatorTaskTag)),
    );
    for (const connection of fixture.target.connections.slice(2)) {
      for (const { referencedTaskTag } of reassigns(connection)) {
        connection.dataIn({ initiatorTaskTag: referencedTaskTag }, { data: block, status: 0 });
      }
    }
    for (const { done } of executions) expect(await settle(fixture.clock, done)).toMatchObject({ status: 0 });
    expect(fixture.session.status().reconnects).toBe(0);
  });
});

describe("connection reinstatement (§6.3.4)", () => {
  async function single(target: Parameters<typeof openSession>[0] = {}): Promise<OpenedSession> {
    return openSession({ target: { keys, onPdu: keepHouse, ...target.target }, session: { errorRecoveryLevel: 2 } });
  }

  test("a session with one connection logs in with its TSIH and CID, and goes on with its tasks", async () => {
    const fixture = await single();
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512), isRetryable: false });
    await fixture.clock.advance(1);
    const first = fixture.target.connection;
    const [command] = first.ofType("scsi-command");
    const { tsih } = fixture.session.status();
    first.close();
    await fixture.clock.advance(2_500);
    const second = fixture.target.connection;
    expect(second.logins[0]).toMatchObject({ tsih, cid: 0, expStatSn: first.statSn });
    expect(reassigns(second)).toMatchObject([{ referencedTaskTag: command!.initiatorTaskTag, expDataSn: 0 }]);
    second.dataIn(command!, { data: block, status: 0 });
    // Not even a task that must not be sent twice is lost: it was not.
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
    expect(fixture.session.status()).toMatchObject({ reconnects: 0, recovery: { sessionRecoveries: 0 } });
  });

  test("numbers the target never saw are used up before it is asked who it is; their commands begin anew", async () => {
    const fixture = await single();
    const verify = jest.fn(() => Promise.resolve({ kind: "accepted" as const }));
    fixture.session.addGuard({ lun: LUN_ONE, verify });
    fixture.target.ignores = (pdu) => pdu.type === "scsi-command";
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block, isRetryable: false });
    await fixture.clock.advance(1);
    fixture.target.ignores = () => false;
    const [lost] = fixture.target.connection.ofType("scsi-command");
    fixture.target.connection.close();
    await fixture.clock.advance(2_500);
    const { connection } = fixture.target;
    expect(connection.ofType("nop-out")).toMatchObject([{ isImmediate: false, cmdSn: lost!.cmdSn }]);
    expect(verify).toHaveBeenCalledTimes(1);
    const [again] = connection.ofType("scsi-command");
    expect(again!.cmdSn).toBe(lost!.cmdSn + 1);
    expect(reassigns(connection)).toHaveLength(0);
    connection.respond(again!);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
    expect(fixture.session.status().reconnects).toBe(0);
  });

  test("a number that went with a connection that was never used is used up too", async () => {
    const fixture = await openSession({
      target: { keys, onPdu: keepHouse },
      session: { errorRecoveryLevel: 2, maxConnections: 2 },
    });
    fixture.session.addGuard({
      lun: LUN_ONE,
      verify: () =>
        new Promise((resolve) => {
          const onDone = (): void => resolve({ kind: "accepted" });
          fixture.session.execute({ lun: LUN_ONE, cdb: Buffer.alloc(6), isProbe: true, onDone });
        }),
    });
    fixture.target.ignores = (pdu) => pdu.type === "scsi-command";
    const adding = fixture.session.addConnection(PORTAL_PLAN);
    adding.catch(() => undefined);
    await fixture.clock.advance(10);
    fixture.target.ignores = () => false;
    const [first, joining] = fixture.target.connections;
    expect(joining!.ofType("scsi-command")).toHaveLength(1);
    joining!.close();
    await fixture.clock.advance(10);
    await expect(adding).rejects.toMatchObject({ code: "SESSION_CONNECTION_LOST" });
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(3_000);
    expect(first!.ofType("nop-out").filter(({ isImmediate }) => !isImmediate)).toMatchObject([{ cmdSn: 1 }]);
    first!.dataIn(first!.ofType("scsi-command")[0]!, { data: block, status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  });

  test("a target that does not know the session any more gets a new one, with the same ISID", async () => {
    const fixture = await single();
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    fixture.target.loginRefusal = { statusClass: 2, statusDetail: 0x0a };
    fixture.target.connection.close();
    await fixture.clock.advance(1_500);
    fixture.target.loginRefusal = undefined;
    await fixture.clock.advance(5_000);
    const fresh = fixture.target.connection;
    expect(fresh.logins[0]).toMatchObject({ tsih: 0, isid: fixture.options.isid });
    fresh.dataIn(fresh.ofType("scsi-command").at(-1)!, { data: block, status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
    expect(fixture.session.status().reconnects).toBe(1);
  });

  test("past Time2Retain the old session is not asked for any more", async () => {
    const fixture = await single();
    execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    fixture.network.setBlackHole({ kind: "tcp", host: "target", port: 3260 }, true);
    fixture.target.connection.close();
    await fixture.clock.advance(40_000);
    fixture.network.setBlackHole({ kind: "tcp", host: "target", port: 3260 }, false);
    await fixture.clock.advance(30_000);
    expect(fixture.target.connections).toHaveLength(2);
    expect(fixture.target.connection.logins[0]!.tsih).toBe(0);
  });

  test("a format error of the target ends in session recovery at every level (§7.7)", async () => {
    const fixture = await single();
    await fixture.clock.advance(1);
    fixture.target.connection.respond({ initiatorTaskTag: 0x1234 });
    await fixture.clock.advance(5_000);
    expect(fixture.target.connection.logins[0]!.tsih).toBe(0);
    expect(fixture.session.status().reconnects).toBe(1);
  });
});

describe("below level 2", () => {
  test("a lost connection is closed at the target, and its tasks are sent anew over the others", async () => {
    const fixture = await twoConnections({ errorRecoveryLevel: 0 });
    const execution = execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    const lost = holder(fixture);
    const [command] = lost.ofType("scsi-command");
    lost.close();
    await fixture.clock.advance(1_500);
    const survivor = fixture.target.connections.find((connection) => !connection.isClosed)!;
    const logouts: readonly LogoutRequestPdu[] = survivor.ofType("logout-request");
    expect(logouts).toMatchObject([{ reason: LogoutReason.closeConnection, cid: lost.cid }]);
    const [again] = survivor.ofType("scsi-command");
    expect(again!.initiatorTaskTag).not.toBe(command!.initiatorTaskTag);
    survivor.dataIn(again!, { data: block, status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
    expect(fixture.session.status()).toMatchObject({ reconnects: 0, recovery: { taskReassigns: 0 } });
  });

  test("when the target does not close it the session begins anew", async () => {
    const fixture = await twoConnections({
      errorRecoveryLevel: 0,
      onPdu: (connection, pdu) => {
        if (pdu.type === "logout-request") connection.loggedOut(pdu, 1);
      },
    });
    execute(fixture.session, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    holder(fixture).close();
    await fixture.clock.advance(5_000);
    expect(fixture.session.status().reconnects).toBe(1);
  });
});
