import { AppError, CancelledError, TimeoutError, type ErrorLayer } from "../base/errors.js";

/** What a shell script can tell apart. Documented in docs/troubleshooting.md; never renumbered. */
export const ExitCode = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  /** A flag, file or environment value is wrong. */
  configuration: 3,
  /** Nobody answers: refused, unreachable, reset. */
  transport: 10,
  /** The target refused the login or one side's CHAP failed. */
  login: 11,
  /** The peer broke the protocol. */
  protocol: 12,
  /** A SCSI command or a block operation failed. */
  device: 13,
  /** This host lacks something, or a program on it failed. */
  host: 14,
  /** The dataplane refused or cannot be reached. */
  dataplane: 15,
  /** The storage backend refused. */
  storage: 16,
  timeout: 124,
  interrupted: 130,
} as const;

const byLayer: Readonly<Record<ErrorLayer, number>> = {
  base: ExitCode.configuration,
  config: ExitCode.configuration,
  cli: ExitCode.configuration,
  wire: ExitCode.protocol,
  scsi: ExitCode.device,
  block: ExitCode.device,
  multipath: ExitCode.device,
  nbd: ExitCode.device,
  host: ExitCode.host,
  login: ExitCode.login,
  transport: ExitCode.transport,
  session: ExitCode.protocol,
  discovery: ExitCode.protocol,
  // What a session or a login failed with keeps its own layer; this one only checks what it is asked for.
  initiator: ExitCode.configuration,
  target: ExitCode.host,
  dataplane: ExitCode.dataplane,
  storage: ExitCode.storage,
  csi: ExitCode.storage,
};

/** The exit code for whatever a command failed with. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof TimeoutError) return ExitCode.timeout;
  if (error instanceof CancelledError) return ExitCode.interrupted;
  if (error instanceof AppError) return byLayer[error.layer];
  if (error instanceof Error && error.name === "AbortError") return ExitCode.interrupted;
  return ExitCode.unexpected;
}
