import { pino, type Logger as PinoLogger } from "pino";
import type { LogFields, Logger, LogLevel } from "../base/logger.js";

/** Fields that hold an Error are written with their code, message and stack; everything else goes through as it is. */
function serialise(fields: LogFields | undefined): LogFields {
  if (fields === undefined) return {};
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    out[key] = value instanceof Error ? pino.stdSerializers.err(value) : value;
  }
  return out;
}

class PinoAdapter implements Logger {
  readonly #pino: PinoLogger;

  constructor(instance: PinoLogger) {
    this.#pino = instance;
  }

  child(bindings: LogFields): Logger {
    return new PinoAdapter(this.#pino.child(bindings));
  }

  isEnabled(level: LogLevel): boolean {
    return this.#pino.isLevelEnabled(level);
  }

  trace(message: string, fields?: LogFields): void {
    this.#pino.trace(serialise(fields), message);
  }

  debug(message: string, fields?: LogFields): void {
    this.#pino.debug(serialise(fields), message);
  }

  info(message: string, fields?: LogFields): void {
    this.#pino.info(serialise(fields), message);
  }

  warn(message: string, fields?: LogFields): void {
    this.#pino.warn(serialise(fields), message);
  }

  error(message: string, fields?: LogFields): void {
    this.#pino.error(serialise(fields), message);
  }
}

/** JSON lines on standard error, synchronously, so that the last words of a dying process are not lost. */
export function createPinoLogger(options: { readonly level: LogLevel; readonly name: string }): Logger {
  return new PinoAdapter(pino({ level: options.level, name: options.name }, pino.destination({ fd: 2, sync: true })));
}
