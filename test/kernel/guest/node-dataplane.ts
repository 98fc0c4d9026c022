import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parsePortal } from "../../../src/base/portal.js";
import { clusterPart } from "../../../src/base/reservation-key.js";
import type { AttachedVolume, DataplaneEvent, VolumeStatus } from "../../../src/dataplane/api.js";
import { DataplaneClient } from "../../../src/dataplane/client.js";
import { type InitiatorSettingTexts, parseInitiatorSettings } from "../../../src/initiator/settings.js";
import { HawserProcess } from "../../support/hawser-processes.js";

const scratch = process.env["SCRATCH"] ?? "/run";

/** What the tests attach. */
export interface NodeVolume {
  readonly handle: string;
  readonly portals: readonly string[];
  readonly targetName: string;
  readonly lun: number;
  readonly settings: InitiatorSettingTexts;
}

export interface NodeDataplaneOptions {
  /** Of the node; its initiator is called after it, see `initiatorName`. */
  readonly name: string;
  /** First part of the reservation keys; default that of the cluster `fight`. */
  readonly reservationCluster?: string;
  readonly logLevel?: "trace" | "debug" | "info";
}

/** One dataplane as a node of its own: another state, another socket, another name and so another reservation key. */
export class NodeDataplane {
  readonly name: string;
  readonly client: DataplaneClient;
  /** All since it was started, oldest first. */
  readonly events: DataplaneEvent[] = [];
  readonly #process: HawserProcess;
  readonly #watching = new AbortController();

  private constructor(options: NodeDataplaneOptions) {
    const { name, reservationCluster = clusterPart("fight"), logLevel = "info" } = options;
    this.name = name;
    const directory = join(scratch, `node-${name}`);
    mkdirSync(directory, { recursive: true });
    const socketPath = join(directory, "dataplane.sock");
    this.#process = new HawserProcess("dataplane", {
      args: [
        ...["--socket", socketPath, "--runtime-dir", join(directory, "run"), "--state-dir", join(directory, "state")],
        ...["--node-name", name, "--initiator-name", initiatorName(name), "--backend", "nbd", "--log-level", logLevel],
        // The nodes share one kernel here, and each would take away devices that bear its mark and are not its own.
        ...["--cluster-id", `on-${name}`, "--reservation-cluster", reservationCluster],
      ],
      socketPath,
      logPath: join(directory, "dataplane.log"),
    });
    this.client = new DataplaneClient({ socketPath, packageDirectory: process.cwd() });
  }

  static async start(options: NodeDataplaneOptions): Promise<NodeDataplane> {
    const node = new NodeDataplane(options);
    await node.#process.start();
    node.#watch().catch((error: unknown) => console.log(`events of ${node.name} end: ${String(error)}`));
    return node;
  }

  get log(): string {
    return this.#process.log;
  }

  attach({ handle, portals, targetName, lun, settings }: NodeVolume): Promise<AttachedVolume> {
    return this.client.attach({
      volumeHandle: handle,
      portals: portals.map(parsePortal),
      ...{ targetName, lun, expectedId: "", isReadOnly: false, publicationId: "1" },
      ...{ headerDigest: "none", dataDigest: "none", settings: parseInitiatorSettings(settings) },
    });
  }

  async status(handle: string): Promise<VolumeStatus> {
    const status = await this.client.get(handle);
    if (status === undefined) throw new Error(`node ${this.name} does not have ${handle}`);
    return status;
  }

  /** SIGSTOP and SIGCONT: to everybody else the node is dead for a while. */
  freeze(): void {
    process.kill(this.#process.pid, "SIGSTOP");
  }

  thaw(): void {
    process.kill(this.#process.pid, "SIGCONT");
  }

  /** Messages of the events of one kind. */
  told(kind: string): readonly string[] {
    return this.events.filter((event) => event.kind === kind).map(({ message }) => message);
  }

  /** Ends it; its log goes to the results. */
  async remove(): Promise<void> {
    const results = process.env["RESULTS"];
    if (results !== undefined && existsSync(this.#process.logPath)) {
      writeFileSync(join(results, `${this.name}.log`), readFileSync(this.#process.logPath));
    }
    this.#watching.abort();
    this.client.close();
    await this.#process.stop();
  }

  async #watch(): Promise<void> {
    for await (const event of this.client.watch(this.#watching.signal)) this.events.push(event);
  }
}

/** The one a node's dataplane logs in with. */
export function initiatorName(node: string): string {
  return `iqn.2026-11.test:node-${node}`;
}

/** Waits until `isSo` holds; fails with `what` after the time given. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<number> {
  const startMs = performance.now();
  while (!(await isSo())) {
    if (performance.now() - startMs > timeoutMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await delay(25);
  }
  return Math.round(performance.now() - startMs);
}

/** Shows where the time goes in a log that comes back. */
export function step(text: string): void {
  console.log(`${(process.uptime() * 1000).toFixed(0)} ms: ${text}`);
}
