/** Randomness as the core sees it; a simulation seeds it. */
export interface Random {
  /** `lengthBytes` fresh bytes; the caller owns the buffer. Fit for key material in production. */
  bytes(lengthBytes: number): Buffer;
  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number;
  /** A number from 0 (included) to 1 (excluded). */
  fraction(): number;
}
