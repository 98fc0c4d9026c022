import type { Timer } from "../base/clock.js";
import type { AppError } from "../base/errors.js";
import { SessionError } from "./errors.js";
import type { SessionContext } from "./session-context.js";

/** For a session that is one of several paths to its unit: what becomes of its tasks while it has no connection. */
export interface Evacuation {
  /** How long they wait for the session to come back, before they fail and their owner may go another way. */
  readonly afterMs: number;
  /**
   * Makes certain, over another way to the target, that it carries out nothing more of what this session gave it.
   * Asked only while the session has no connection and no login of it is under way, so that a login with its ISID
   * elsewhere is safe. Resolves with false when there is no other way now; does not reject.
   */
  fence(signal: AbortSignal): Promise<boolean>;
}

/**
 * Gives tasks back to their owner when the session is lost, so that they can be carried out over another session. Those
 * that change nothing, or were never sent, go at once. A write whose fate is unknown goes only after the fence: else the
 * old one could still land, over what was written after it. It waits for that, or for the session to come back.
 */
export class SessionEvacuation {
  readonly #context: SessionContext;
  readonly #options: Evacuation | undefined;
  /** Ends the pause or the login under way, so that the fence has its turn. */
  readonly #interrupt: () => void;
  #reason: SessionError | undefined;
  #isDue = false;
  #timer: Timer | undefined;

  constructor(context: SessionContext, options: Evacuation | undefined, interrupt: () => void) {
    this.#context = context;
    this.#options = options;
    this.#interrupt = interrupt;
  }

  /** Are tasks given back rather than kept for this session? */
  get isPlanned(): boolean {
    return this.#options !== undefined;
  }

  /** The session has no connection any more; its tasks wait. */
  begin(cause: AppError): void {
    if (this.#options === undefined) return;
    this.#reason = new SessionError("SESSION_UNAVAILABLE", `the path is gone: ${cause.message}`, {
      retry: "other-path",
      cause,
    });
    if (this.#isDue || this.#options.afterMs === 0) {
      this.#becomeDue();
      return;
    }
    this.#timer ??= this.#context.dependencies.clock.setTimer(this.#options.afterMs, () => {
      this.#becomeDue();
      this.#interrupt();
    });
  }

  /** Another way to the target may be there: what waits for the fence is looked after now. */
  request(): void {
    if (this.#isDue && this.#context.dispatcher.waiting > 0) this.#interrupt();
  }

  /** Called before every login of the session: has the fence put up where tasks wait for it. */
  async prepare(signal: AbortSignal): Promise<void> {
    const { dispatcher } = this.#context;
    if (this.#options === undefined || !this.#isDue || dispatcher.waiting === 0) return;
    const isFenced = await this.#options.fence(signal);
    if (!isFenced || this.#reason === undefined || signal.aborted) return;
    this.#tell(
      dispatcher.evacuate(this.#reason, () => true),
      true,
    );
  }

  /** The session is back, or at its end. */
  end(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#isDue = false;
    this.#reason = undefined;
  }

  #becomeDue(): void {
    const { dispatcher } = this.#context;
    if (this.#reason === undefined) return;
    this.#isDue = true;
    dispatcher.setRefusal(this.#reason);
    const given = dispatcher.evacuate(
      this.#reason,
      ({ task, attempts }) => task.dataOut === undefined || attempts === 0,
    );
    this.#tell(given, false);
  }

  #tell(tasks: number, isFenced: boolean): void {
    if (tasks > 0) this.#context.emit({ kind: "handed-over", tasks, isFenced });
  }
}
