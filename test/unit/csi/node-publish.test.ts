import { existsSync } from "node:fs";
import { capability, GIB, NodeFixture, volumeId } from "./node-fixture.js";

describe("Node service: publishing, growing, looking", () => {
  let fixture: NodeFixture;
  beforeEach(async () => {
    fixture = await NodeFixture.open();
  });
  afterEach(() => fixture.close());

  describe("publishing", () => {
    it("binds the staged file system, again and again", async () => {
      await fixture.stage();
      await fixture.publish();
      await fixture.publish();
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath, fixture.world.targetPath()]);
    });

    it("needs a staged volume", async () => {
      await expect(fixture.publish()).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      await fixture.stage();
      const elsewhere = fixture.publish({ stagingTargetPath: `${fixture.world.stagingPath}-b` });
      await expect(elsewhere).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      await expect(fixture.publish({ stagingTargetPath: "" })).rejects.toMatchObject({
        code: "CSI_FAILED_PRECONDITION",
      });
    });

    it("publishes read-only when asked, and does not change its mind", async () => {
      await fixture.stage();
      await fixture.publish({ readonly: true });
      expect(fixture.world.mounter.entries[1]?.options).toContain("ro");
      await fixture.publish({ readonly: true });
      await expect(fixture.publish()).rejects.toMatchObject({ code: "CSI_ALREADY_EXISTS" });
    });

    it("gives the bind mount the flags of a mount, not those of a file system", async () => {
      await fixture.stage({ volumeCapability: capability({ mountFlags: ["noexec", "discard"] }) });
      await fixture.publish({ volumeCapability: capability({ mountFlags: ["noexec", "discard", "nosuid"] }) });
      expect(fixture.world.mounter.entries[1]?.options).toEqual(["rw", "noexec", "nosuid"]);
    });

    it("gives a single writer one target only", async () => {
      const volumeCapability = capability({}, "SINGLE_NODE_SINGLE_WRITER");
      await fixture.stage({ volumeCapability });
      await fixture.publish({ volumeCapability });
      await fixture.publish({ volumeCapability });
      const second = fixture.publish({ volumeCapability, targetPath: fixture.world.targetPath("b") });
      await expect(second).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      const many = capability({}, "SINGLE_NODE_MULTI_WRITER");
      await fixture.publish({ volumeCapability: many, targetPath: fixture.world.targetPath("b") });
    });

    it("removes what it made, again and again", async () => {
      await fixture.stage();
      await fixture.publish();
      await fixture.unpublish();
      await fixture.unpublish();
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
      expect(existsSync(fixture.world.targetPath())).toBe(false);
    });

    it.each([
      ["no volume", { volumeId: "" }],
      ["no target", { targetPath: "" }],
    ])("refuses %s", async (_what, changes) => {
      await expect(fixture.publish(changes)).rejects.toMatchObject({ code: "CSI_INVALID_ARGUMENT" });
      await expect(fixture.unpublish(changes)).rejects.toMatchObject({ code: "CSI_INVALID_ARGUMENT" });
    });

    it("needs a capability", async () => {
      await expect(fixture.publish({ volumeCapability: null })).rejects.toMatchObject({ code: "CSI_INVALID_ARGUMENT" });
    });
  });

  describe("expanding", () => {
    const expand = (changes: object = {}): Promise<object> =>
      fixture.world.call("NodeExpandVolume", {
        volumeId,
        volumePath: fixture.world.targetPath(),
        capacityRange: null,
        ...changes,
      });

    it("grows device and file system in use, read-only published too", async () => {
      await fixture.stage();
      await fixture.publish({ readonly: true });
      fixture.world.dataplane.lunBytes = 3 * GIB;
      const answer = await expand({ capacityRange: { requiredBytes: 3 * GIB, limitBytes: 0 } });
      expect(answer).toEqual({ capacityBytes: 3 * GIB });
      expect(fixture.world.filesystems.sizeBytes).toBe(3 * GIB);
      expect(await expand()).toEqual({ capacityBytes: 3 * GIB });
    });

    it("says so when the LUN is still small", async () => {
      await fixture.stage();
      await fixture.publish();
      const early = expand({ capacityRange: { requiredBytes: 3 * GIB, limitBytes: 0 } });
      await expect(early).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
    });

    it.each([
      ["no volume", { volumeId: "" }, "CSI_INVALID_ARGUMENT"],
      ["no path", { volumePath: "" }, "CSI_INVALID_ARGUMENT"],
      ["an unknown volume", { volumeId: "x" }, "CSI_NOT_FOUND"],
      ["another path", { volumePath: "some/path" }, "CSI_NOT_FOUND"],
    ])("refuses %s", async (_what, changes, code) => {
      await fixture.stage();
      await expect(expand(changes)).rejects.toMatchObject({ code });
    });
  });

  describe("statistics and health", () => {
    const stats = (changes: object = {}): Promise<object> =>
      fixture.world.call("NodeGetVolumeStats", { volumeId, volumePath: fixture.world.targetPath(), ...changes });

    it("counts bytes and inodes", async () => {
      await fixture.stage();
      await fixture.publish();
      expect(await stats()).toEqual({
        usage: [
          { unit: "BYTES", total: 1000, used: 400, available: 550 },
          { unit: "INODES", total: 100, used: 10, available: 90 },
        ],
      });
    });

    it.each([
      ["no volume", { volumeId: "" }, "CSI_INVALID_ARGUMENT"],
      ["no path", { volumePath: "" }, "CSI_INVALID_ARGUMENT"],
      ["an unknown volume", { volumeId: "x" }, "CSI_NOT_FOUND"],
      ["another path", { volumePath: "some/path" }, "CSI_NOT_FOUND"],
    ])("refuses %s", async (_what, changes, code) => {
      await fixture.stage();
      await fixture.publish();
      await expect(stats(changes)).rejects.toMatchObject({ code });
    });

    it("says that I/O waits when there is no path", async () => {
      await fixture.stage();
      const health = (): Promise<object> => fixture.world.call("NodeGetVolumeHealth", { volumeId });
      expect(await health()).toEqual({ volumeHealth: { volumeId, healthStatuses: [] } });
      Object.assign(fixture.world.dataplane.volumes.get(volumeId)!, { state: "reconnecting", reason: "no route" });
      expect(await health()).toMatchObject({ volumeHealth: { healthStatuses: [{ status: "INACCESSIBLE" }] } });
      await expect(fixture.world.call("NodeGetVolumeHealth", { volumeId: "x" })).rejects.toMatchObject({
        code: "CSI_NOT_FOUND",
      });
    });

    it("tells who the node is, and offers health from 1.13 on", async () => {
      expect(await fixture.world.call("NodeGetInfo", {})).toEqual({
        nodeId: fixture.world.node.nodeId,
        maxVolumesPerNode: 7,
      });
      expect(JSON.stringify(await fixture.world.call("NodeGetCapabilities", {}))).toContain("GET_VOLUME_HEALTH");
      fixture.world.specLevel = "1.12";
      fixture.world.restart();
      expect(JSON.stringify(await fixture.world.call("NodeGetCapabilities", {}))).not.toContain("HEALTH");
      await expect(fixture.world.call("NodeGetVolumeHealth", { volumeId })).rejects.toThrow("no RPC");
    });
  });
});
