import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export interface TgtAccount {
  readonly user: string;
  readonly secret: string;
  readonly mutualUser?: string;
  readonly mutualSecret?: string;
}

export interface TgtTarget {
  readonly name: string;
  /** Sizes of the disks, from LUN 1 on; LUN 0 is tgt's own controller. */
  readonly diskBytes: readonly number[];
  /** Parameters of the target as tgtadm names them: MaxOutstandingR2T, InitialR2T, HeaderDigest … */
  readonly parameters?: Readonly<Record<string, string | number>>;
  /** Parameters of every disk: `thin_provisioning=1`, … */
  readonly diskParameters?: string;
  readonly account?: TgtAccount;
}

export interface TgtdOptions {
  /** A number that no other tgtd of the machine has. */
  readonly controlPort: number;
  /** `127.0.0.1:PORT`, `[::1]:PORT` */
  readonly portals: readonly string[];
  readonly targets: readonly TgtTarget[];
  /** A program that becomes the daemon (nsenter), with its arguments. */
  readonly starter?: readonly string[];
}

/** A real tgtd, with its disks in a temporary directory. Stop it in `afterAll`. */
export class Tgtd {
  readonly directory: string;
  readonly #controlPort: number;
  readonly #portals: readonly string[];
  readonly #starter: readonly string[];
  /** What the next `launch` sets up. */
  targets: readonly TgtTarget[];
  #process: ChildProcess | undefined;

  private constructor({ controlPort, portals, targets, starter = [] }: TgtdOptions) {
    // /dev/shm when there is one, so that measurements see the protocol and not a disk.
    this.directory = mkdtempSync(join(tmpdir(), "hawser-tgt-"));
    this.#controlPort = controlPort;
    this.#portals = portals;
    this.#starter = starter;
    this.targets = targets;
  }

  static async start(options: TgtdOptions): Promise<Tgtd> {
    const daemon = new Tgtd(options);
    try {
      await daemon.launch();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  diskPath(targetIndex: number, lun: number): string {
    return join(this.directory, `disk-${targetIndex}-${lun}.img`);
  }

  /** Starts the daemon (again) and sets its targets up; disks that exist keep their contents. */
  async launch(): Promise<void> {
    const portals = this.#portals.map((portal) => `portal=${portal}`).join(",");
    const command = [...this.#starter, "tgtd", "-f", "-C", String(this.#controlPort), "--iscsi", portals];
    const [file = "", ...args] = command;
    const child = spawn(file, args, {
      env: this.#environment(),
      stdio: "ignore",
    });
    this.#process = child;
    const failed = once(child, "error");
    failed.catch(() => undefined);
    for (let attempt = 0; ; attempt += 1) {
      try {
        this.admin("--op", "show", "--mode", "target");
        break;
      } catch (error) {
        if (attempt > 100 || child.exitCode !== null) throw error;
        await delay(50);
      }
    }
    this.targets.forEach((target, index) => this.#define(target, index));
  }

  /** Runs tgtadm for iscsi. */
  admin(...args: readonly string[]): string {
    return execFileSync("tgtadm", ["-C", String(this.#controlPort), "--lld", "iscsi", ...args], {
      env: this.#environment(),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** SIGKILL: connections die with the process, as in a crash. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Freezes and thaws the daemon: connections stay, nothing is answered. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#process?.kill(name);
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #environment(): NodeJS.ProcessEnv {
    return { ...process.env, TGT_IPC_SOCKET: join(this.directory, "ipc") };
  }

  #define(target: TgtTarget, index: number): void {
    const tid = String(index + 1);
    this.admin("--op", "new", "--mode", "target", "--tid", tid, "-T", target.name);
    target.diskBytes.forEach((sizeBytes, diskIndex) => {
      const lun = diskIndex + 1;
      const path = this.diskPath(index, lun);
      writeFileSync(path, "", { flag: "a" });
      truncateSync(path, sizeBytes);
      this.admin("--op", "new", "--mode", "logicalunit", "--tid", tid, "--lun", String(lun), "-b", path);
      const parameters = ["scsi_id=", "scsi_sn="].map((key) => `${key}hawser${tid}${lun}`);
      if (target.diskParameters !== undefined) parameters.push(target.diskParameters);
      this.admin(
        ...["--op", "update", "--mode", "logicalunit", "--tid", tid, "--lun", String(lun)],
        ...["--params", parameters.join(",")],
      );
    });
    for (const [name, value] of Object.entries(target.parameters ?? {})) {
      this.admin("--op", "update", "--mode", "target", "--tid", tid, "--name", name, "--value", String(value));
    }
    if (target.account !== undefined) this.#bindAccount(tid, target.account);
    this.admin("--op", "bind", "--mode", "target", "--tid", tid, "-I", "ALL");
  }

  #bindAccount(tid: string, account: TgtAccount): void {
    const create = (user: string, secret: string): void => {
      this.admin("--op", "new", "--mode", "account", "--user", user, "--password", secret);
    };
    create(account.user, account.secret);
    this.admin("--op", "bind", "--mode", "account", "--tid", tid, "--user", account.user);
    if (account.mutualUser === undefined || account.mutualSecret === undefined) return;
    create(account.mutualUser, account.mutualSecret);
    this.admin("--op", "bind", "--mode", "account", "--tid", tid, "--user", account.mutualUser, "--outgoing");
  }
}
