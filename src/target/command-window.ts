import { serialAdd, serialDistance, serialLess } from "../base/serial32.js";

/**
 * The command window of one session (RFC 7143 §4.2.2.1): orders commands by CmdSN over all connections, and grants
 * new ones only while fewer than `depth` are at work. MaxCmdSN never shrinks.
 */
export class CommandWindow<T> {
  readonly #depth: number;
  /** Commands that came early, by CmdSN: at most `depth`, since nothing beyond MaxCmdSN is kept. */
  readonly #early = new Map<number, T>();
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

  /**
   * Where a non-immediate command stands: `next` to be delivered now, `early` when others are missing before it,
   * `outside` when it must be ignored in silence.
   */
  place(cmdSn: number): "next" | "early" | "outside" {
    const distance = serialDistance(this.#expCmdSn, cmdSn);
    if (distance === 0) return this.#isOpen() ? "next" : "outside";
    if (distance < 0 || serialLess(this.#maxCmdSn, cmdSn) || this.#early.has(cmdSn)) return "outside";
    return "early";
  }

  /** Keeps an early command. */
  hold(cmdSn: number, command: T): void {
    this.#early.set(cmdSn, command);
  }

  /** Counts the command with ExpCmdSN as received. */
  advance(): void {
    this.#expCmdSn = serialAdd(this.#expCmdSn, 1);
  }

  /** The early command whose turn has come, taken out. */
  takeNext(): T | undefined {
    if (this.#early.size === 0) return undefined;
    const next = this.#early.get(this.#expCmdSn);
    if (next !== undefined) this.#early.delete(this.#expCmdSn);
    return next;
  }

  /** A command begins to use a place in the window. */
  begin(): void {
    this.#active += 1;
  }

  /** A command gave its place back: the window may open further. */
  end(): void {
    this.#active -= 1;
    const wanted = serialAdd(this.#expCmdSn, this.#depth - this.#active - 1);
    if (serialLess(this.#maxCmdSn, wanted)) this.#maxCmdSn = wanted;
  }

  #isOpen(): boolean {
    return !serialLess(this.#maxCmdSn, this.#expCmdSn);
  }
}
