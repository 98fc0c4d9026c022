import { AppError } from "../../../src/base/errors.js";
import { Secret } from "../../../src/base/secret.js";
import { Session } from "../../../src/session/session.js";
import { createFixture, execute, openSession, read, settle, write } from "../../support/session-fixture.js";
import { type ScriptedConnection, ScriptedTarget } from "../../support/scripted-target.js";

const block = Buffer.alloc(512, 0x33);

describe("session recovery", () => {
  test("unanswered tasks are sent again in their order, with the same ISID and TSIH 0", async () => {
    const { session, target, clock, events } = await openSession({ target: { windowSize: 3 } });
    const lbas = [5, 3, 9, 1, 7];
    const executions = lbas.map((lba) =>
      lba === 9
        ? execute(session, { cdb: write(lba, 1), dataOut: block })
        : execute(session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) }),
    );
    await clock.advance(1);
    const first = target.connection;
    expect(first.ofType("scsi-command").map(({ cdb }) => cdb[5])).toEqual([5, 3, 9]);
    first.dataIn(first.ofType("scsi-command")[1]!, { data: block, status: 0 });
    await clock.advance(1);
    first.close();
    await clock.advance(5000);
    expect(target.connections).toHaveLength(2);
    const second = target.connection;
    expect(second.logins[0]).toMatchObject({ tsih: 0, isid: first.logins[0]!.isid });
    const again = second.ofType("scsi-command");
    expect(again.map(({ cdb }) => cdb[5])).toEqual([5, 9, 1]);
    expect(again.map(({ cmdSn }) => cmdSn - again[0]!.cmdSn)).toEqual([0, 1, 2]);
    expect(again[1]!.data.equals(block)).toBe(true);
    for (let sent = 0; sent < 4; sent += 1) {
      const command = second.ofType("scsi-command")[sent]!;
      if (command.isRead) second.dataIn(command, { data: block, status: 0 });
      else second.respond(command);
      await clock.advance(1);
    }
    const results = await settle(clock, Promise.all(executions.map(({ done }) => done)));
    expect(results.every((result) => result.kind === "status" && result.status === 0)).toBe(true);
    expect(executions.every((execution) => execution.results.length === 1)).toBe(true);
    expect(session.status()).toMatchObject({ state: "ready", reconnects: 1, commandsInFlight: 0, commandsQueued: 0 });
    expect(events.map(({ kind }) => kind)).toEqual(["disconnected", "reconnected"]);
  });

  test("the target's DefaultTime2Wait is waited before coming back", async () => {
    const { target, clock } = await openSession({ target: { keys: { DefaultTime2Wait: "7" } } });
    target.connection.close();
    await clock.advance(6900);
    expect(target.connections).toHaveLength(1);
    await clock.advance(400);
    expect(target.connections).toHaveLength(2);
  });

  test("renewed CHAP credentials count from the next login on, though it is being tried already", async () => {
    const { session, target, clock } = await openSession();
    target.loginRefusal = { statusClass: 2, statusDetail: 1 };
    target.connection.close();
    await clock.advance(5000);
    expect(target.connection.logins[0]!.data.toString()).toContain("AuthMethod=None\0");
    session.renewChap({ user: "u", secret: Secret.from("a new secret of length") });
    await clock.advance(20_000);
    expect(target.connection.logins[0]!.data.toString()).toContain("AuthMethod=CHAP,None\0");
    session.close();
  });

  test("a task that must not happen twice fails when its fate is unknown, one not sent yet goes on waiting", async () => {
    const { session, target, clock } = await openSession({ target: { windowSize: 1 } });
    const sent = execute(session, { isRetryable: false });
    const waiting = execute(session, { isRetryable: false, cdb: read(1, 1), dataIn: Buffer.alloc(512) });
    await clock.advance(1);
    target.connection.close();
    expect(await settle(clock, sent.done)).toMatchObject({ kind: "failed", error: { code: "SESSION_TASK_LOST" } });
    await clock.advance(5000);
    target.connection.dataIn(target.connection.ofType("scsi-command")[0]!, { data: block, status: 0 });
    expect(await settle(clock, waiting.done)).toMatchObject({ kind: "status", status: 0 });
  });

  test("refused logins while coming back are reported and tried again, with growing pauses", async () => {
    const { session, target, clock, events } = await openSession({ session: { timers: { nopIntervalMs: 0 } } });
    const execution = execute(session, {});
    await clock.advance(1);
    target.loginRefusal = { statusClass: 2, statusDetail: 1 };
    target.connection.close();
    await clock.advance(60_000);
    const failures = events.filter(({ kind }) => kind === "reconnect-failed");
    expect(failures.length).toBeGreaterThan(4);
    expect(failures.length).toBeLessThan(20);
    expect(failures[0]).toMatchObject({ attempt: 1, reason: { layer: "login" } });
    expect(session.status()).toMatchObject({ state: "recovering", commandsQueued: 1 });
    target.loginRefusal = undefined;
    await clock.advance(20_000);
    target.connection.respond(target.connection.ofType("scsi-command")[0]!);
    expect(await settle(clock, execution.done)).toMatchObject({ kind: "status" });
  });

  test("with a limit tasks fail after it, and flow again once the path is back", async () => {
    const { session, target, clock, events } = await openSession({
      session: { timers: { reconnectLimitMs: 10_000, nopIntervalMs: 0 } },
    });
    target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    target.connection.close();
    const execution = execute(session, {});
    await clock.advance(9_900);
    expect(execution.results).toEqual([]);
    await clock.advance(200);
    expect(execution.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_UNAVAILABLE" } }]);
    expect(events.some(({ kind }) => kind === "unavailable")).toBe(true);
    expect(await settle(clock, execute(session, {}).done)).toMatchObject({ error: { code: "SESSION_UNAVAILABLE" } });
    target.loginRefusal = undefined;
    await clock.advance(20_000);
    const late = execute(session, {});
    await clock.advance(1);
    target.connection.respond(target.connection.ofType("scsi-command")[0]!);
    expect(await settle(clock, late.done)).toMatchObject({ kind: "status" });
  });

  test("other portals are tried in turn, and a redirect leads on", async () => {
    const fixture = await createFixture({
      session: { alternatePortals: [{ host: "second", port: 3260 }] },
    });
    const second = await ScriptedTarget.listen(fixture.network, {
      endpoint: { kind: "tcp", host: "second", port: 3260 },
    });
    const third = await ScriptedTarget.listen(fixture.network, {
      endpoint: { kind: "tcp", host: "10.0.0.3", port: 3261 },
    });
    second.loginRefusal = { statusClass: 1, statusDetail: 1, address: "10.0.0.3:3261" };
    const session = await settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    fixture.target.loginRefusal = { statusClass: 3, statusDetail: 0 };
    fixture.target.connection.close();
    await fixture.clock.advance(10_000);
    expect(session.status()).toMatchObject({ state: "ready", portal: { host: "10.0.0.3", port: 3261 } });
    expect([second.connections.length, third.connections.length]).toEqual([1, 1]);
  });

  test("at another portal group units with unanswered writes are reset before the writes are repeated", async () => {
    const fixture = await createFixture({ session: { alternatePortals: [{ host: "second", port: 3260 }] } });
    const second = await ScriptedTarget.listen(fixture.network, {
      endpoint: { kind: "tcp", host: "second", port: 3260 },
      portalGroupTag: 2,
    });
    const session = await settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    execute(session, { cdb: write(4, 1), dataOut: block });
    await fixture.clock.advance(1);
    fixture.target.loginRefusal = { statusClass: 3, statusDetail: 0 };
    fixture.target.connection.close();
    await fixture.clock.advance(4_000);
    const { connection } = second;
    expect(connection.received.map(({ type }) => type)).toEqual(["task-management-request"]);
    const [reset] = connection.ofType("task-management-request");
    expect(reset).toMatchObject({ function: 5, lun: { high: 0x0001_0000, low: 0 }, isImmediate: true });
    connection.send({
      type: "task-management-response",
      response: 0,
      initiatorTaskTag: reset!.initiatorTaskTag,
      additionalResponse: 0,
    });
    await fixture.clock.advance(1);
    expect(connection.ofType("scsi-command")).toHaveLength(1);
  });

  test("nothing passes before the guards have accepted, but their own questions", async () => {
    const { session, target, clock } = await openSession();
    let accept: () => void = () => undefined;
    session.addGuard({
      lun: { high: 0, low: 0 },
      verify: async () => {
        await new Promise<void>((resolve) => {
          accept = resolve;
          session.execute({ lun: { high: 0, low: 0 }, cdb: Buffer.alloc(6), isProbe: true, onDone: () => undefined });
        });
        return { kind: "accepted" };
      },
    });
    execute(session, { cdb: write(1, 1), dataOut: block });
    await clock.advance(1);
    target.connection.close();
    await clock.advance(5000);
    expect(session.state).toBe("verifying");
    expect(target.connection.ofType("scsi-command").map(({ cdb }) => cdb[0])).toEqual([0]);
    accept();
    await clock.advance(1);
    expect(session.state).toBe("ready");
    expect(target.connection.ofType("scsi-command").map(({ cdb }) => cdb[0])).toEqual([0, 0x2a]);
  });

  test("a guard that refuses fails the unit's tasks, and the session goes on looking", async () => {
    const { session, target, clock, events } = await openSession();
    const reason = new AppError("block", "BLOCK_IDENTITY_MISMATCH", "another disk");
    let isRight = false;
    session.addGuard({
      lun: { high: 0x1_0000, low: 0 },
      verify: () => Promise.resolve(isRight ? { kind: "accepted" } : { kind: "refused", reason }),
    });
    const execution = execute(session, {});
    await clock.advance(1);
    target.connection.close();
    const result = await settle(clock, execution.done);
    expect(result).toMatchObject({ kind: "failed", error: { code: "SESSION_PATH_REFUSED", cause: reason } });
    expect(events.some(({ kind }) => kind === "path-refused")).toBe(true);
    expect(target.connections.at(-1)?.ofType("scsi-command")).toEqual([]);
    isRight = true;
    await clock.advance(30_000);
    expect(session.state).toBe("ready");
  });

  test("opening fails at once where coming back would go on trying", async () => {
    const fixture = await createFixture({});
    fixture.target.loginRefusal = { statusClass: 2, statusDetail: 3 };
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ layer: "login" });
    await fixture.clock.advance(10);
    expect(fixture.clock.pendingTimers).toBe(0);
    expect(fixture.target.connection.isClosed).toBe(true);
  });

  test("a silent target: the login has its time", async () => {
    const fixture = await createFixture({});
    fixture.network.setBlackHole({ kind: "tcp", host: "target", port: 3260 }, true);
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ code: "TRANSPORT_TIMEOUT" });
  });

  test("closing fails what waits, stops recovery and leaves no timer", async () => {
    const { session, target, clock } = await openSession();
    const execution = execute(session, {});
    await clock.advance(1);
    target.connection.close();
    await clock.advance(50);
    session.close();
    expect(await settle(clock, execution.done)).toMatchObject({ error: { code: "SESSION_CLOSED" } });
    await clock.advance(60_000);
    expect(clock.pendingTimers).toBe(0);
    expect(target.connections).toHaveLength(1);
    expect(await settle(clock, execute(session, {}).done)).toMatchObject({ error: { code: "SESSION_CLOSED" } });
  });

  test("a target that drops every session soon is asked ever more seldom", async () => {
    const { target, clock } = await openSession();
    for (let passedMs = 0; passedMs < 60_000; passedMs += 100) {
      if (!target.connection.isClosed) target.connection.close();
      await clock.advance(100);
    }
    expect(target.connections.length).toBeGreaterThan(5);
    expect(target.connections.length).toBeLessThan(25);
  });

  test("a window that stays shut with nothing under way ends the connection", async () => {
    const { session, target, clock, events } = await openSession({
      target: {
        windowSize: 0,
        onPdu: (connection, pdu) => {
          if (pdu.type !== "nop-out") return;
          connection.send({ ...pdu, type: "nop-in", targetTransferTag: 0xffff_ffff });
        },
      },
    });
    execute(session, {});
    await clock.advance(29_000);
    expect(events).toEqual([]);
    await clock.advance(5_000);
    expect(events[0]).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_TIMEOUT" } });
    expect(target.connections.length).toBeGreaterThan(1);
  });

  test("a target that breaks the protocol in the same breath as the login answer is a failed login", async () => {
    const flood = (connection: ScriptedConnection): void => {
      connection.respond({ initiatorTaskTag: 5 });
    };
    const fixture = await createFixture({ session: { timers: { nopIntervalMs: 0 } } });
    fixture.target.onLoggedIn = flood;
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ code: "SESSION_CONNECTION_LOST" });
    fixture.target.onLoggedIn = undefined;
    const session = await settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    session.addGuard({ lun: { high: 0, low: 0 }, verify: () => Promise.resolve({ kind: "accepted" }) });
    fixture.target.onLoggedIn = flood;
    fixture.target.connection.close();
    await fixture.clock.advance(20_000);
    expect(session.state).toBe("recovering");
    fixture.target.onLoggedIn = undefined;
    await fixture.clock.advance(30_000);
    expect(session.state).toBe("ready");
  });

  test.each(["logout", "close"] as const)("%s while a guard is looking ends everything", async (how) => {
    const { session, target, clock } = await openSession();
    let accept: (verdict: { kind: "accepted" }) => void = () => undefined;
    session.addGuard({
      lun: { high: 0, low: 0 },
      verify: () => new Promise((resolve) => (accept = resolve)),
    });
    target.connection.close();
    await clock.advance(5_000);
    expect(session.state).toBe("verifying");
    await settle(clock, Promise.resolve(session[how]()));
    accept({ kind: "accepted" });
    await clock.advance(10_000);
    expect(session.state).toBe("closed");
    expect(target.connections.every(({ isClosed }) => isClosed)).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });
});
