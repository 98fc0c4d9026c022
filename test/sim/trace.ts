import { createHash } from "node:crypto";
import { type LogFields, type Logger, silentLogger } from "../../src/base/logger.js";

/** What a world did, in order. Its hash is the same for the same seed, or the world is not deterministic. */
export class Trace {
  readonly #hash = createHash("sha256");
  readonly #nowMs: () => number;
  readonly #print: ((line: string) => void) | undefined;
  /** Lines of headers and notes. */
  length = 0;

  constructor(nowMs: () => number, print?: (line: string) => void) {
    this.#nowMs = nowMs;
    this.#print = print;
  }

  /** A PDU: `header` goes into the hash, `describe` is asked only when somebody reads. */
  pdu(place: string, header: Buffer, describe: () => string): void {
    this.length += 1;
    this.#hash.update(`${this.#nowMs()} ${place}`);
    this.#hash.update(header);
    this.#print?.(`${this.#stamp()} ${place} ${describe()}`);
  }

  note(text: string): void {
    this.length += 1;
    this.#hash.update(`${this.#nowMs()} ${text}`);
    this.#print?.(`${this.#stamp()} -- ${text}`);
  }

  digest(): string {
    return this.#hash.digest("hex").slice(0, 16);
  }

  /** What the product says, beside the rest and not part of the hash. */
  logger(name: string): Logger {
    const print = this.#print;
    if (print === undefined) return silentLogger;
    const say =
      (level: string) =>
      (message: string, fields: LogFields = {}): void =>
        print(`${this.#stamp()} ${name} ${level}: ${message} ${describeFields(fields)}`);
    const logger: Logger = {
      child: () => logger,
      isEnabled: () => true,
      trace: say("trace"),
      debug: say("debug"),
      info: say("info"),
      warn: say("warn"),
      error: say("error"),
    };
    return logger;
  }

  #stamp(): string {
    return this.#nowMs().toFixed(3).padStart(11);
  }
}

function describeFields(fields: LogFields): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value instanceof Error ? (value.stack ?? value.message) : String(value)}`)
    .join(" ");
}
