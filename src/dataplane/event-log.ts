import type { Clock } from "../base/clock.js";
import { createDeferred, type Deferred } from "../base/deferred.js";
import { MAX_DATAPLANE_EVENTS, MAX_DATAPLANE_WATCHERS, MAX_EVENTS_PER_WATCHER } from "../base/limits.js";
import type { DataplaneEvent } from "./api.js";
import { DataplaneError } from "./errors.js";

/** The last events, and those who watch for more. Bounded on both sides: a slow watcher loses its oldest events. */
export class EventLog {
  readonly #clock: Clock;
  readonly #recent: DataplaneEvent[] = [];
  readonly #watchers = new Set<Watcher>();

  constructor(dependencies: { readonly clock: Clock }) {
    this.#clock = dependencies.clock;
  }

  /** Adds an event. `message` is for people and holds no secret. */
  add(volumeHandle: string, kind: string, message: string): void {
    const event = { timeMs: this.#clock.wallTimeMs(), volumeHandle, kind, message };
    this.#recent.push(event);
    if (this.#recent.length > MAX_DATAPLANE_EVENTS) this.#recent.shift();
    for (const watcher of this.#watchers) watcher.push(event);
  }

  /** Oldest first. */
  recent(): readonly DataplaneEvent[] {
    return [...this.#recent];
  }

  /** Events from this call on, until the signal aborts. Throws DATAPLANE_TOO_MANY_WATCHERS. */
  watch(signal: AbortSignal): AsyncIterable<DataplaneEvent> {
    if (this.#watchers.size >= MAX_DATAPLANE_WATCHERS) {
      throw new DataplaneError(
        "DATAPLANE_TOO_MANY_WATCHERS",
        `${MAX_DATAPLANE_WATCHERS} watchers of events are connected; close one of them first`,
      );
    }
    const watcher = new Watcher();
    const stop = (): void => {
      this.#watchers.delete(watcher);
      watcher.end();
    };
    if (signal.aborted) return { [Symbol.asyncIterator]: () => emptyIterator };
    this.#watchers.add(watcher);
    signal.addEventListener("abort", stop, { once: true });
    return {
      [Symbol.asyncIterator]: () => ({
        next: () => watcher.next(),
        return: () => {
          signal.removeEventListener("abort", stop);
          stop();
          return Promise.resolve({ done: true, value: undefined });
        },
      }),
    };
  }
}

const emptyIterator: AsyncIterator<DataplaneEvent> = {
  next: () => Promise.resolve({ done: true, value: undefined }),
};

class Watcher {
  readonly #queue: DataplaneEvent[] = [];
  #isEnded = false;
  #wakeUp: Deferred<undefined> | undefined;

  push(event: DataplaneEvent): void {
    this.#queue.push(event);
    if (this.#queue.length > MAX_EVENTS_PER_WATCHER) this.#queue.shift();
    this.#wakeUp?.resolve(undefined);
  }

  end(): void {
    this.#isEnded = true;
    this.#wakeUp?.resolve(undefined);
  }

  async next(): Promise<IteratorResult<DataplaneEvent, undefined>> {
    for (;;) {
      const event = this.#queue.shift();
      if (event !== undefined) return { done: false, value: event };
      if (this.#isEnded) return { done: true, value: undefined };
      this.#wakeUp ??= createDeferred<undefined>();
      await this.#wakeUp.promise;
      this.#wakeUp = undefined;
    }
  }
}
