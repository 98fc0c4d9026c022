/**
 * Serial number arithmetic of RFC 1982 with SERIAL_BITS = 32, as RFC 7143 §4.2.2.1 asks for CmdSN,
 * StatSN, DataSN and R2TSN. Values are whole numbers from 0 to 2^32 - 1.
 */

/** `value + increment`, wrapped; `increment` may be negative. */
export function serialAdd(value: number, increment: number): number {
  return (value + increment) >>> 0;
}

/** The signed distance from `from` to `to`, in -2^31 … 2^31 - 1. */
export function serialDistance(from: number, to: number): number {
  return (to - from) | 0;
}

/** Is `a` before `b`? The pair exactly 2^31 apart is undefined in RFC 1982; here neither is before the other. */
export function serialLess(a: number, b: number): boolean {
  const distance = (b - a) | 0;
  return distance > 0;
}

export function serialLessOrEqual(a: number, b: number): boolean {
  return a === b || serialLess(a, b);
}
