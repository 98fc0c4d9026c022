import { createDeferred, type Deferred } from "../base/deferred.js";
import { MAX_DATAPLANE_WATCHERS, MAX_NODE_CONDITIONS } from "../base/limits.js";
import type { ConditionUpdate, NodeCondition, NodeConditionKind, VolumeCondition } from "./api.js";
import { DataplaneError } from "./errors.js";

/**
 * How every volume stands, and what of the node itself is not as it should be, for those who watch it. A watcher gets
 * all of it first and then what changed since it looked last: a slow one misses steps in between, never where they led.
 */
export class ConditionBoard {
  readonly #volumes = new Map<string, VolumeCondition>();
  readonly #node = new Map<string, NodeCondition>();
  readonly #watchers = new Set<Watcher>();

  /** How the volume stands now. Nothing is told when that is as before. */
  put(condition: VolumeCondition): void {
    const before = this.#volumes.get(condition.volumeHandle);
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(condition)) return;
    this.#volumes.set(condition.volumeHandle, condition);
    for (const watcher of this.#watchers) watcher.volumeChanged(condition.volumeHandle);
  }

  /** The volume is not this node's any more. */
  remove(volumeHandle: string): void {
    if (!this.#volumes.delete(volumeHandle)) return;
    for (const watcher of this.#watchers) watcher.volumeChanged(volumeHandle);
  }

  /**
   * Something of the node itself that an operator should know; it stands until this process ends. `subject` tells
   * several of one kind apart. Beyond MAX_NODE_CONDITIONS nothing is added.
   */
  putNode(kind: NodeConditionKind, subject: string, message: string): void {
    const key = `${kind} ${subject}`;
    if (this.#node.get(key)?.message === message) return;
    if (!this.#node.has(key) && this.#node.size >= MAX_NODE_CONDITIONS) return;
    this.#node.set(key, { kind, subject, message });
    for (const watcher of this.#watchers) watcher.nodeChanged();
  }

  /** Everything now, then what changes, until the signal aborts. Throws DATAPLANE_TOO_MANY_WATCHERS. */
  async *watch(signal: AbortSignal): AsyncGenerator<ConditionUpdate, void> {
    if (this.#watchers.size >= MAX_DATAPLANE_WATCHERS) {
      throw new DataplaneError(
        "DATAPLANE_TOO_MANY_WATCHERS",
        `${MAX_DATAPLANE_WATCHERS} watchers of volumes are connected; close one of them first`,
      );
    }
    const watcher = new Watcher();
    const onAbort = (): void => watcher.wake();
    this.#watchers.add(watcher);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      yield this.#update(true, [...this.#volumes.keys()]);
      for (;;) {
        const changed = await watcher.changes(signal);
        if (signal.aborted) return;
        yield this.#update(false, changed);
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#watchers.delete(watcher);
    }
  }

  #update(isComplete: boolean, handles: readonly string[]): ConditionUpdate {
    const conditions = handles.map((handle) => this.#volumes.get(handle));
    return {
      isComplete,
      volumes: conditions.filter((condition) => condition !== undefined),
      gone: handles.filter((_handle, index) => conditions[index] === undefined),
      node: [...this.#node.values()],
    };
  }
}

/** Remembers which volumes changed, not how: what is told is how they stand when it is told. */
class Watcher {
  readonly #volumes = new Set<string>();
  #isNodeChanged = false;
  #wakeUp: Deferred<undefined> | undefined;

  volumeChanged(volumeHandle: string): void {
    this.#volumes.add(volumeHandle);
    this.wake();
  }

  nodeChanged(): void {
    this.#isNodeChanged = true;
    this.wake();
  }

  wake(): void {
    this.#wakeUp?.resolve(undefined);
  }

  /** Waits for a change; with an aborted signal it returns at once. */
  async changes(signal: AbortSignal): Promise<readonly string[]> {
    while (this.#volumes.size === 0 && !this.#isNodeChanged && !signal.aborted) {
      this.#wakeUp = createDeferred<undefined>();
      await this.#wakeUp.promise;
    }
    const handles = [...this.#volumes];
    this.#volumes.clear();
    this.#isNodeChanged = false;
    return handles;
  }
}
