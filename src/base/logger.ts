export type LogLevel = "trace" | "debug" | "info" | "warn" | "error";

export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Where layers report. Messages are constant strings, data goes into fields.
 * error: an operator must act; warn: degraded but recovering; info: lifecycle; debug: per command; trace: per PDU.
 */
export interface Logger {
  /** A logger that adds `bindings` to every line. */
  child(bindings: LogFields): Logger;
  isEnabled(level: LogLevel): boolean;
  trace(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const ignore = (): void => undefined;

/** Says nothing. */
export const silentLogger: Logger = {
  child: () => silentLogger,
  isEnabled: () => false,
  trace: ignore,
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
};
