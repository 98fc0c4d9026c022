import { until } from "./cluster.js";
import type { ScenarioContext } from "./scenario.js";

export interface Account {
  readonly user: string;
  readonly secret: string;
}

export interface ArrayDisk {
  readonly targetName: string;
  readonly sizeMib: number;
  /** What the initiator has to prove. */
  readonly account: Account;
  /** What the target proves in turn. */
  readonly mutual?: Account;
}

/** tgtd's number among the tgtds of a machine, and its port inside the sandbox. */
const CONTROL_PORT = "97";
const PORT = 3270;

/** An array that is none of ours: tgtd in the sandbox. Its disks are LUN 1, LUN 0 is its own. */
export class OutsideArray {
  readonly portal: string;
  readonly #context: ScenarioContext;
  readonly #directory: string;

  private constructor(context: ScenarioContext, directory: string) {
    this.#context = context;
    this.#directory = directory;
    this.portal = `127.0.0.1:${PORT}`;
  }

  /** Ends with the scenario. */
  static async start(context: ScenarioContext, disks: readonly ArrayDisk[]): Promise<OutsideArray> {
    const directory = (await context.cluster.host(["mktemp", "-d", "--tmpdir=/tmp"])).trim();
    const array = new OutsideArray(context, directory);
    context.cleanUp(() => array.#stop());
    const daemon = context.cluster.startHost(
      ["env", `TGT_IPC_SOCKET=${directory}/ipc`, "tgtd", "-f", "-C", CONTROL_PORT, "--iscsi", `portal=${array.portal}`],
      { timeoutMs: 3_600_000 },
    );
    daemon.process.unref();
    await until(() => array.#admin("--op", "show", "--mode", "target"), {
      what: "tgtd (Debian package tgt) to answer",
      timeoutMs: 20_000,
      intervalMs: 200,
    });
    for (const [index, disk] of disks.entries()) await array.#define(String(index + 1), disk);
    return array;
  }

  /** Secrets go to tgtadm's arguments: it takes them nowhere else, and it is no process of ours. */
  async #define(tid: string, disk: ArrayDisk): Promise<void> {
    const path = `${this.#directory}/disk-${tid}.img`;
    await this.#context.cluster.host(["truncate", "-s", `${disk.sizeMib}M`, path]);
    await this.#admin("--op", "new", "--mode", "target", "--tid", tid, "-T", disk.targetName);
    await this.#admin("--op", "new", "--mode", "logicalunit", "--tid", tid, "--lun", "1", "-b", path);
    const serial = `scsi_id=hawser-e2e-${tid},scsi_sn=hawser-e2e-${tid}`;
    await this.#admin("--op", "update", "--mode", "logicalunit", "--tid", tid, "--lun", "1", "--params", serial);
    await this.#account(tid, disk.account, []);
    if (disk.mutual !== undefined) await this.#account(tid, disk.mutual, ["--outgoing"]);
    await this.#admin("--op", "bind", "--mode", "target", "--tid", tid, "-I", "ALL");
  }

  async #account(tid: string, { user, secret }: Account, direction: readonly string[]): Promise<void> {
    await this.#admin("--op", "new", "--mode", "account", "--user", user, "--password", secret);
    await this.#admin("--op", "bind", "--mode", "account", "--tid", tid, "--user", user, ...direction);
  }

  #admin(...args: readonly string[]): Promise<string> {
    const ipc = `TGT_IPC_SOCKET=${this.#directory}/ipc`;
    return this.#context.cluster.host(["env", ipc, "tgtadm", "-C", CONTROL_PORT, "--lld", "iscsi", ...args]);
  }

  async #stop(): Promise<void> {
    // Targets with sessions are not deleted without force; a pod that still runs is one of a failed scenario.
    for (const tid of ["1", "2", "3"]) {
      await this.#admin("--op", "delete", "--mode", "target", "--tid", tid, "--force").catch(() => undefined);
    }
    await this.#admin("--op", "delete", "--mode", "system").catch(() => undefined);
    await this.#context.cluster.host(["rm", "-rf", this.#directory]);
  }
}
