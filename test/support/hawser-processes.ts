import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { DataplaneClient } from "../../src/dataplane/client.js";
import { type Answer, TestCsiClient } from "./csi-client.js";
import { hasProgram } from "./needs.js";

/** The built program; scripts/test builds it before any test runs. */
const PROGRAM = join(process.cwd(), "dist", "main.js");

/** What a test with real processes, devices and mounts needs, for `describeNeeding`. */
export const HOST_NEEDS = ["root", PROGRAM, "mount", "losetup", "blkid", "nbdfuse", "fusermount3", "fio"] as const;

/** How long a process may take to serve its socket: several seconds where the machine is busy or emulated. */
const START_TIMEOUT_MS = 60_000;
/** How long a process may take to end by itself. */
const STOP_TIMEOUT_MS = 30_000;

/** One `hawser` process with its log in a file. */
export class HawserProcess {
  readonly name: string;
  readonly logPath: string;
  readonly #args: readonly string[];
  readonly #starter: readonly string[];
  readonly #socketPath: string;
  #child: ChildProcess | undefined;

  constructor(
    name: string,
    options: { args: readonly string[]; starter?: readonly string[]; socketPath: string; logPath: string },
  ) {
    this.name = name;
    this.#starter = options.starter ?? [];
    this.logPath = options.logPath;
    this.#args = options.args;
    this.#socketPath = options.socketPath;
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error(`${this.name} is not running`);
    return this.#child.pid;
  }

  get isRunning(): boolean {
    return this.#child?.pid !== undefined;
  }

  get log(): string {
    return readFileSync(this.logPath, "utf8");
  }

  /** Starts it (again) and waits until its socket answers. */
  async start(): Promise<void> {
    const log = openSync(this.logPath, "a");
    const [file = "", ...args] = [...this.#starter, process.execPath, PROGRAM, this.name, ...this.#args];
    const child = spawn(file, args, { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#child = child;
    const deadlineMs = Date.now() + START_TIMEOUT_MS;
    while (!(await accepts(this.#socketPath))) {
      if (child.exitCode !== null || Date.now() > deadlineMs) {
        throw new Error(`${this.name} does not serve ${this.#socketPath}; its log ends:\n${this.log.slice(-2000)}`);
      }
      await delay(25);
    }
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** SIGTERM, as Kubernetes stops a container. Returns the exit code; undefined when it had to be killed. */
  async stop(): Promise<number | undefined> {
    const child = this.#child;
    if (child === undefined) return 0;
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#end("SIGTERM");
    clearTimeout(killer);
    return child.exitCode ?? undefined;
  }

  /** Waits for it to end by itself. Returns the exit code; null when a signal ended it. */
  async ended(): Promise<number | null> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) throw new Error(`${this.name} is not running`);
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    clearTimeout(killer);
    return child.exitCode;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }
}

export interface HawserHostOptions {
  /** Default `debug`. */
  readonly logLevel?: "trace" | "debug" | "info";
  /** Where the temporary directory is made; default the system's. */
  readonly parent?: string;
  readonly dataplaneArgs?: readonly string[];
  /** A program that becomes the process (unshare, setpriv), with its arguments. */
  readonly dataplaneStarter?: readonly string[];
  readonly nodeStarter?: readonly string[];
  /** Flags of the node, given the temporary directory. */
  readonly nodeArgs?: (directory: string) => readonly string[];
  /** Which backend the controller has, with its flags; default the static one. */
  readonly controllerArgs?: readonly string[];
}

/**
 * A node of a cluster and its controller (with the static backend unless told otherwise): three real processes, their
 * sockets, state and logs in one temporary directory. `remove` in `afterAll`.
 */
export class HawserHost {
  readonly directory: string;
  readonly stateDirectory: string;
  readonly controller: HawserProcess;
  readonly node: HawserProcess;
  readonly dataplane: HawserProcess;
  readonly dataplaneClient: DataplaneClient;

  private constructor(options: HawserHostOptions) {
    const { logLevel = "debug", parent = tmpdir(), dataplaneArgs = [] } = options;
    const controllerArgs = options.controllerArgs ?? ["--backend", "static"];
    this.directory = mkdtempSync(join(parent, "hawser-life-"));
    this.stateDirectory = join(this.directory, "state");
    mkdirSync(join(this.directory, "logs"));
    const state = ["--state-dir", this.stateDirectory, "--node-name", "test-node"];
    this.controller = this.#define("controller", logLevel, [
      ...["--endpoint", `unix://${this.socketPath("controller")}`, ...controllerArgs],
    ]);
    this.dataplane = this.#define(
      "dataplane",
      logLevel,
      [
        ...["--socket", this.socketPath("dataplane"), "--runtime-dir", join(this.directory, "run")],
        ...state,
        ...dataplaneArgs,
      ],
      options.dataplaneStarter,
    );
    this.node = this.#define(
      "node",
      logLevel,
      [
        ...["--endpoint", `unix://${this.socketPath("node")}`, "--dataplane", this.socketPath("dataplane")],
        ...state,
        ...(options.nodeArgs?.(this.directory) ?? []),
      ],
      options.nodeStarter,
    );
    const packageDirectory = process.cwd();
    this.dataplaneClient = new DataplaneClient({ socketPath: this.socketPath("dataplane"), packageDirectory });
  }

