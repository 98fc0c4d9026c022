import { decodePublishContext } from "../../../src/csi/publish-context.js";
import { StaticBackend } from "../../../src/storage/static-backend.js";
import type { Answer } from "../../support/csi-client.js";
import { blockShared, ControllerFixture, newNode, type TestNode } from "./controller-fixture.js";

const nodeB = newNode("b");

describe("Controller service: publication", () => {
  let fixture: ControllerFixture;
  beforeEach(async () => {
    fixture = await ControllerFixture.open();
  });
  afterEach(() => fixture.close());

  describe("ControllerPublishVolume", () => {
    it("lets the node in and tells it the way, with CHAP only it can open", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      const { publishContext } = await fixture.publish(volumeId);
      expect(fixture.target.initiators()).toEqual(["iqn.2026-11.test:a"]);
      const sealing = { volumeHandle: volumeId, nodeId: fixture.node.nodeId };
      const access = decodePublishContext(publishContext, { keyPair: fixture.node.keyPair, sealing });
      expect(access).toMatchObject({ portals: fixture.target.portals, lun: 0, isReadOnly: false });
      expect(access.targetName).toBe([...fixture.target.targets.keys()][0]);
      const rule = [...fixture.target.targets.values()][0]!.access;
      const demanded = rule.kind === "list" ? rule.rules[0]!.chap! : undefined;
      expect(access.chap?.user).toBe(demanded?.user);
      expect(access.chap?.secret.reveal()).toEqual(demanded?.secret.reveal());
      expect(access.chap?.mutualSecret?.reveal()).toEqual(demanded?.mutualSecret?.reveal());
      expect(demanded!.secret.lengthBytes).toBeGreaterThanOrEqual(16);
      expect(() => decodePublishContext(publishContext, { keyPair: nodeB.keyPair, sealing })).toThrow();
      const otherVolume = { volumeHandle: "other", nodeId: fixture.node.nodeId };
      expect(() =>
        decodePublishContext(publishContext, { keyPair: fixture.node.keyPair, sealing: otherVolume }),
      ).toThrow();
    });

    it("leaks the secrets into neither the context nor the log", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      const { publishContext } = await fixture.publish(volumeId, { secrets: { any: "canary" } });
      const rule = [...fixture.target.targets.values()][0]!.access;
      const secret = rule.kind === "list" ? rule.rules[0]!.chap!.secret.reveal() : Buffer.alloc(0);
      const seen = JSON.stringify(publishContext) + fixture.lines.join("\n");
      expect(seen).not.toContain(secret.toString());
      expect(seen).not.toContain(secret.toString("base64").slice(0, 20));
      expect(seen).not.toContain("canary");
    });

    it("gives every volume and node its own pair, and keeps it when repeated", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      const open = (answer: Answer, node: TestNode) =>
        decodePublishContext(answer.publishContext, {
          keyPair: node.keyPair,
          sealing: { volumeHandle: volumeId, nodeId: node.nodeId },
        }).chap?.secret.reveal();
      const changes = { volumeCapability: blockShared };
      const first = open(await fixture.publish(volumeId, changes), fixture.node);
      expect(open(await fixture.publish(volumeId, changes), fixture.node)).toEqual(first);
      expect(open(await fixture.publish(volumeId, { ...changes, nodeId: nodeB.nodeId }), nodeB)).not.toEqual(first);
    });

    it("knows only nodes of this driver", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await expect(fixture.publish(volumeId, { nodeId: "fake-node" })).rejects.toMatchObject({ status: "NOT_FOUND" });
    });

    it("does not know a volume that never was", async () => {
      await expect(fixture.publish("vol-none")).rejects.toMatchObject({ status: "NOT_FOUND" });
    });

    it.each([
      ["no volume", { volumeId: "" }],
      ["no node", { nodeId: "" }],
      ["no capability", { volumeCapability: undefined }],
      ["a secret in the volume context", { volumeContext: { secret: '{"node.session.auth.password":"x"}' } }],
    ])("refuses %s", async (_what, changes) => {
      await expect(fixture.publish("vol-x", changes)).rejects.toMatchObject({ status: "INVALID_ARGUMENT" });
    });

    it("refuses the same node with another readonly", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await fixture.publish(volumeId);
      await expect(fixture.publish(volumeId, { readonly: true })).rejects.toMatchObject({ status: "ALREADY_EXISTS" });
    });

    it("refuses a second node for a single-node volume until the first is gone", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await fixture.publish(volumeId);
      const second = fixture.publish(volumeId, { nodeId: nodeB.nodeId });
      await expect(second).rejects.toMatchObject({ status: "FAILED_PRECONDITION" });
      await fixture.unpublish(volumeId);
      await fixture.publish(volumeId, { nodeId: nodeB.nodeId });
    });

    it("publishes a reader mode read-only", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      const volumeCapability = { mount: {}, accessMode: { mode: "MULTI_NODE_READER_ONLY" } };
      const { publishContext } = await fixture.publish(volumeId, { volumeCapability });
      expect(publishContext["readOnly"]).toBe("true");
    });
  });

  describe("ControllerUnpublishVolume", () => {
    it("takes the access away, again and again", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await fixture.publish(volumeId);
      await fixture.unpublish(volumeId);
      await fixture.unpublish(volumeId);
      expect(fixture.target.initiators()).toEqual([]);
      await fixture.unpublish("vol-none");
      await fixture.unpublish(volumeId, "no-node-of-ours");
    });

    it("takes it from every node when none is named", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await fixture.publish(volumeId, { volumeCapability: blockShared });
      await fixture.publish(volumeId, { volumeCapability: blockShared, nodeId: nodeB.nodeId });
      await fixture.client.call("ControllerUnpublishVolume", { volumeId });
      expect(fixture.target.initiators()).toEqual([]);
    });

    it("needs a volume", async () => {
      await expect(fixture.unpublish("")).rejects.toMatchObject({ status: "INVALID_ARGUMENT" });
    });
  });

  it("answers ABORTED to a second call for a volume while the first is under way", async () => {
    const volumeId = await fixture.volumeIdOf("v");
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const setAccess = fixture.target.setAccess.bind(fixture.target);
    fixture.target.setAccess = async (...given) => {
      await held;
      return setAccess(...given);
    };
    const first = fixture.publish(volumeId);
    const refused = await fixture.publish(volumeId).catch((error: unknown) => error);
    release();
    expect(refused).toMatchObject({ status: "ABORTED" });
    await first;
    await fixture.publish(volumeId);
  });

  it("keeps publications over a restart of the service", async () => {
    const volumeId = await fixture.volumeIdOf("v");
    await fixture.publish(volumeId);
    await fixture.stopServing();
    await fixture.serve(fixture.backend);
    await expect(fixture.publish(volumeId, { readonly: true })).rejects.toMatchObject({ status: "ALREADY_EXISTS" });
    await fixture.publish(volumeId);
  });

  describe("over the static backend", () => {
    beforeEach(async () => {
      await fixture.stopServing();
      await fixture.serve(new StaticBackend({ logger: fixture.logger }));
    });

    it("offers publishing and nothing it cannot do", async () => {
      const { capabilities } = await fixture.client.call("ControllerGetCapabilities");
      expect(capabilities.map((capability) => capability.rpc?.type)).toEqual([
        "PUBLISH_UNPUBLISH_VOLUME",
        "SINGLE_NODE_MULTI_WRITER",
      ]);
      await expect(fixture.create("v")).rejects.toMatchObject({ status: "UNIMPLEMENTED" });
    });

    it("publishes a volume by its attributes", async () => {
      const volumeContext = { targetPortal: "192.0.2.1", iqn: "iqn.2001-05.com.example:d", lun: "2" };
      const { publishContext } = await fixture.publish("my-volume", { volumeContext });
      expect(publishContext).toMatchObject({ targetName: "iqn.2001-05.com.example:d", lun: "2" });
      expect(publishContext["chap"]).toBeUndefined();
      await fixture.unpublish("my-volume");
    });
  });
});
