import { mkdir, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../base/errors.js";
import type { Random } from "../../base/random.js";
import { formatSize } from "../../base/size.js";
import type { CsiClient } from "../csi-client.js";
import { differingFiles, writeFiles, type Checksums } from "./files.js";
import type { StepRunner } from "./steps.js";

export interface VolumeLifeOptions {
  readonly volumeName: string;
  /** Empty folder that the walk may fill; staging and target paths lie in it. */
  readonly directory: string;
  readonly fsType: string;
  readonly sizeBytes: number;
  readonly expandedBytes: number;
  readonly fileCount: number;
  readonly fileBytes: number;
}

export interface VolumeLifeDependencies {
  readonly controller: CsiClient;
  readonly node: CsiClient;
  readonly runner: StepRunner;
  readonly random: Random;
  /** Called while the volume is mounted, to show sessions and the like. */
  readonly whileMounted: () => Promise<void>;
}

type Message = Readonly<Record<string, unknown>>;

/** The whole life of one volume, through the calls Kubernetes would make, in their order. */
export class VolumeLife {
  readonly #options: VolumeLifeOptions;
  readonly #deps: VolumeLifeDependencies;
  readonly #stagingPath: string;
  readonly #targetPath: string;
  readonly #capability: Message;
  #volumeId = "";
  #volumeContext: Message = {};
  #publishContext: Message = {};
  #isPublished = false;

  constructor(options: VolumeLifeOptions, dependencies: VolumeLifeDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    this.#stagingPath = join(options.directory, "staging");
    this.#targetPath = join(options.directory, "pod", "mount");
    this.#capability = {
      mount: { fs_type: options.fsType, mount_flags: [] },
      access_mode: { mode: "SINGLE_NODE_WRITER" },
    };
  }

  /** Runs every step; the first failure is passed on, after everything was undone. */
  async run(): Promise<void> {
    try {
      await this.#walk();
    } finally {
      await this.#deps.runner.cleanUp();
    }
  }

  async #walk(): Promise<void> {
    const nodeId = await this.#greet();
    await this.#create();
    await this.#publishToNode(nodeId);
    await this.#mount("");
    const checksums = await this.#write();
    await this.#deps.whileMounted();
    await this.#expand();
    await this.#unmount();
    await this.#mount(" again");
    await this.#verify(checksums);
  }

  async #greet(): Promise<string> {
    const { runner, controller, node } = this.#deps;
    await runner.step(
      "Identity: plugin info and probe",
      async () => {
        for (const client of [controller, node]) await client.call("Identity", "Probe");
        return controller.call("Identity", "GetPluginInfo");
      },
      (info) => `${String(info["name"])} ${String(info["vendor_version"])}`,
    );
    const info = await runner.step("NodeGetInfo", () => node.call("Node", "NodeGetInfo"));
    return String(info["node_id"]);
  }

  async #create(): Promise<void> {
    const { runner, controller } = this.#deps;
    const request = {
      name: this.#options.volumeName,
      capacity_range: { required_bytes: this.#options.sizeBytes },
      volume_capabilities: [this.#capability],
    };
    const reply = await runner.step(
      "CreateVolume",
      () => controller.call("Controller", "CreateVolume", request),
      () => formatSize(this.#options.sizeBytes),
    );
    const volume = reply["volume"] as Message;
    this.#volumeId = String(volume["volume_id"]);
    this.#volumeContext = volume["volume_context"] as Message;
    runner.onCleanUp("DeleteVolume", async () => {
      await controller.call("Controller", "DeleteVolume", { volume_id: this.#volumeId });
      return "";
    });
  }

  async #publishToNode(nodeId: string): Promise<void> {
    const { runner, controller } = this.#deps;
    const request = {
      volume_id: this.#volumeId,
      node_id: nodeId,
      volume_capability: this.#capability,
      readonly: false,
      volume_context: this.#volumeContext,
    };
    runner.onCleanUp("ControllerUnpublishVolume", async () => {
      await controller.call("Controller", "ControllerUnpublishVolume", { volume_id: this.#volumeId, node_id: nodeId });
      return "";
    });
    const reply = await runner.step("ControllerPublishVolume", () =>
      controller.call("Controller", "ControllerPublishVolume", request),
    );
    this.#publishContext = reply["publish_context"] as Message;
    runner.onCleanUp("Unmount (NodeUnpublishVolume, NodeUnstageVolume)", async () => {
      if (this.#isPublished) await this.#unpublish();
      await rm(this.#options.directory, { recursive: true });
      return "";
    });
  }

  async #mount(suffix: string): Promise<void> {
    const { runner, node } = this.#deps;
    const common = {
      volume_id: this.#volumeId,
      publish_context: this.#publishContext,
      staging_target_path: this.#stagingPath,
      volume_capability: this.#capability,
      volume_context: this.#volumeContext,
    };
    await mkdir(this.#stagingPath, { recursive: true });
    await mkdir(join(this.#options.directory, "pod"), { recursive: true });
    this.#isPublished = true;
    await runner.step(
      `NodeStageVolume${suffix}`,
      () => node.call("Node", "NodeStageVolume", common),
      () => (suffix === "" ? `login, device, mkfs.${this.#options.fsType}, mount` : "login, device, mount"),
    );
    await runner.step(`NodePublishVolume${suffix}`, () =>
      node.call("Node", "NodePublishVolume", { ...common, target_path: this.#targetPath, readonly: false }),
    );
  }

  async #unpublish(): Promise<void> {
    const { node } = this.#deps;
    await node.call("Node", "NodeUnpublishVolume", { volume_id: this.#volumeId, target_path: this.#targetPath });
    await node.call("Node", "NodeUnstageVolume", {
      volume_id: this.#volumeId,
      staging_target_path: this.#stagingPath,
    });
    this.#isPublished = false;
  }

  async #unmount(): Promise<void> {
    await this.#deps.runner.step("NodeUnpublishVolume, NodeUnstageVolume", () => this.#unpublish());
  }

  async #write(): Promise<Checksums> {
    const { fileCount, fileBytes } = this.#options;
    return this.#deps.runner.step(
      "Write files and sync",
      () => writeFiles(join(this.#targetPath, "data"), { count: fileCount, fileBytes }, this.#deps.random),
      () => `${fileCount} files, ${formatSize(fileCount * fileBytes)}`,
    );
  }

  async #expand(): Promise<void> {
    const { runner, controller, node } = this.#deps;
    const capacity_range = { required_bytes: this.#options.expandedBytes };
    const before = await this.#fileSystemBytes();
    await runner.step("ControllerExpandVolume", () =>
      controller.call("Controller", "ControllerExpandVolume", { volume_id: this.#volumeId, capacity_range }),
    );
    await runner.step(
      "NodeExpandVolume, while mounted",
      async () => {
        await node.call("Node", "NodeExpandVolume", {
          volume_id: this.#volumeId,
          volume_path: this.#targetPath,
          staging_target_path: this.#stagingPath,
          capacity_range,
          volume_capability: this.#capability,
        });
        const after = await this.#fileSystemBytes();
        if (after <= before) {
          throw new AppError("cli", "SELFTEST_NOT_GROWN", `the file system has ${after} bytes, before ${before}`);
        }
        return after;
      },
      (after) => `file system ${formatSize(before)} -> ${formatSize(after)}`,
    );
  }

  async #fileSystemBytes(): Promise<number> {
    const { blocks, bsize } = await statfs(this.#targetPath);
    return blocks * bsize;
  }

  async #verify(checksums: Checksums): Promise<void> {
    await this.#deps.runner.step(
      "Verify checksums after remount",
      async () => {
        const differing = await differingFiles(join(this.#targetPath, "data"), checksums);
        if (differing.length === 0) return;
        throw new AppError("cli", "SELFTEST_DATA_DIFFERS", `these files differ: ${differing.join(", ")}`);
      },
      () => `${checksums.size} files equal`,
    );
  }
}