  static async start(options: HawserHostOptions = {}): Promise<HawserHost> {
    const host = new HawserHost(options);
    try {
      // The node key is made by whoever comes first, so these two start one after the other.
      await host.dataplane.start();
      await Promise.all([host.controller.start(), host.node.start()]);
    } catch (error) {
      await host.remove();
      throw error;
    }
    return host;
  }

  get processes(): readonly HawserProcess[] {
    return [this.controller, this.node, this.dataplane];
  }

  socketPath(name: string): string {
    return join(this.directory, `${name}.sock`);
  }

  /** One call over a connection of its own, so that it does not matter what was restarted before. */
  async call(
    service: "controller" | "node",
    method: string,
    request: object = {},
    timeoutMs = 60_000,
  ): Promise<Answer> {
    const client = new TestCsiClient(this.socketPath(service));
    try {
      return await client.call(method, request, timeoutMs);
    } finally {
      client.close();
    }
  }

  /** Mounts, loop devices and nbd devices that are there because of this host. */
  leftovers(): readonly string[] {
    const found = this.mounts().map((mountPoint) => `mount ${mountPoint}`);
    found.push(...this.#loops().map((device) => `loop ${device}`));
    const backends = nbdBackends().map((backend) => `nbd ${backend}`);
    return [...found, ...backends];
  }

  /** Mount points below the directory, the newest last. */
  mounts(): readonly string[] {
    return readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[4] ?? "")
      .filter((mountPoint) => mountPoint.startsWith(`${this.directory}/`));
  }

  /** Stops everything and takes away whatever a failed test left. */
  async remove(): Promise<void> {
    this.dataplaneClient.close();
    const keep = (path: string): boolean => path.startsWith(join(this.directory, "run"));
    await this.node.stop();
    await this.controller.stop();
    for (const mountPoint of [...this.mounts()].reverse()) if (!keep(mountPoint)) attempt("umount", ["-l", mountPoint]);
    await this.dataplane.stop();
    for (const device of this.#loops()) attempt("losetup", ["-d", device]);
    for (const mountPoint of [...this.mounts()].reverse()) attempt("umount", ["-l", mountPoint]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #define(
    name: "controller" | "node" | "dataplane",
    logLevel: string,
    args: readonly string[],
    starter: readonly string[] = [],
  ): HawserProcess {
    return new HawserProcess(name, {
      starter,
      args: [...args, "--log-level", logLevel],
      socketPath: this.socketPath(name),
      logPath: join(this.directory, "logs", `${name}.log`),
    });
  }

  #loops(): readonly string[] {
    if (!hasProgram("losetup") || !existsSync("/dev/loop-control")) return [];
    const table = execFileSync("losetup", ["--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]);
    return table
      .toString()
      .split("\n")
      .filter((line) => line.includes(`${this.directory}/`))
      .map((line) => line.split(" ")[0] ?? "");
  }
}

function nbdBackends(): readonly string[] {
  const names = existsSync("/sys/block") ? execFileSync("ls", ["/sys/block"], { encoding: "utf8" }).split("\n") : [];
  return names
    .map((name) => `/sys/block/${name}/backend`)
    .filter((path) => path.includes("/nbd") && existsSync(path))
    .map((path) => readFileSync(path, "utf8").trim());
}

function attempt(program: string, args: readonly string[]): void {
  try {
    execFileSync(program, args, { stdio: "ignore" });
  } catch {
    // It went away meanwhile.
  }
}

function accepts(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const settle = (isAccepted: boolean): void => {
      socket.destroy();
      resolve(isAccepted);
    };
    socket.once("connect", () => settle(true));
    socket.once("error", () => settle(false));
  });
}
