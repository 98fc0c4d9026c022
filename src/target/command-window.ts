import { serialAdd, serialDistance, serialLess, serialLessOrEqual } from "../base/serial32.js";

interface DeliveryWaiter {
  readonly cmdSn: number;
  readonly resolve: () => void;
}

/**
 * The command window of one session (RFC 7143 §4.2.2.1): orders commands by CmdSN over all connections, and grants
 * new ones only while fewer than `depth` are at work. MaxCmdSN never shrinks.
 */
export class CommandWindow<T> {
  readonly #depth: number;
  /** Commands that came early, by CmdSN: at most `depth`, since nothing beyond MaxCmdSN is kept. */
  readonly #early = new Map<number, T>();
  /** Numbers ahead that count as received, since their commands were aborted. Within the window, as the early ones. */
  readonly #plugged = new Set<number>();
  #waiters: DeliveryWaiter[] = [];
  #expCmdSn: number;
  #maxCmdSn: number;
  #active = 0;

  constructor(options: { readonly depth: number; readonly expCmdSn: number }) {
    this.#depth = options.depth;
    this.#expCmdSn = options.expCmdSn;
    this.#maxCmdSn = serialAdd(options.expCmdSn, options.depth - 1);
  }

  get expCmdSn(): number {
    return this.#expCmdSn;
  }

  get maxCmdSn(): number {
    return this.#maxCmdSn;
  }

  /** The commands that wait for a gap before them to fill. */
  get early(): ReadonlyMap<number, T> {
    return this.#early;
  }

  /**
   * Where a non-immediate command stands: `next` to be delivered now, `early` when others are missing before it,
   * `outside` when it must be ignored in silence.
   */
  place(cmdSn: number): "next" | "early" | "outside" {
    const distance = serialDistance(this.#expCmdSn, cmdSn);
    if (distance === 0) return this.#isOpen() ? "next" : "outside";
    if (distance < 0 || serialLess(this.#maxCmdSn, cmdSn) || this.#early.has(cmdSn)) return "outside";
    return this.#plugged.has(cmdSn) ? "outside" : "early";
  }

  /** Keeps an early command. */
  hold(cmdSn: number, command: T): void {
    this.#early.set(cmdSn, command);
  }

  /** Forgets an early command: its number is a gap again. */
  forget(cmdSn: number): void {
    this.#early.delete(cmdSn);
  }

  /** Counts the command with ExpCmdSN as received. */
  advance(): void {
    do this.#expCmdSn = serialAdd(this.#expCmdSn, 1);
    while (this.#plugged.size > 0 && this.#plugged.delete(this.#expCmdSn));
    if (this.#waiters.length > 0) this.#wake();
  }

  /**
   * Counts a number from ExpCmdSN to MaxCmdSN as received without a command (RFC 7143 §11.6.1): its command was
   * aborted before it came, or before its turn. Commands behind it may now be next.
   */
  plug(cmdSn: number): void {
    this.#early.delete(cmdSn);
    if (cmdSn === this.#expCmdSn) {
      this.advance();
      this.#widen();
    } else if (serialLess(this.#expCmdSn, cmdSn) && serialLessOrEqual(cmdSn, this.#maxCmdSn)) {
      this.#plugged.add(cmdSn);
    }
  }

  /** The early command whose turn has come, taken out. */
  takeNext(): T | undefined {
    if (this.#early.size === 0) return undefined;
    const next = this.#early.get(this.#expCmdSn);
    if (next !== undefined) this.#early.delete(this.#expCmdSn);
    return next;
  }

  /** Resolves once every command before `cmdSn` has been received. */
  whenReceived(cmdSn: number): Promise<void> {
    if (serialLessOrEqual(cmdSn, this.#expCmdSn)) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ cmdSn, resolve }));
  }

  /** A command begins to use a place in the window. */
  begin(): void {
    this.#active += 1;
  }

  /** A command gave its place back: the window may open further. */
  end(): void {
    this.#active -= 1;
    this.#widen();
  }

  #widen(): void {
    const wanted = serialAdd(this.#expCmdSn, this.#depth - this.#active - 1);
    if (serialLess(this.#maxCmdSn, wanted)) this.#maxCmdSn = wanted;
  }

  #wake(): void {
    const due = this.#waiters.filter(({ cmdSn }) => serialLessOrEqual(cmdSn, this.#expCmdSn));
    if (due.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => !due.includes(waiter));
    for (const { resolve } of due) resolve();
  }

  #isOpen(): boolean {
    return !serialLess(this.#maxCmdSn, this.#expCmdSn);
  }
}
