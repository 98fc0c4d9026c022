import { assert } from "../base/assert.js";

/**
 * `connecting` the first login; `ready` commands flow; `draining` the target asked us to log out; `recovering` no
 * connection; `verifying` connected again, guards are looking; `closing` logging out for good; `closed` the end.
 */
export type SessionState = "connecting" | "ready" | "draining" | "recovering" | "verifying" | "closing" | "closed";

/** Which state may follow which. */
const transitions: Readonly<Record<SessionState, readonly SessionState[]>> = {
  connecting: ["ready", "closed"],
  ready: ["draining", "recovering", "closing", "closed"],
  draining: ["recovering", "closing", "closed"],
  recovering: ["verifying", "closed"],
  verifying: ["ready", "recovering", "closing", "closed"],
  closing: ["closed"],
  closed: [],
};

/** The one state variable of a session, changed here only. */
export class SessionStateMachine {
  #state: SessionState = "connecting";
  #reason = "";

  get state(): SessionState {
    return this.#state;
  }

  /** Why it is not ready; empty when it is. */
  get reason(): string {
    return this.#reason;
  }

  /** An illegal step is a mistake of ours. */
  moveTo(state: SessionState, reason: string): void {
    assert(transitions[this.#state].includes(state), `session cannot go from ${this.#state} to ${state}`);
    this.#state = state;
    this.#reason = reason;
  }

  /** News about why the state lasts. */
  explain(reason: string): void {
    this.#reason = reason;
  }
}
