import { BufferPool } from "../../../src/target/buffer-pool.js";
import { CommandWindow } from "../../../src/target/command-window.js";
import { Condition } from "../../../src/target/scsi/check-condition.js";
import { RangeLock } from "../../../src/target/scsi/range-lock.js";
import { TaskSet } from "../../../src/target/scsi/task-set.js";
import { UnitAttentions } from "../../../src/target/scsi/unit-attentions.js";
import { sendTargetsAnswer } from "../../../src/target/send-targets.js";
import { TaskAttribute } from "../../../src/wire/constants.js";

describe("CommandWindow", () => {
  test("wraps at 2^32 and opens only as commands end", () => {
    const window = new CommandWindow<string>({ depth: 4, expCmdSn: 0xffff_fffe });
    expect(window.maxCmdSn).toBe(1);
    for (const cmdSn of [0xffff_fffe, 0xffff_ffff, 0, 1]) {
      expect(window.place(cmdSn)).toBe("next");
      window.advance();
      window.begin();
    }
    expect([window.expCmdSn, window.maxCmdSn, window.place(2)]).toEqual([2, 1, "outside"]);
    window.end();
    expect([window.maxCmdSn, window.place(2)]).toEqual([2, "next"]);
  });

  test("keeps early commands once and gives them back in turn", () => {
    const window = new CommandWindow<string>({ depth: 4, expCmdSn: 10 });
    expect(window.place(12)).toBe("early");
    window.hold(12, "twelve");
    expect([window.place(12), window.place(14), window.place(9)]).toEqual(["outside", "outside", "outside"]);
    window.advance();
    expect(window.takeNext()).toBeUndefined();
    window.advance();
    expect(window.takeNext()).toBe("twelve");
  });
});

describe("TaskSet", () => {
  function arena(): {
    readonly set: TaskSet;
    enter(name: string, attribute: TaskAttribute): () => void;
    readonly ran: string[];
  } {
    const set = new TaskSet();
    const ran: string[] = [];
    const enter = (name: string, attribute: TaskAttribute): (() => void) => {
      const place = set.enter(attribute, () => void ran.push(name));
      return () => set.leave(place);
    };
    return { set, enter, ran };
  }

  test("SIMPLE tasks run side by side; ORDERED waits for the older and holds off the younger", () => {
    const { enter, ran, set } = arena();
    const endA = enter("a", TaskAttribute.simple);
    const endB = enter("b", TaskAttribute.simple);
    const endOrdered = enter("ordered", TaskAttribute.ordered);
    const endC = enter("c", TaskAttribute.simple);
    expect(ran).toEqual(["a", "b"]);
    endB();
    expect(ran).toEqual(["a", "b"]);
    endA();
    expect(ran).toEqual(["a", "b", "ordered"]);
    endOrdered();
    expect(ran).toEqual(["a", "b", "ordered", "c"]);
    endC();
    expect(set.size).toBe(0);
  });

  test("HEAD OF QUEUE runs at once and holds off those that come after it", () => {
    const { enter, ran } = arena();
    enter("a", TaskAttribute.simple);
    const endHead = enter("head", TaskAttribute.headOfQueue);
    enter("b", TaskAttribute.simple);
    expect(ran).toEqual(["a", "head"]);
    endHead();
    expect(ran).toEqual(["a", "head", "b"]);
  });

  test("an ORDERED task that is aborted while it waits lets the rest go", () => {
    const { enter, ran } = arena();
    enter("a", TaskAttribute.simple);
    const abort = enter("ordered", TaskAttribute.ordered);
    enter("b", TaskAttribute.simple);
    abort();
    expect(ran).toEqual(["a", "b"]);
  });
});

describe("RangeLock", () => {
  test("exclusive waits for what overlaps it, and what overlaps it waits in turn", async () => {
    const lock = new RangeLock();
    const shared = lock.tryLock(0, 8, false)!;
    expect(lock.tryLock(4, 2, false)).toBeDefined();
    const order: string[] = [];
    expect(lock.tryLock(7, 1, true)).toBeUndefined();
    const exclusive = lock.wait(7, 1, true);
    void exclusive.then(() => order.push("exclusive"));
    expect(lock.tryLock(7, 1, false)).toBeUndefined();
    expect(lock.tryLock(100, 1, false)).toBeDefined();
    const reader = lock.wait(7, 1, false);
    void reader.then(() => order.push("reader"));
    await Promise.resolve();
    expect(order).toEqual([]);
    lock.unlock(shared);
    const held = await exclusive;
    expect(order).toEqual(["exclusive"]);
    lock.unlock(held);
    await reader;
    expect(order).toEqual(["exclusive", "reader"]);
  });

  test("is granted in the order of asking", async () => {
    const lock = new RangeLock();
    const first = lock.tryLock(0, 1, true);
    const order: number[] = [];
    const waits = [1, 2, 3].map(async (number) => {
      const range = await lock.wait(0, 1, true);
      order.push(number);
      lock.unlock(range);
    });
    if (first !== undefined) lock.unlock(first);
    await Promise.all(waits);
    expect(order).toEqual([1, 2, 3]);
    expect(lock.tryLock(0, 1, false)).toBeDefined();
  });
});

describe("UnitAttentions", () => {
  test("keeps each condition once per port, in order, and a reset takes the place of all", () => {
    const attentions = new UnitAttentions();
    attentions.add("a", Condition.capacityChanged);
    attentions.add("a", Condition.modeParametersChanged);
    attentions.add("a", Condition.capacityChanged);
    attentions.add("b", Condition.reportedLunsChanged);
    expect(attentions.take("a")).toBe(Condition.capacityChanged);
    attentions.add("a", Condition.busDeviceReset);
    expect(attentions.take("a")).toBe(Condition.busDeviceReset);
    expect(attentions.take("a")).toBeUndefined();
    attentions.clearReportedLuns("b");
    expect(attentions.isEmpty).toBe(true);
  });
});

describe("BufferPool", () => {
  test("gives buffers back by size, and keeps no more than it may", () => {
    const pool = new BufferPool({ maxKeptBytes: 8192 });
    const first = pool.acquire(3000);
    expect(first).toHaveLength(4096);
    pool.release(first);
    expect(pool.acquire(4096)).toBe(first);
    const [large, small] = [pool.acquire(4097), pool.acquire(1)];
    expect(large).toHaveLength(8192);
    pool.release(large);
    pool.release(small);
    expect(pool.keptBytes).toBe(8192);
    expect(pool.acquire(20_000_000)).toHaveLength(20_000_000);
  });
});

test("SendTargets lists a wildcard portal under the address that was reached, once", () => {
  const answer = sendTargetsAnswer({
    targets: [{ name: "iqn.a" }],
    portals: [
      { host: "::", port: 3260 },
      { host: "0.0.0.0", port: 3260 },
      { host: "192.0.2.7", port: 3261 },
    ],
    reachedHost: "2001:db8::1",
  });
  expect(answer).toEqual([
    ["TargetName", "iqn.a"],
    ["TargetAddress", "[2001:db8::1]:3260,1"],
    ["TargetAddress", "192.0.2.7:3261,1"],
  ]);
});

test("SendTargets lists an IPv4 address as one, even when a socket for both families was reached", () => {
  const answer = sendTargetsAnswer({
    targets: [{ name: "iqn.a" }],
    portals: [{ host: "::", port: 3260 }],
    reachedHost: "::ffff:192.0.2.7",
  });
  expect(answer).toEqual([
    ["TargetName", "iqn.a"],
    ["TargetAddress", "192.0.2.7:3260,1"],
  ]);
});
