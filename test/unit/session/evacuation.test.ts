import { createDeferred, type Deferred } from "../../../src/base/deferred.js";
import type { Evacuation } from "../../../src/session/evacuation.js";
import { execute, openSession, read, settle, write, type OpenedSession } from "../../support/session-fixture.js";

const block = Buffer.alloc(512, 0x33);
const aRead = (): { cdb: Buffer; dataIn: Buffer } => ({ cdb: read(1, 1), dataIn: Buffer.alloc(512) });
const aWrite = (lba = 2): { cdb: Buffer; dataOut: Buffer } => ({ cdb: write(lba, 1), dataOut: block });
const gone = { kind: "failed", error: { code: "SESSION_UNAVAILABLE", retry: "other-path" } };

/** A session that is one of several paths; `answers` is what the fence says, time after time. */
async function openPath(
  answers: readonly boolean[],
  options: { readonly afterMs?: number; readonly windowSize?: number } = {},
): Promise<OpenedSession & { readonly asked: number[]; readonly connectionsWhenAsked: number[] }> {
  const asked: number[] = [];
  const connectionsWhenAsked: number[] = [];
  const evacuation: Evacuation = {
    afterMs: options.afterMs ?? 0,
    fence: () => {
      asked.push(opened.clock.nowMs());
      connectionsWhenAsked.push(opened.target.connections.length);
      return Promise.resolve(answers[asked.length - 1] ?? false);
    },
  };
  const opened = await openSession({
    session: { evacuation, timers: { nopIntervalMs: 0, reconnectMaximumMs: 500 } },
    ...(options.windowSize === undefined ? {} : { target: { windowSize: options.windowSize } }),
  });
  return { ...opened, asked, connectionsWhenAsked };
}

describe("a session that is one of several paths", () => {
  test("gives back at once what changes nothing and what was never sent, without asking for a fence", async () => {
    const { session, target, clock, events, asked } = await openPath([], { windowSize: 1 });
    target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    const sent = execute(session, aRead());
    const waiting = execute(session, aWrite());
    await clock.advance(1);
    target.connection.close();
    expect(await settle(clock, sent.done, 100)).toMatchObject(gone);
    expect(await settle(clock, waiting.done, 100)).toMatchObject(gone);
    await clock.advance(5_000);
    expect(asked).toEqual([]);
    expect(events).toContainEqual({ kind: "handed-over", tasks: 2, isFenced: false });
    session.close();
  });

  test("gives a write that was sent back only after the fence, and logs in itself only after that", async () => {
    const { session, target, clock, events, asked, connectionsWhenAsked } = await openPath([true]);
    const sent = execute(session, aWrite());
    await clock.advance(1);
    target.connection.close();
    expect(await settle(clock, sent.done, 1_000)).toMatchObject(gone);
    expect(asked).toHaveLength(1);
    expect(connectionsWhenAsked).toEqual([1]);
    expect(events).toContainEqual({ kind: "handed-over", tasks: 1, isFenced: true });
    await clock.advance(2_000);
    expect(session.state).toBe("ready");
    expect(target.connection.ofType("scsi-command")).toEqual([]);
    session.close();
  });

  test("no login of its own begins while the fence is being put up", async () => {
    let fence: Deferred<boolean> | undefined;
    const { session, target, clock } = await openSession({
      session: {
        evacuation: { afterMs: 0, fence: () => (fence = createDeferred<boolean>()).promise },
        timers: { nopIntervalMs: 0 },
      },
    });
    const sent = execute(session, aWrite());
    await clock.advance(1);
    target.connection.close();
    await clock.advance(30_000);
    expect(target.connections).toHaveLength(1);
    expect(sent.results).toEqual([]);
    fence?.resolve(true);
    expect(await settle(clock, sent.done, 100)).toMatchObject(gone);
    await clock.advance(1_000);
    expect(target.connections).toHaveLength(2);
    session.close();
  });

  test("without another way the write waits, and goes on over its own path when that is back", async () => {
    const { session, target, clock } = await openPath([false]);
    const sent = execute(session, aWrite(7));
    await clock.advance(1);
    target.connection.close();
    await clock.advance(2_000);
    expect(sent.results).toEqual([]);
    const [command] = target.connection.ofType("scsi-command");
    expect(command?.cdb[5]).toBe(7);
    target.connection.respond(command!);
    expect(await settle(clock, sent.done)).toMatchObject({ kind: "status", status: 0 });
    session.close();
  });

  test("another path that comes up has the fence asked for again at once, in the middle of a login that gets no answer", async () => {
    const { session, target, network, clock, asked } = await openPath([false, true]);
    const sent = execute(session, aWrite());
    await clock.advance(1);
    network.setBlackHole({ kind: "tcp", host: "target", port: 3260 }, true);
    target.connection.close();
    await clock.advance(4_000);
    expect(asked).toHaveLength(1);
    session.handOver();
    expect(await settle(clock, sent.done, 100)).toMatchObject(gone);
    expect(asked).toHaveLength(2);
    // Nothing waits any more: nobody is bothered again.
    session.handOver();
    await clock.advance(100);
    expect(asked).toHaveLength(2);
    session.close();
  });

  test("while it has no connection, commands fail at once; afterwards they are taken again", async () => {
    const { session, target, clock } = await openPath([]);
    target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    target.connection.close();
    await clock.advance(10);
    expect(await settle(clock, execute(session, aWrite()).done, 10)).toMatchObject(gone);
    target.loginRefusal = undefined;
    await clock.advance(10_000);
    const after = execute(session, aWrite());
    await clock.advance(1);
    target.connection.respond(target.connection.ofType("scsi-command")[0]!);
    expect(await settle(clock, after.done)).toMatchObject({ kind: "status" });
    session.close();
  });

  test("with a time to wait, tasks stay that long, and go on over the path if it comes back within it", async () => {
    const { session, target, clock, asked } = await openPath([true], { afterMs: 5_000 });
    target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    const sent = execute(session, aRead());
    const written = execute(session, aWrite());
    await clock.advance(1);
    target.connection.close();
    await clock.advance(4_900);
    expect([...sent.results, ...written.results]).toEqual([]);
    await clock.advance(200);
    expect(sent.results).toMatchObject([gone]);
    expect(written.results).toMatchObject([gone]);
    expect(asked).toHaveLength(1);
    target.loginRefusal = undefined;
    await clock.advance(20_000);
    const short = execute(session, aRead());
    await clock.advance(1);
    target.connection.close();
    await clock.advance(3_000);
    target.connection.dataIn(target.connection.ofType("scsi-command")[0]!, { data: block, status: 0 });
    expect(await settle(clock, short.done)).toMatchObject({ kind: "status" });
    expect(asked).toHaveLength(1);
    session.close();
  });

  test("a session closed in the middle of it leaves nothing behind", async () => {
    const { session, target, clock } = await openPath([false], { afterMs: 60_000 });
    const sent = execute(session, aWrite());
    await clock.advance(1);
    target.connection.close();
    await clock.advance(10);
    session.close();
    expect(sent.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_CLOSED" } }]);
    await clock.advance(120_000);
    expect(session.state).toBe("closed");
  });
});
