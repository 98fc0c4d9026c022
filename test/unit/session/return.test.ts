import { AppError } from "../../../src/base/errors.js";
import { Session } from "../../../src/session/session.js";
import type { SessionOptions } from "../../../src/session/session-options.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import { type ScriptedConnection, ScriptedTarget } from "../../support/scripted-target.js";
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
const block = Buffer.alloc(512, 0x33);
const keys = { DefaultTime2Wait: "1", DefaultTime2Retain: "30" };

function keepHouse(connection: ScriptedConnection, pdu: Pdu): void {
  if (pdu.type === "nop-out") connection.pong(pdu);
  if (pdu.type === "logout-request") connection.loggedOut(pdu);
  if (pdu.type === "task-management-request") connection.managed(pdu);
}

async function levelTwo(
  session: Partial<SessionOptions> = {},
  onPdu: (connection: ScriptedConnection, pdu: Pdu) => void = keepHouse,
): Promise<OpenedSession> {
  const fixture = await openSession({ target: { keys, onPdu }, session: { errorRecoveryLevel: 2, ...session } });
  await fixture.clock.advance(10);
  return fixture;
}

describe("a session that the target keeps is given up", () => {
  test("when the operator's limit is over: its tasks fail, and a new session is begun", async () => {
    const fixture = await levelTwo({ timers: { reconnectLimitMs: 5_000, connectTimeoutMs: 1_000 } });
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    const endpoint = { kind: "tcp", host: "target", port: 3260 } as const;
    fixture.network.setBlackHole(endpoint, true);
    fixture.target.connection.close();
    await fixture.clock.advance(6_000);
    expect(execution.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_UNAVAILABLE" } }]);
    fixture.network.setBlackHole(endpoint, false);
    await fixture.clock.advance(20_000);
    expect(fixture.target.connections[1]!.logins[0]).toMatchObject({ tsih: 0 });
    expect(fixture.session.status()).toMatchObject({ state: "ready", reconnects: 1, commandsInFlight: 0 });
  });

  test("when a guard refuses what is behind it", async () => {
    const fixture = await levelTwo();
    const reason = new AppError("block", "BLOCK_IDENTITY_MISMATCH", "another disk");
    let isRight = false;
    fixture.session.addGuard({
      lun: LUN_ONE,
      verify: () => Promise.resolve(isRight ? { kind: "accepted" } : { kind: "refused", reason }),
    });
    const execution = execute(fixture.session, { cdb: write(0, 1), dataOut: block });
    await fixture.clock.advance(1);
    fixture.target.connection.close();
    expect(await settle(fixture.clock, execution.done)).toMatchObject({
      error: { code: "SESSION_PATH_REFUSED", cause: reason },
    });
    isRight = true;
    await fixture.clock.advance(20_000);
    expect(fixture.target.connection.logins[0]).toMatchObject({ tsih: 0 });
    expect(fixture.session.state).toBe("ready");
  });

  test("when the target lets a connection in but will not clear away the other one", async () => {
    const fixture = await levelTwo({ additionalConnections: [{ portal: PORTAL }] }, (connection, pdu) => {
      if (pdu.type === "logout-request") connection.loggedOut(pdu, 3);
      else keepHouse(connection, pdu);
    });
    const executions = [0, 1].map((lba) => execute(fixture.session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) }));
    await fixture.clock.advance(1);
    for (const connection of [...fixture.target.connections]) connection.close();
    await fixture.clock.advance(10_000);
    const fresh = fixture.target.connections.find(({ logins }, index) => index > 1 && logins[0]!.tsih === 0)!;
    for (const { connection, command } of fixture.target.connections
      .filter(({ isClosed }) => !isClosed)
      .flatMap((connection) => connection.ofType("scsi-command").map((command) => ({ connection, command })))) {
      connection.dataIn(command, { data: block, status: 0 });
    }
    expect(fresh).toBeDefined();
    for (const { done } of executions) expect(await settle(fixture.clock, done)).toMatchObject({ status: 0 });
    expect(fixture.session.status().reconnects).toBe(1);
  });
});

test("the place of a removed connection is taken like the leading one, if its tasks are to be taken up", async () => {
  const fixture = await levelTwo({ additionalConnections: [{ portal: PORTAL }] });
  const executions = [0, 1].map((lba) => execute(fixture.session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) }));
  await fixture.clock.advance(1);
  const [first, second] = fixture.target.connections;
  fixture.target.onPdu = (connection, pdu) => {
    // The removed connection's logout is answered, and in the same breath the other one breaks.
    keepHouse(connection, pdu);
    if (pdu.type === "logout-request" && connection === second) first!.close();
  };
  await settle(fixture.clock, fixture.session.removeConnection(1)).catch(() => undefined);
  await fixture.clock.advance(15_000);
  for (const connection of fixture.target.connections.filter(({ isClosed }) => !isClosed)) {
    const tags = [
      ...connection.ofType("scsi-command").map(({ initiatorTaskTag }) => initiatorTaskTag),
      ...connection.ofType("task-management-request").map(({ referencedTaskTag }) => referencedTaskTag),
    ];
    for (const initiatorTaskTag of tags) connection.dataIn({ initiatorTaskTag }, { data: block, status: 0 });
  }
  for (const { done } of executions) expect(await settle(fixture.clock, done)).toMatchObject({ status: 0 });
  expect(fixture.session.state).toBe("ready");
});

describe("at another portal group", () => {
  async function moved(onPdu: (connection: ScriptedConnection, pdu: Pdu) => void) {
    const fixture = await createFixture({ session: { alternatePortals: [{ host: "second", port: 3260 }] } });
    const second = await ScriptedTarget.listen(fixture.network, {
      endpoint: { kind: "tcp", host: "second", port: 3260 },
      portalGroupTag: 2,
      onPdu,
    });
    const session = await settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    execute(session, { cdb: read(1, 1), dataIn: Buffer.alloc(512) });
    execute(session, { cdb: write(2, 1), dataOut: block });
    execute(session, { cdb: write(3, 1), dataOut: block });
    await fixture.clock.advance(1);
    fixture.target.loginRefusal = { statusClass: 3, statusDetail: 0 };
    fixture.target.connection.close();
    return { ...fixture, session, second };
  }

  test("a unit is reset once, however many of its writes are unanswered", async () => {
    const { second, clock } = await moved(keepHouse);
    await clock.advance(4_000);
    expect(second.connection.ofType("task-management-request")).toMatchObject([{ function: 5 }]);
    expect(second.connection.ofType("scsi-command")).toHaveLength(3);
  });

  test("nothing is sent while the reset is not answered: the attempt has failed", async () => {
    const { second, session, clock } = await moved(() => undefined);
    await clock.advance(60_000);
    expect(second.connections.length).toBeGreaterThan(1);
    expect(second.connections.flatMap((connection) => connection.ofType("scsi-command"))).toEqual([]);
    expect(session.state).not.toBe("ready");
    session.close();
  });

  test("where units cannot be reset, the old session's Time2Wait and Time2Retain are waited", async () => {
    const { second, clock } = await moved((connection, pdu) => {
      if (pdu.type === "task-management-request") connection.managed(pdu, 5);
    });
    await clock.advance(10_000);
    expect(second.connections.flatMap((connection) => connection.ofType("scsi-command"))).toHaveLength(3);
  });
});
