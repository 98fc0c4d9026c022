/**
 * The command window of a session (RFC 7143 §4.2.2.1): which CmdSN comes next and whether the target takes it now.
 * Pure; comparisons are those of RFC 1982.
 */
export class CommandWindow {
  #cmdSn: number;
  #expCmdSn: number;
  #maxCmdSn: number;

  /** `cmdSn` is that of the login: the first command of the full feature phase has the same (§11.12.8). */
  constructor(cmdSn: number) {
    this.#cmdSn = cmdSn >>> 0;
    this.#expCmdSn = this.#cmdSn;
    this.#maxCmdSn = (this.#cmdSn - 1) >>> 0;
  }

  /** What the next command will have, and what an immediate one carries without advancing it. */
  get nextCmdSn(): number {
    return this.#cmdSn;
  }

  get expCmdSn(): number {
    return this.#expCmdSn;
  }

  get maxCmdSn(): number {
    return this.#maxCmdSn;
  }

  /** Will the target take one more non-immediate command? */
  get isOpen(): boolean {
    return ((this.#maxCmdSn - this.#cmdSn) | 0) >= 0;
  }

  /** Commands the target takes now. */
  get room(): number {
    return Math.max(0, ((this.#maxCmdSn - this.#cmdSn) | 0) + 1);
  }

  /** The CmdSN of a command that is sent now; only while `isOpen`. */
  take(): number {
    const cmdSn = this.#cmdSn;
    this.#cmdSn = (cmdSn + 1) >>> 0;
    return cmdSn;
  }

  /** Has the target received the command with this number? */
  isAcknowledged(cmdSn: number): boolean {
    return ((this.#expCmdSn - cmdSn) | 0) > 0;
  }

  /** Takes both numbers of a target PDU. They only ever grow, and a pair that contradicts itself is ignored. */
  update(expCmdSn: number, maxCmdSn: number): void {
    if (((maxCmdSn - expCmdSn + 1) | 0) < 0) return;
    if (((expCmdSn - this.#expCmdSn) | 0) > 0) this.#expCmdSn = expCmdSn;
    if (((maxCmdSn - this.#maxCmdSn) | 0) > 0) this.#maxCmdSn = maxCmdSn;
  }
}
