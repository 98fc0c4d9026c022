/** What one writer got for a write, and what the target's disk then held where it went. */
export interface FightStep {
  readonly target: string;
  readonly text: string;
  /** `written`, or how it was refused. */
  readonly outcome: string;
  /** The first bytes of the place in the backing file, in hexadecimal. */
  readonly bytes: string;
  /** Is the whole place, byte for byte, this letter? Empty when it is not of one letter. */
  readonly letter: string;
}

/** What test/kernel/guest/reservation-fight.ts writes for each target. */
export interface FightReport {
  readonly target: string;
  readonly keyA: string;
  readonly keyB: string;
  readonly steps: readonly FightStep[];
  /** What node A's log has of answers with an error after it woke up. */
  readonly refusals: readonly string[];
  readonly lostEvent: string;
  readonly heldError: string;
  /** Keys registered with the unit after each time A had come back. */
  readonly keysAfterReconnects: readonly (readonly string[])[];
  /** Connections that A has made after it lost the volume. */
  readonly reconnects: number;
}

/** What test/kernel/guest/one-portal-group.ts writes. */
export interface OneGroupReport {
  /** With `fencing: auto`, over each path. */
  readonly writes: readonly number[];
  /** With `fencing: required`: why the path that is not used is not. */
  readonly refusal: string;
  /** From the loss of the one path until what was written then was done over the other. */
  readonly takenOverMs: number;
}
