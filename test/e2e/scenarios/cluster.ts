import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { ClusterDescription } from "../cluster/description.js";
import type { ClusterRecord } from "../cluster/sandbox.js";

/** What scripts/e2e wrote about the cluster that it brought up. */
export type RunningCluster = ClusterDescription & Pick<ClusterRecord, "sandboxPid">;

/** A Kubernetes object as far as a scenario looks into it. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

export interface CommandOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
}

/** A command that did not end with 0, with the end of what it said. */
export class CommandError extends Error {
  readonly output: string;

  constructor(command: string, exitCode: number | undefined, output: string) {
    super(`${command}\n  ended with ${exitCode ?? "a timeout"}: ${output.trim().slice(-1500)}`);
    this.name = "CommandError";
    this.output = output;
  }
}

const DEFAULT_TIMEOUT_MS = 60_000;
const SHOWN_COMMAND_CHARACTERS = 300;

/** A program that runs beside the scenario. `finished` resolves with its standard output, rejects with CommandError. */
export interface Running {
  readonly process: ChildProcess;
  readonly finished: Promise<string>;
}

/** Starts a program; it ends by itself or after `timeoutMs`. */
export function startCommand(argv: readonly string[], options: CommandOptions = {}): Running {
  const [program = "", ...args] = argv;
  const command = argv.join(" ").slice(0, SHOWN_COMMAND_CHARACTERS);
  const child = spawn(program, args, {
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const out: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout?.on("data", (bytes: Buffer) => out.push(bytes));
  child.stderr?.on("data", (bytes: Buffer) => errors.push(bytes));
  const finished = new Promise<string>((resolve, reject) => {
    child.once("error", (error) => reject(new CommandError(command, undefined, error.message)));
    child.once("close", (code) => {
      const text = Buffer.concat(out).toString("utf8");
      if (code === 0) resolve(text);
      else reject(new CommandError(command, code ?? undefined, `${Buffer.concat(errors).toString("utf8")}${text}`));
    });
  });
  // Whoever started it may look at the outcome much later.
  finished.catch(() => undefined);
  child.stdin?.on("error", () => undefined);
  if (options.input !== undefined) child.stdin?.end(options.input);
  return { process: child, finished };
}

/** The way into the cluster: kubectl, helm, and programs of the host inside the sandbox. */
export class Cluster {
  readonly description: RunningCluster;

  constructor(description: RunningCluster) {
    this.description = description;
  }

  /** Reads what scripts/e2e wrote. Throws when there is no such file, or the cluster in it is not up yet. */
  static read(path: string): Cluster {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch {
      throw new Error(`there is no ${path}: no e2e cluster is running; start one: scripts/e2e --up`);
    }
    const description = JSON.parse(text) as Partial<RunningCluster>;
    if (description.kubectl === undefined) throw new Error(`${path}: the cluster is not up; wait, or scripts/e2e --up`);
    return new Cluster(description as RunningCluster);
  }

  /** Standard output of kubectl. */
  kubectl(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return startCommand([...this.description.kubectl, ...args], options).finished;
  }

  /** kubectl beside the scenario. */
  startKubectl(args: readonly string[], options: CommandOptions = {}): Running {
    return startCommand([...this.description.kubectl, ...args], options);
  }

  helm(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return startCommand([...this.description.helm, ...args], options).finished;
  }

  /** Standard output of a program of the host, run inside the sandbox. */
  host(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return startCommand([...this.description.enter, ...argv], options).finished;
  }

  startHost(argv: readonly string[], options: CommandOptions = {}): Running {
    return startCommand([...this.description.enter, ...argv], options);
  }

  async apply(...objects: readonly KubeObject[]): Promise<void> {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await this.kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"], { input: JSON.stringify(list) });
  }

  /** One object, or undefined when there is none. */
  async find(kind: string, name: string, namespace?: string): Promise<KubeObject | undefined> {
    const text = await this.kubectl([...inNamespace(namespace), "get", kind, name, "--ignore-not-found", "-o", "json"]);
    return text.trim() === "" ? undefined : (JSON.parse(text) as KubeObject);
  }

  /** Objects of a kind; all namespaces when none is given. */
  async list(kind: string, namespace?: string, selector?: string): Promise<readonly KubeObject[]> {
    const where = namespace === undefined ? ["-A"] : ["-n", namespace];
    const which = selector === undefined ? [] : ["-l", selector];
    const text = await this.kubectl(["get", kind, ...where, ...which, "-o", "json"]);
    return (JSON.parse(text) as { readonly items: readonly KubeObject[] }).items;
  }
}

function inNamespace(namespace: string | undefined): readonly string[] {
  return namespace === undefined ? [] : ["-n", namespace];
}

export interface UntilOptions {
  /** For the error: what is waited for. */
  readonly what: string;
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
}

/**
 * Asks until the answer is not undefined; returns it. Rejects after `timeoutMs` (60 s) with what was waited for and the
 * last error, if asking failed.
 */
export async function until<T>(ask: () => Promise<T | undefined>, options: UntilOptions): Promise<T> {
  const { what, timeoutMs = 60_000, intervalMs = 500 } = options;
  const end = Date.now() + timeoutMs;
  let problem = "";
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      problem = "";
    } catch (error) {
      problem = `; the last error: ${(error as Error).message}`;
    }
    if (Date.now() >= end) throw new Error(`waited ${timeoutMs / 1000} s for ${what}${problem}`);
    await delay(intervalMs);
  }
}

/** A nested field by its path, or undefined where a part of it is missing. */
export function field(object: unknown, ...path: readonly string[]): unknown {
  let value = object;
  for (const name of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return value;
}
