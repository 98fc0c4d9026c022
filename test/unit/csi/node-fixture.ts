import { Secret } from "../../../src/base/secret.js";
import { encodePublishContext } from "../../../src/csi/publish-context.js";
import { random } from "./controller-fixture.js";
import { FakeNodeWorld } from "./fake-node-world.js";

export const GIB = 2 ** 30;
export const volumeId = "vol-1";
export const blockCapability = { block: {}, accessMode: { mode: "SINGLE_NODE_WRITER" } };
export const staticContext = { targetPortal: "192.0.2.1", targetIQN: "iqn.2001-05.com.example:d", lun: "1" };

export function capability(changes: object = {}, mode = "SINGLE_NODE_WRITER"): object {
  return { mount: { fsType: "", mountFlags: [], volumeMountGroup: "", ...changes }, accessMode: { mode } };
}

/** The Node service over a fake world, with requests that are right but for the given changes. */
export class NodeFixture {
  world: FakeNodeWorld;

  private constructor(world: FakeNodeWorld) {
    this.world = world;
  }

  static async open(): Promise<NodeFixture> {
    return new NodeFixture(await FakeNodeWorld.open());
  }

  async startOver(): Promise<void> {
    await this.world.close();
    this.world = await FakeNodeWorld.open();
  }

  close(): Promise<void> {
    return this.world.close();
  }

  /** As the controller would have made it, with CHAP sealed to the world's node. */
  publishContext(): Readonly<Record<string, string>> {
    const chap = { user: "hawser-user", secret: Secret.from("sealed-canary-0123") };
    const access = {
      ...{ portals: [{ host: "192.0.2.9", port: 3260 }], targetName: "iqn.2026-11.dev.hawser:x", lun: 0 },
      ...{ deviceId: "naa.3000000000000001", chap },
    };
    const { nodeId, keyPair } = this.world.node;
    const sealing = { volumeHandle: volumeId, nodeId };
    return encodePublishContext(access, { isReadOnly: false, nodePublicKey: keyPair.publicKey, sealing }, { random });
  }

  stage(changes: object = {}, signal?: AbortSignal): Promise<object> {
    const request = {
      volumeId,
      publishContext: this.publishContext(),
      stagingTargetPath: this.world.stagingPath,
      volumeCapability: capability(),
      secrets: {},
      volumeContext: {},
    };
    return this.world.call("NodeStageVolume", { ...request, ...changes }, signal);
  }

  unstage(changes: object = {}): Promise<object> {
    const request = { volumeId, stagingTargetPath: this.world.stagingPath };
    return this.world.call("NodeUnstageVolume", { ...request, ...changes });
  }

  publish(changes: object = {}): Promise<object> {
    const request = {
      volumeId,
      stagingTargetPath: this.world.stagingPath,
      targetPath: this.world.targetPath(),
      volumeCapability: capability(),
      readonly: false,
    };
    return this.world.call("NodePublishVolume", { ...request, ...changes });
  }

  unpublish(changes: object = {}): Promise<object> {
    return this.world.call("NodeUnpublishVolume", { volumeId, targetPath: this.world.targetPath(), ...changes });
  }

  mountPoints(): readonly string[] {
    return this.world.mounter.entries.map((entry) => entry.mountPoint);
  }
}
