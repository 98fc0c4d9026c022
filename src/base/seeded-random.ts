import type { Random } from "./random.js";

/** Mulberry32: one seed, one sequence. For simulations and tests, never for key material. */
export class SeededRandom implements Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  uint32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  fraction(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  bytes(lengthBytes: number): Buffer {
    const bytes = Buffer.alloc(lengthBytes);
    for (let index = 0; index < lengthBytes; index += 1) bytes[index] = this.uint32() & 0xff;
    return bytes;
  }
}
