import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { DataplaneClient } from "../../../src/dataplane/client.js";
import { parsePortal } from "../../../src/base/portal.js";
import type { VolumeStatus } from "../../../src/dataplane/api.js";
import { type InitiatorSettingTexts, parseInitiatorSettings } from "../../../src/initiator/settings.js";
import type { PathPolicy } from "../../../src/multipath/path-policy.js";
import type { PathStatus } from "../../../src/multipath/status.js";
import { HawserProcess } from "../../support/hawser-processes.js";
import { LAB_TARGET, PathLab } from "./path-lab.js";

const run = promisify(execFile);

const VOLUME = "paths";

/** Shows where the time goes in a log that comes back. */
export function step(text: string): void {
  console.log(`${(process.uptime() * 1000).toFixed(0)} ms: ${text}`);
}

/** A volume over all paths of a lab: a real dataplane has it, and the guest's kernel its device. */
export class PathWorld {
  readonly lab: PathLab;
  readonly client: DataplaneClient;
  readonly #dataplane: HawserProcess;
  readonly #events = new Map<string, number>();
  readonly #watching = new AbortController();
  #devicePath = "";

  private constructor(lab: PathLab, directory: string) {
    this.lab = lab;
    const socketPath = join(directory, "dataplane.sock");
    this.#dataplane = new HawserProcess("dataplane", {
      args: [
        ...["--socket", socketPath, "--runtime-dir", join(directory, "run"), "--state-dir", join(directory, "state")],
        ...["--node-name", "test-node", "--backend", "nbd", "--log-level", process.env["LOG_LEVEL"] ?? "info"],
      ],
      socketPath,
      logPath: join(directory, "dataplane.log"),
    });
    this.client = new DataplaneClient({ socketPath, packageDirectory: process.cwd() });
  }

  static async start(options: { readonly paths: number; readonly diskBytes: number }): Promise<PathWorld> {
    const directory = join(process.env["SCRATCH"] ?? "/run", "paths");
    mkdirSync(directory, { recursive: true });
    const lab = await PathLab.create({ ...options, directory: "/dev/shm/target" });
    const world = new PathWorld(lab, directory);
    step("the target runs");
    await world.#dataplane.start();
    world.#count().catch((error: unknown) => step(`events are not counted any more: ${String(error)}`));
    step("the dataplane runs");
    return world;
  }

  get devicePath(): string {
    return this.#devicePath;
  }

  /** How often each kind of event was told, the paths' and all others. */
  get events(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#events].sort(([left], [right]) => (left < right ? -1 : 1)));
  }

  /** Attaches the volume with these settings, as a StorageClass names them, and waits until all of its paths are up. */
  async attach(settings: InitiatorSettingTexts): Promise<void> {
    const { devicePath } = await this.client.attach({
      volumeHandle: VOLUME,
      portals: this.lab.numbers.map((path) => parsePortal(this.lab.portal(path))),
      ...{ targetName: LAB_TARGET, lun: 1, expectedId: "", isReadOnly: false, publicationId: "1" },
      ...{ headerDigest: "none", dataDigest: "none", settings: parseInitiatorSettings(settings) },
    });
    this.#devicePath = devicePath;
    await this.untilAllUp(30_000);
    step(`${devicePath} is there`);
  }

  async status(): Promise<VolumeStatus> {
    const status = await this.client.get(VOLUME);
    if (status === undefined) throw new Error("the dataplane does not know the volume");
    return status;
  }

  /** In the order of the lab's numbers. */
  async paths(): Promise<readonly PathStatus[]> {
    const { multipath } = await this.status();
    if (multipath === undefined) throw new Error("the volume is not one of several paths");
    return this.lab.numbers.map((number) => {
      const path = multipath.paths.find(({ id }) => id.endsWith(this.lab.portal(number)));
      if (path === undefined) throw new Error(`there is no path to ${this.lab.portal(number)}`);
      return path;
    });
  }

  /**
   * Waits until every path is connected; one that comes and goes all the time may be left alone for a while. Resolves with
   * the paths as they are then; fails after the time given.
   */
  async untilAllUp(timeoutMs: number): Promise<readonly PathStatus[]> {
    const startMs = Date.now();
    for (;;) {
      const paths = await this.paths();
      const missing = paths.filter(({ state }) => state !== "up" && state !== "damped");
      const tookMs = Date.now() - startMs;
      if (missing.length === 0) return paths;
      if (tookMs > timeoutMs) {
        const states = missing.map(({ id, state, reason }) => `${id} ${state}: ${reason}`);
        throw new Error(`paths are not up after ${tookMs} ms: ${states.join("; ")}`);
      }
      await delay(100);
    }
  }

  async setPolicy(policy: PathPolicy): Promise<void> {
    await this.client.setPathPolicy(VOLUME, policy);
  }

  async changePath(
    number: number,
    change: { readonly weight?: number; readonly isStandby?: boolean } | { readonly action: "fail" | "restore" },
  ): Promise<void> {
    const path = (await this.paths())[number - 1];
    await this.client.changePath(VOLUME, path?.id ?? "", change);
  }

  /** SHA-256 of the device, read past the page cache. */
  async deviceDigest(): Promise<string> {
    const hash = createHash("sha256");
    const chunkMib = 8;
    for (let atMib = 0; atMib < this.lab.diskBytes / (1 << 20); atMib += chunkMib) {
      const dd = [
        `if=${this.#devicePath}`,
        "bs=1M",
        `skip=${atMib}`,
        `count=${chunkMib}`,
        "iflag=direct",
        "status=none",
      ];
      const { stdout } = await run("dd", dd, { encoding: "buffer", maxBuffer: (chunkMib + 1) << 20 });
      hash.update(stdout);
    }
    return hash.digest("hex");
  }

  async detach(): Promise<void> {
    await this.client.detach(VOLUME);
    this.#devicePath = "";
  }

  /** Ends everything; the dataplane's log goes to the results. */
  async remove(): Promise<void> {
    const results = process.env["RESULTS"];
    if (results !== undefined && existsSync(this.#dataplane.logPath)) {
      writeFileSync(join(results, "dataplane.log"), readFileSync(this.#dataplane.logPath));
    }
    this.#watching.abort();
    this.client.close();
    await this.#dataplane.stop();
    await this.lab.remove();
  }

  async #count(): Promise<void> {
    for await (const { kind } of this.client.watch(this.#watching.signal)) {
      this.#events.set(kind, (this.#events.get(kind) ?? 0) + 1);
    }
  }
}
