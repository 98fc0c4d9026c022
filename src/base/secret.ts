import { inspect } from "node:util";

/**
 * Key material that cannot be printed by accident: every ordinary way to a string gives `[redacted]`.
 * `reveal` is the only way in and is called where the bytes are used, nowhere else.
 */
export class Secret {
  readonly #bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Keeps a copy of `value`. */
  static from(value: string | Buffer): Secret {
    return new Secret(Buffer.from(value));
  }

  /** The bytes themselves: borrowed, not to be kept, logged or changed. */
  reveal(): Buffer {
    return this.#bytes;
  }

  get lengthBytes(): number {
    return this.#bytes.length;
  }

  /** Overwrites the bytes; the secret is empty afterwards in all but length. */
  wipe(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return "[redacted]";
  }

  toJSON(): string {
    return "[redacted]";
  }

  [inspect.custom](): string {
    return "[redacted]";
  }

  [Symbol.toPrimitive](): string {
    return "[redacted]";
  }
}
