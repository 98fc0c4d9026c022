import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { SessionStatus } from "../../src/dataplane/api.js";
import type { HawserHost } from "./hawser-processes.js";

export interface StaticVolumeOptions {
  readonly volumeId: string;
  readonly fsType: "ext4" | "xfs" | "btrfs";
  /** Attributes of the PersistentVolume: targetPortal, targetIQN, lun, naa, headerDigest, dataDigest … */
  readonly attributes: Readonly<Record<string, string>>;
  /** The node-stage secret: chapUser, chapSecret, mutualUser, mutualSecret. */
  readonly secrets?: Readonly<Record<string, string>>;
}

/** A PersistentVolume of the static backend, driven by the calls of a kubelet and an attacher. */
export class StaticVolume {
  readonly stagingPath: string;
  readonly podPath: string;
  readonly #host: HawserHost;
  readonly #options: StaticVolumeOptions;
  readonly #capability: object;
  #nodeId = "";
  #publishContext: Readonly<Record<string, string>> = {};

  constructor(host: HawserHost, options: StaticVolumeOptions) {
    this.#host = host;
    this.#options = options;
    const root = join(host.directory, "kubelet", options.volumeId);
    this.stagingPath = join(root, "globalmount");
    this.podPath = join(root, "pod", "mount");
    this.#capability = {
      mount: { fsType: options.fsType, mountFlags: [] },
      accessMode: { mode: "SINGLE_NODE_WRITER" },
    };
  }

  /** What the attacher does. Returns the publish context. */
  async attach(): Promise<Readonly<Record<string, string>>> {
    const info = (await this.#host.call("node", "NodeGetInfo")) as { nodeId: string };
    this.#nodeId = info.nodeId;
    const answer = (await this.#host.call("controller", "ControllerPublishVolume", {
      ...{ volumeId: this.#options.volumeId, nodeId: this.#nodeId, readonly: false },
      ...{ volumeCapability: this.#capability, volumeContext: this.#options.attributes },
    })) as { publishContext: Record<string, string> };
    this.#publishContext = answer.publishContext;
    return this.#publishContext;
  }

  async stage(timeoutMs?: number): Promise<void> {
    mkdirSync(this.stagingPath, { recursive: true });
    await this.#host.call(
      "node",
      "NodeStageVolume",
      { ...this.#common(), secrets: this.#options.secrets ?? {} },
      timeoutMs,
    );
  }

  async publish(): Promise<void> {
    mkdirSync(join(this.podPath, ".."), { recursive: true });
    await this.#host.call("node", "NodePublishVolume", {
      ...this.#common(),
      ...{ targetPath: this.podPath, readonly: false },
    });
  }

  async unpublish(): Promise<void> {
    const { volumeId } = this.#options;
    await this.#host.call("node", "NodeUnpublishVolume", { volumeId, targetPath: this.podPath });
  }

  async unstage(): Promise<void> {
    const { volumeId } = this.#options;
    await this.#host.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: this.stagingPath });
  }

  /** Returns the size the node says the volume has. */
  async expand(requiredBytes: number): Promise<number> {
    const answer = (await this.#host.call("node", "NodeExpandVolume", {
      ...{ volumeId: this.#options.volumeId, volumePath: this.podPath, stagingTargetPath: this.stagingPath },
      ...{ capacityRange: { requiredBytes }, volumeCapability: this.#capability },
    })) as { capacityBytes: number };
    return answer.capacityBytes;
  }

  async detach(): Promise<void> {
    const { volumeId } = this.#options;
    await this.#host.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: this.#nodeId });
  }

  /** Stage and publish. */
  async mount(): Promise<void> {
    await this.stage();
    await this.publish();
  }

  /** Unpublish and unstage. */
  async unmount(): Promise<void> {
    await this.unpublish();
    await this.unstage();
  }

  /** The sessions that carry it now. */
  async sessions(): Promise<readonly SessionStatus[]> {
    return (await this.#host.dataplaneClient.get(this.#options.volumeId))?.sessions ?? [];
  }

  #common(): object {
    return {
      volumeId: this.#options.volumeId,
      publishContext: this.#publishContext,
      stagingTargetPath: this.stagingPath,
      volumeCapability: this.#capability,
      volumeContext: this.#options.attributes,
    };
  }
}
