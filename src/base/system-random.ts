import { randomBytes } from "node:crypto";
import type { Random } from "./random.js";

/** The operating system's cryptographic generator. */
export class SystemRandom implements Random {
  bytes(lengthBytes: number): Buffer {
    return randomBytes(lengthBytes);
  }

  uint32(): number {
    return randomBytes(4).readUInt32BE(0);
  }

  fraction(): number {
    return this.uint32() / 0x1_0000_0000;
  }
}
