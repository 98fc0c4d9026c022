import { MAX_DATAPLANE_WATCHERS, MAX_NODE_CONDITIONS } from "../../../src/base/limits.js";
import type { ConditionUpdate, VolumeCondition } from "../../../src/dataplane/api.js";
import { ConditionBoard } from "../../../src/dataplane/condition-board.js";
import { codeOf } from "../../support/dataplane-world.js";

const attached = (volumeHandle: string, changes: Partial<VolumeCondition> = {}): VolumeCondition => ({
  volumeHandle,
  state: "attached",
  ...{ code: "", reason: "", targetName: "iqn.t", backend: "nbd", deviceBytes: 1, lunBytes: 1 },
  ...{ pathsUp: 0, pathsTotal: 0, pathsMissing: [] },
  ...changes,
});

async function next(updates: AsyncGenerator<ConditionUpdate, void>): Promise<ConditionUpdate> {
  const result = await updates.next();
  if (result.done === true) throw new Error("the watch has ended");
  return result.value;
}

describe("ConditionBoard", () => {
  it("tells a slow watcher where several changes led, once", async () => {
    const board = new ConditionBoard();
    const updates = board.watch(new AbortController().signal);
    expect(await next(updates)).toEqual({ isComplete: true, volumes: [], gone: [], node: [] });
    board.put(attached("a", { state: "attaching" }));
    board.put(attached("a", { state: "reconnecting" }));
    board.put(attached("a"));
    board.put(attached("b"));
    board.remove("b");
    expect(await next(updates)).toEqual({ isComplete: false, volumes: [attached("a")], gone: ["b"], node: [] });
  });

  it("wakes a watcher that waits, and not for what is as before", async () => {
    const board = new ConditionBoard();
    board.put(attached("a"));
    const updates = board.watch(new AbortController().signal);
    await next(updates);
    let isTold = false;
    const told = next(updates).then((update) => {
      isTold = true;
      return update;
    });
    board.put(attached("a"));
    board.remove("never-there");
    await new Promise((resolve) => setImmediate(resolve));
    expect(isTold).toBe(false);
    board.put(attached("a", { lunBytes: 2 }));
    expect((await told).volumes).toEqual([attached("a", { lunBytes: 2 })]);
  });

  it("always tells all there is of the node, and holds a bounded number", async () => {
    const board = new ConditionBoard();
    for (let index = 0; index < MAX_NODE_CONDITIONS + 5; index += 1) board.putNode("record-damaged", `${index}`, "m");
    board.putNode("record-damaged", "0", "another message");
    const { node } = await next(board.watch(new AbortController().signal));
    expect(node).toHaveLength(MAX_NODE_CONDITIONS);
    expect(node[0]).toEqual({ kind: "record-damaged", subject: "0", message: "another message" });
  });

  it("ends with the signal, also while it waits", async () => {
    const controller = new AbortController();
    const updates = new ConditionBoard().watch(controller.signal);
    await next(updates);
    const last = updates.next();
    controller.abort();
    expect((await last).done).toBe(true);
  });

  it("takes a bounded number of watchers, and one more when another has gone", async () => {
    const board = new ConditionBoard();
    const watchers = Array.from({ length: MAX_DATAPLANE_WATCHERS }, () => board.watch(new AbortController().signal));
    for (const watcher of watchers) await next(watcher);
    expect(await codeOf(board.watch(new AbortController().signal).next())).toBe("DATAPLANE_TOO_MANY_WATCHERS");
    await watchers[0]?.return();
    expect((await next(board.watch(new AbortController().signal))).isComplete).toBe(true);
  });
});
