import { spawn } from "node:child_process";

export interface MeasuredRun {
  readonly stdout: string;
  readonly stderr: string;
  /** User and system time of the program and of what it waited for, in seconds. */
  readonly cpuSeconds: number;
}

/** Runs a program to its end under the shell's `time`; fails when it fails or takes longer than `timeoutMs`. */
export function runMeasured(argv: readonly string[], timeoutMs: number): Promise<MeasuredRun> {
  const script = 'TIMEFORMAT="cpu-time %U %S"; time "$@"';
  const child = spawn("bash", ["-c", script, "bash", ...argv], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      if (code !== 0) {
        reject(new Error(`${argv.join(" ")} ended with ${String(code)}:\n${output.stdout}${output.stderr}`));
        return;
      }
      const [, user, system] = /cpu-time ([\d.]+) ([\d.]+)/.exec(output.stderr) ?? [];
      resolve({ ...output, cpuSeconds: Number(user) + Number(system) });
    });
  });
}

export interface Server {
  readonly pid: number;
  stop(): Promise<void>;
}

/** Starts a long-running program and waits until `isReady` says so. */
export async function startServer(argv: readonly string[], isReady: () => Promise<boolean>): Promise<Server> {
  const [file, ...rest] = argv;
  const child = spawn(file ?? "", rest, { stdio: ["ignore", "ignore", "pipe"] });
  let words = "";
  child.stderr.on("data", (chunk: Buffer) => (words = (words + chunk.toString()).slice(-4000)));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exited;
  };
  for (let attempt = 0; attempt < 100; attempt += 1) {
    if (child.exitCode !== null) throw new Error(`${argv.join(" ")} ended at once:\n${words}`);
    if (await isReady()) return { pid: child.pid ?? 0, stop };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await stop();
  throw new Error(`${argv.join(" ")} did not become ready:\n${words}`);
}
