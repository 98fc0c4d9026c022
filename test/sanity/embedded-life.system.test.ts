import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { statSync, writeFileSync, writeSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { formatNodeId } from "../../src/base/node-id.js";
import { generateSealingKeyPair } from "../../src/base/sealing.js";
import { SystemRandom } from "../../src/base/system-random.js";
import type { Answer } from "../support/csi-client.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { openPublished } from "./open-published.js";

const MIB = 2 ** 20;
const MOUNT_TIMEOUT_MS = 120_000;

const mountCapability = (fsType: string, mode = "SINGLE_NODE_WRITER"): object => ({
  mount: { fsType },
  accessMode: { mode },
});
const blockCapability = (mode = "SINGLE_NODE_WRITER"): object => ({ block: {}, accessMode: { mode } });

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** One volume's life through CSI calls, with everything in between left to the test. */
class Volume {
  readonly #host: HawserHost;
  readonly #capability: object;
  readonly id: string;
  publishContext: Readonly<Record<string, string>> = {};

  private constructor(host: HawserHost, capability: object, id: string) {
    this.#host = host;
    this.#capability = capability;
    this.id = id;
    mkdirSync(this.stagingPath, { recursive: true });
  }

  static async create(host: HawserHost, name: string, capability: object, sizeBytes: number): Promise<Volume> {
    const { volume } = await host.call("controller", "CreateVolume", {
      name,
      volumeCapabilities: [capability],
      capacityRange: { requiredBytes: sizeBytes },
    });
    return new Volume(host, capability, volume.volumeId);
  }

  get stagingPath(): string {
    return join(this.#host.directory, "kubelet", this.id, "globalmount");
  }

  targetPath(pod = "pod"): string {
    return join(this.#host.directory, "kubelet", this.id, pod);
  }

  async attach(): Promise<void> {
    const { nodeId } = await this.#host.call("node", "NodeGetInfo");
    const request = { volumeId: this.id, nodeId, volumeCapability: this.#capability };
    this.publishContext = (await this.#host.call("controller", "ControllerPublishVolume", request)).publishContext;
  }

  async detach(): Promise<void> {
    const { nodeId } = await this.#host.call("node", "NodeGetInfo");
    await this.#host.call("controller", "ControllerUnpublishVolume", { volumeId: this.id, nodeId });
  }

  stage(): Promise<Answer> {
    return this.#host.call("node", "NodeStageVolume", {
      volumeId: this.id,
      publishContext: this.publishContext,
      stagingTargetPath: this.stagingPath,
      volumeCapability: this.#capability,
    });
  }

  publish(pod = "pod", changes: object = {}): Promise<Answer> {
    return this.#host.call("node", "NodePublishVolume", {
      volumeId: this.id,
      stagingTargetPath: this.stagingPath,
      targetPath: this.targetPath(pod),
      volumeCapability: this.#capability,
      ...changes,
    });
  }

  unpublish(pod = "pod"): Promise<Answer> {
    return this.#host.call("node", "NodeUnpublishVolume", { volumeId: this.id, targetPath: this.targetPath(pod) });
  }

  unstage(): Promise<Answer> {
    const request = { volumeId: this.id, stagingTargetPath: this.stagingPath };
    return this.#host.call("node", "NodeUnstageVolume", request);
  }

  delete(): Promise<Answer> {
    return this.#host.call("controller", "DeleteVolume", { volumeId: this.id });
  }

  /** From a staged volume to none. */
  async end(): Promise<void> {
    await this.unstage();
    await this.detach();
    await this.delete();
  }
}

describeNeeding([...HOST_NEEDS, "mkfs.xfs"], "volumes of the embedded backend", () => {
  let host: HawserHost;
  let store: string;

  beforeAll(async () => {
    store = mkdtempSync(join(tmpdir(), "hawser-embedded-"));
    const portal = `127.0.0.1:${await freePort()}`;
    const controllerArgs = ["--backend", "embedded", "--store", `file:${store}`, "--portal", portal];
    host = await HawserHost.start({ logLevel: "trace", controllerArgs, dataplaneArgs: ["--backend", "fuse"] });
  }, MOUNT_TIMEOUT_MS);
  afterAll(async () => {
    await host.remove();
    rmSync(store, { recursive: true });
  }, MOUNT_TIMEOUT_MS);
  afterEach(() => {
    expect(host.leftovers()).toEqual([]);
    expect(execFileSync("ls", [join(store, "volumes")]).toString()).toBe("");
  });

  it(
    "keeps grants, CHAP and data while the controller is killed and started again",
    async () => {
      const volume = await Volume.create(host, "restart", mountCapability("ext4"), 64 * MIB);
      await volume.attach();
      await volume.stage();
      await volume.publish();
      writeFileSync(join(volume.targetPath(), "file"), "kept");
      await host.controller.kill();
      await host.controller.start();
      // The session comes back with the secrets that were on disk, or this read would wait for ever.
      execFileSync("sync", ["-f", join(volume.targetPath(), "file")], { timeout: 60_000 });
      await volume.unpublish();
      await volume.unstage();
      await volume.stage();
      expect(readFileSync(join(volume.stagingPath, "file"), "utf8")).toBe("kept");
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );

  it(
    "gives pods the device node of a block volume: exactly as large, again and again, one writer if asked",
    async () => {
      const single = blockCapability("SINGLE_NODE_SINGLE_WRITER");
      const volume = await Volume.create(host, "block", single, 40 * MIB);
      await volume.attach();
      await volume.stage();
      await volume.publish();
      await volume.publish();
      expect(statSync(volume.targetPath()).isBlockDevice()).toBe(true);
      const device = openSync(volume.targetPath(), "rs+");
      const block = Buffer.alloc(4096, "hawser");
      writeSync(device, block, 0, block.length, 40 * MIB - 4096);
      expect(readSync(device, Buffer.alloc(4096), 0, 4096, 40 * MIB)).toBe(0);
      closeSync(device);
      await expect(volume.publish("second")).rejects.toMatchObject({ status: "FAILED_PRECONDITION" });
      await expect(volume.publish("pod", { readonly: true })).rejects.toMatchObject({ status: "ALREADY_EXISTS" });
      await expect(volume.unstage()).rejects.toMatchObject({ status: "FAILED_PRECONDITION" });
      const stats = { volumeId: volume.id, volumePath: volume.targetPath() };
      expect((await host.call("node", "NodeGetVolumeStats", stats)).usage).toMatchObject([{ total: 40 * MIB }]);
      await volume.unpublish();
      expect(existsSync(volume.targetPath())).toBe(false);
      const disk = readFileSync(join(store, "volumes", volume.id, "disk.img"));
      expect(disk.subarray(-4096).equals(block)).toBe(true);
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );

  it(
    "grows xfs while it is mounted, and a volume that was grown while it was not",
    async () => {
      const volume = await Volume.create(host, "grow", mountCapability("xfs"), 320 * MIB);
      const expandTo = async (requiredBytes: number): Promise<void> => {
        const capacityRange = { requiredBytes };
        await host.call("controller", "ControllerExpandVolume", { volumeId: volume.id, capacityRange });
      };
      await volume.attach();
      await volume.stage();
      await volume.publish();
      await expandTo(480 * MIB);
      const request = { volumeId: volume.id, volumePath: volume.targetPath() };
      const grown = await host.call("node", "NodeExpandVolume", {
        ...request,
        capacityRange: { requiredBytes: 480 * MIB },
      });
      expect(grown.capacityBytes).toBe(480 * MIB);
      const totalBytes = async (): Promise<number> =>
        (await host.call("node", "NodeGetVolumeStats", request)).usage.find(({ unit }) => unit === "BYTES")?.total ?? 0;
      expect(await totalBytes()).toBeGreaterThan(390 * MIB);
      await volume.unpublish();
      await volume.unstage();
      await expandTo(640 * MIB);
      await volume.stage();
      await volume.publish();
      expect(await totalBytes()).toBeGreaterThan(550 * MIB);
      await volume.unpublish();
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );

  it(
    "never mounts on top of a dead mount: refuses while a pod has it, repairs it afterwards, and loses nothing",
    async () => {
      const volume = await Volume.create(host, "stale", mountCapability("ext4"), 64 * MIB);
      await volume.attach();
      await volume.stage();
      await volume.publish();
      writeFileSync(join(volume.targetPath(), "file"), "synced", { flush: true });
      // A FUSE device does not outlive its dataplane: the mounts above it are dead from here on.
      await host.dataplane.kill();
      await host.dataplane.start();
      await expect(volume.stage()).rejects.toMatchObject({ status: "FAILED_PRECONDITION" });
      expect(host.mounts().filter((mountPoint) => mountPoint === volume.stagingPath)).toHaveLength(1);
      await volume.unpublish();
      await volume.stage();
      expect(host.mounts().filter((mountPoint) => mountPoint === volume.stagingPath)).toHaveLength(1);
      expect(readFileSync(join(volume.stagingPath, "file"), "utf8")).toBe("synced");
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );

  /** A block volume that is unpublished under a writer, whose one write waits. */
  const cutOffWhileWriting = async (name: string) => {
    const volume = await Volume.create(host, name, blockCapability(), 16 * MIB);
    await volume.attach();
    await volume.stage();
    await volume.publish();
    await volume.detach();
    const path = join(store, "volumes", volume.id, "disk.img");
    const before = readFileSync(path);
    // Its I/O waits, as a lost path's does: the writer cannot end, and not be killed, until it is let in again.
    const argv = ["if=/dev/urandom", `of=${volume.targetPath()}`, "bs=4096", "count=1", "oflag=direct"];
    const writer = spawn("dd", argv);
    const ended = once(writer, "exit");
    await delay(2000);
    expect(writer.exitCode).toBeNull();
    return { volume, path, before, argv, ended };
  };

  it(
    "fences: once the volume is unpublished, its node writes nothing more, and another may have it",
    async () => {
      const { volume, path, before, ended } = await cutOffWhileWriting("fence");
      expect(readFileSync(path).equals(before)).toBe(true);
      const { publicKey } = generateSealingKeyPair(new SystemRandom());
      const nodeId = formatNodeId({ iqn: "iqn.2026-11.test:other", publicKey });
      const request = { volumeId: volume.id, nodeId, volumeCapability: blockCapability() };
      await host.call("controller", "ControllerPublishVolume", request);
      await host.call("controller", "ControllerUnpublishVolume", { volumeId: volume.id, nodeId });
      // The dataplane dies, as its node did: what the writer still had is an error now, and is never written.
      await host.dataplane.kill();
      await ended;
      expect(readFileSync(path).equals(before)).toBe(true);
      await host.dataplane.start();
      await volume.unpublish();
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );

  it(
    "published again, never writes what was not written before: others may have written in between",
    async () => {
      const { volume, path, before, ended, argv } = await cutOffWhileWriting("again");
      await volume.attach();
      // Whether the writer still holds the device when it is looked at is a matter of moments.
      const refusal = await volume.stage().then(
        () => "published again",
        (error: unknown) => String(error),
      );
      expect(refusal).toContain("published again");
      expect(await ended).toEqual([1, null]);
      expect(readFileSync(path).equals(before)).toBe(true);
      await volume.unpublish();
      await volume.stage();
      await volume.publish();
      execFileSync("dd", argv, { stdio: "ignore" });
      expect(readFileSync(path).equals(before)).toBe(false);
      await volume.unpublish();
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );

  it(
    "has told no CHAP secret in any log or file, at trace level",
    async () => {
      const volume = await Volume.create(host, "canary", mountCapability("ext4"), 64 * MIB);
      await volume.attach();
      const secrets = await openPublished(host, volume.id, volume.publishContext);
      await volume.stage();
      expect(secrets).toHaveLength(2);
      for (const secret of secrets) {
        for (const text of [secret, Buffer.from(secret).toString("base64").slice(0, 30)]) {
          const found = execFileSync("sh", [
            "-c",
            `grep -rlF -- "$0" "$1" "$2" || true`,
            text,
            store,
            join(host.directory, "logs"),
          ]);
          expect(found.toString()).toBe("");
          const state = execFileSync("sh", ["-c", `grep -rlF -- "$0" "$1" || true`, text, host.stateDirectory]);
          expect(state.toString()).toBe("");
        }
      }
      await volume.end();
    },
    MOUNT_TIMEOUT_MS,
  );
});
