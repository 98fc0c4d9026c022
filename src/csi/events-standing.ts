import type { Clock, Timer } from "../base/clock.js";
import type { Finding } from "./events-rules.js";

export interface StandingOptions {
  /** After this long it is said again, as long as it stands. */
  readonly remindMs: number;
}

/**
 * Something that is wrong for as long as it stands: said after it stood for a while, so that a blip is silent; said
 * again now and then, since events are forgotten after an hour; and its end is said only if its beginning was.
 */
export class Standing {
  readonly #options: StandingOptions;
  readonly #clock: Clock;
  readonly #tell: (finding: Finding) => void;
  #finding: Finding | undefined;
  #told: Finding | undefined;
  #timer: Timer | undefined;

  constructor(
    options: StandingOptions,
    dependencies: { readonly clock: Clock; readonly tell: (finding: Finding) => void },
  ) {
    this.#options = options;
    this.#clock = dependencies.clock;
    this.#tell = dependencies.tell;
  }

  /** It stands, in these words from now on. It is said after `holdMs`; at once when another reason was said before. */
  stand(finding: Finding, holdMs: number): void {
    const isFirst = this.#finding === undefined;
    this.#finding = finding;
    if (this.#told !== undefined) {
      if (this.#told.reason !== finding.reason) this.#say();
    } else if (holdMs === 0) {
      this.#say();
    } else if (isFirst) {
      this.#timer = this.#clock.setTimer(holdMs, () => this.#say());
    }
  }

  /** It stands no more. True when its beginning was said. */
  end(): boolean {
    const wasTold = this.#told !== undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#finding = undefined;
    this.#told = undefined;
    return wasTold;
  }

  #say(): void {
    this.#timer?.cancel();
    if (this.#finding === undefined) return;
    this.#told = this.#finding;
    this.#tell(this.#finding);
    this.#timer = this.#clock.setTimer(this.#options.remindMs, () => this.#say());
  }
}
