import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { silentLogger } from "../../src/base/logger.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { SystemRandom } from "../../src/base/system-random.js";
import type { TargetServer } from "../../src/target/api.js";
import { createTargetServer, type TargetServerOptions } from "../../src/target/target-server.js";
import { TcpListener } from "../../src/transport/tcp.js";

/** An embedded target on real sockets. */
export function realTargetServer(options: TargetServerOptions): TargetServer {
  const clock = new SystemClock({ unref: true });
  const listener = new TcpListener({ clock, logger: silentLogger });
  return createTargetServer(options, { listener, clock, random: new SystemRandom(), logger: silentLogger });
}

export interface ProgramResult {
  readonly exitCode: number;
  /** Standard output and error, one after the other. */
  readonly output: string;
}

/** Runs an outside program without blocking this process, which serves it. */
export async function runProgram(program: string, args: readonly string[], timeoutMs = 60_000): Promise<ProgramResult> {
  try {
    const options = { timeout: timeoutMs, maxBuffer: 16 << 20 };
    const { stdout, stderr } = await promisify(execFile)(program, [...args], options);
    return { exitCode: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    return { exitCode: typeof code === "number" ? code : 1, output: `${stdout ?? ""}${stderr ?? ""}` };
  }
}
