import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

const NAMESPACE = "target";
const CONTROL_PORT = "77";

export const LAB_TARGET = "iqn.2026-11.test:paths";

/** Which end of a link: `near` is the initiator's, `far` the target's. */
export type LinkEnd = "near" | "far";

/**
 * A target with several portals, each on a link of its own: a network namespace with one veth pair for each path
 * (10.77.K.1 here, 10.77.K.2 there; K from 1 on) and one tgtd in it that serves one disk in memory on all of them, as
 * one portal group. For the guest only: it changes the network, and its end takes all of it away.
 */
export class PathLab {
  readonly paths: number;
  /** The file behind the disk. */
  readonly backingPath: string;
  readonly #diskBytes: number;
  readonly #directory: string;
  #target: ChildProcess | undefined;

  private constructor(options: PathLabOptions) {
    this.paths = options.paths;
    this.#diskBytes = options.diskBytes;
    this.#directory = options.directory;
    this.backingPath = join(options.directory, "disk.img");
  }

  /** Makes the links and starts the target. */
  static async create(options: PathLabOptions): Promise<PathLab> {
    const lab = new PathLab(options);
    mkdirSync(options.directory, { recursive: true });
    writeFileSync(lab.backingPath, "");
    truncateSync(lab.backingPath, options.diskBytes);
    execFileSync("ip", ["netns", "add", NAMESPACE]);
    execFileSync("nsenter", [...inside(), "ip", "link", "set", "lo", "up"]);
    for (const path of lab.numbers) lab.#addLink(path);
    await lab.startTarget();
    return lab;
  }

  /** 1 to `paths`. */
  get numbers(): readonly number[] {
    return Array.from({ length: this.paths }, (_, index) => index + 1);
  }

  host(path: number): string {
    return `10.77.${path}.2`;
  }

  portal(path: number): string {
    return `${this.host(path)}:3260`;
  }

  /** Takes the link away: at both ends, or at the target's alone, which leaves our routes as they are. */
  async linkDown(path: number, ends: readonly LinkEnd[]): Promise<void> {
    await Promise.all(ends.map((end) => this.#onEnd(end, ["ip", "link", "set", this.#device(path, end), "down"])));
  }

  async linkUp(path: number): Promise<void> {
    for (const end of ["near", "far"] as const) {
      await this.#onEnd(end, ["ip", "link", "set", this.#device(path, end), "up"]);
    }
  }

  /** What leaves this end is treated by this rule of netem from now on: `delay 10ms 2ms`, `loss 10%`. */
  async impair(path: number, end: LinkEnd, rule: string): Promise<void> {
    const args = ["qdisc", "replace", "dev", this.#device(path, end), "root", "netem", ...rule.split(" ")];
    await this.#onEnd(end, ["tc", ...args]);
  }

  /** Ends every impairment of both ends. */
  async restore(path: number): Promise<void> {
    await Promise.all(
      (["near", "far"] as const).map((end) =>
        this.#onEnd(end, ["tc", "qdisc", "del", "dev", this.#device(path, end), "root"]).catch(() => undefined),
      ),
    );
  }

  /** Nothing passes in either direction, and nobody is told: the links stay up. */
  async blackHole(path: number): Promise<void> {
    await Promise.all([this.impair(path, "near", "loss 100%"), this.impair(path, "far", "loss 100%")]);
  }

  /** SIGKILL: every connection is reset. */
  async killTarget(): Promise<void> {
    const target = this.#target;
    this.#target = undefined;
    if (target === undefined || target.exitCode !== null || target.signalCode !== null) return;
    const exited = once(target, "exit");
    target.kill("SIGKILL");
    await exited;
  }

  /** Stopped, it answers nothing, but its kernel still acknowledges. */
  freezeTarget(): void {
    this.#target?.kill("SIGSTOP");
  }

  thawTarget(): void {
    this.#target?.kill("SIGCONT");
  }

  /** Starts it (again) with the disk as it was. */
  async startTarget(): Promise<void> {
    const portals = this.numbers.map((path) => `portal=${this.portal(path)}`).join(",");
    const target = spawn("nsenter", [...inside(), "tgtd", "-f", "-C", CONTROL_PORT, "--iscsi", portals], {
      env: this.#environment(),
      stdio: "ignore",
    });
    this.#target = target;
    for (let attempt = 0; ; attempt += 1) {
      try {
        await this.#admin("--op", "show", "--mode", "target");
        break;
      } catch (error) {
        if (attempt > 100 || target.exitCode !== null) throw error;
        await delay(50);
      }
    }
    const unit = ["--mode", "logicalunit", "--tid", "1", "--lun", "1"];
    await this.#admin("--op", "new", "--mode", "target", "--tid", "1", "-T", LAB_TARGET);
    await this.#admin("--op", "new", ...unit, "-b", this.backingPath);
    await this.#admin("--op", "update", ...unit, "--params", "scsi_id=hawserpaths1,scsi_sn=hawserpaths1");
    await this.#admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL");
  }

  /** The initiators that the target has sessions with. */
  async sessions(): Promise<readonly string[]> {
    const { stdout } = await this.#admin("--op", "show", "--mode", "target");
    return [...stdout.matchAll(/Initiator: (\S+)/g)].map(([, name = ""]) => name);
  }

  /** SHA-256 of the disk as the target has it. */
  async backingDigest(): Promise<string> {
    const { stdout } = await run("sha256sum", [this.backingPath]);
    return stdout.split(" ")[0] ?? "";
  }

  async remove(): Promise<void> {
    this.thawTarget();
    await this.killTarget();
    execFileSync("ip", ["netns", "del", NAMESPACE]);
  }

  get diskBytes(): number {
    return this.#diskBytes;
  }

  #addLink(path: number): void {
    const [near, far] = [this.#device(path, "near"), this.#device(path, "far")];
    execFileSync("ip", ["link", "add", near, "type", "veth", "peer", "name", far, "netns", NAMESPACE]);
    execFileSync("ip", ["address", "add", `10.77.${path}.1/24`, "dev", near]);
    execFileSync("nsenter", [...inside(), "ip", "address", "add", `${this.host(path)}/24`, "dev", far]);
    execFileSync("ip", ["link", "set", near, "up"]);
    execFileSync("nsenter", [...inside(), "ip", "link", "set", far, "up"]);
  }

  #device(path: number, end: LinkEnd): string {
    return `${end}${path}`;
  }

  async #onEnd(end: LinkEnd, command: readonly [string, ...string[]]): Promise<void> {
    const [program, ...args] = end === "near" ? command : (["nsenter", ...inside(), ...command] as const);
    await run(program, args);
  }

  async #admin(...args: readonly string[]): Promise<{ stdout: string }> {
    // Its control socket is found by the namespace it is in.
    const command = [...inside(), "tgtadm", "-C", CONTROL_PORT, "--lld", "iscsi", ...args];
    return run("nsenter", command, { env: this.#environment() });
  }

  #environment(): NodeJS.ProcessEnv {
    return { ...process.env, TGT_IPC_SOCKET: join(this.#directory, "ipc") };
  }
}

export interface PathLabOptions {
  readonly paths: number;
  readonly diskBytes: number;
  /** Made when it is not there; in memory, so that nothing but the links has a say. */
  readonly directory: string;
}

function inside(): readonly [string] {
  return [`--net=/run/netns/${NAMESPACE}`];
}
