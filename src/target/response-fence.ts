import type { Clock } from "../base/clock.js";
import { TARGET_FENCE_TIMEOUT_MS } from "../base/limits.js";
import type { ConnectionSlot } from "./connection-slot.js";
import { TargetError } from "./errors.js";

export interface ResponseFenceOptions {
  /** TaskReporting is ResponseFence or FastAbort: responses after a fenced one wait as well (RFC 7143 §4.2.2.3.3). */
  readonly holdsFollowing: boolean;
}

export interface ResponseFenceDependencies {
  readonly clock: Clock;
  /** All connections of the session. */
  readonly slots: () => readonly ConnectionSlot[];
}

interface HeldResponse {
  readonly slot: ConnectionSlot;
  readonly isFenced: boolean;
  readonly send: () => void;
}

/**
 * The Response Fence of one session (RFC 7143 §4.2.2.3): a fenced response leaves only after all earlier ones have been
 * acknowledged on every connection, and where TaskReporting asks for it, later ones wait until it has been acknowledged
 * itself. Acknowledgements are asked for with NOP-In; a connection that gives none in time is closed. With a single
 * connection everything is in order already, and nothing waits.
 */
export class ResponseFence {
  readonly #options: ResponseFenceOptions;
  readonly #deps: ResponseFenceDependencies;
  #held: HeldResponse[] = [];
  #isRaised = false;
  #isNextFenced = false;

  constructor(options: ResponseFenceOptions, dependencies: ResponseFenceDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Do responses have to go through `submit`? */
  get isOn(): boolean {
    return this.#options.holdsFollowing && (this.#isRaised || this.#deps.slots().length > 1);
  }

  /** The next response of a command carries the unit attention of a multi-task abort (§4.2.2.3.4 a). */
  fenceNext(): void {
    this.#isNextFenced = true;
  }

  /** Sends a response now, or when the fence before it is down. `send` is called exactly once. */
  submit(slot: ConnectionSlot, isFenced: boolean, send: () => void): void {
    const response = { slot, isFenced: isFenced || this.#isNextFenced, send };
    // A task management response is fenced anyway: the next one is that of a command.
    if (!isFenced) this.#isNextFenced = false;
    if (this.#isRaised) this.#held.push(response);
    else if (response.isFenced) void this.#raise(response);
    else send();
  }

  /** Resolves when every response sent so far has been acknowledged, or its connection is gone. */
  async clear(slots: readonly ConnectionSlot[] = this.#deps.slots()): Promise<void> {
    const waited = slots.filter((slot) => slot.canSend && slot.expStatSn !== slot.connection.statSn);
    if (waited.length === 0) return;
    const all = Promise.all(waited.map((slot) => slot.whenAcknowledged()));
    const due = waited.map((slot) => ({ slot, statSn: slot.connection.statSn }));
    const timer = this.#deps.clock.setTimer(TARGET_FENCE_TIMEOUT_MS, () => {
      for (const { slot, statSn } of due) {
        if (!slot.hasAcknowledged(statSn)) slot.connection.destroy(silent(slot));
      }
    });
    for (const slot of waited) slot.solicitAcknowledgement();
    await all;
    timer.cancel();
  }

  /** The session is over: what is held leaves, to connections that take nothing any more. */
  end(): void {
    const held = this.#held;
    this.#held = [];
    this.#isRaised = false;
    for (const { send } of held) send();
  }

  async #raise(response: HeldResponse): Promise<void> {
    this.#isRaised = true;
    await this.clear();
    response.send();
    await this.clear([response.slot]);
    this.#isRaised = false;
    while (!this.#isRaised) {
      const next = this.#held.shift();
      if (next === undefined) return;
      if (next.isFenced) void this.#raise(next);
      else next.send();
    }
  }
}

function silent(slot: ConnectionSlot): TargetError {
  const message = `${slot.connection.remoteAddress} did not acknowledge its responses in time`;
  return new TargetError("TARGET_PEER_TIMEOUT", message);
}
