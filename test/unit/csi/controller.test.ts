import { TestCsiClient } from "../../support/csi-client.js";
import { ControllerFixture, GIB, mountOnce, mountShared } from "./controller-fixture.js";

describe("Controller service", () => {
  let fixture: ControllerFixture;
  beforeEach(async () => {
    fixture = await ControllerFixture.open();
  });
  afterEach(() => fixture.close());

  describe("Identity", () => {
    it("says who it is, what it offers and that it is ready", async () => {
      expect(await fixture.client.call("GetPluginInfo")).toMatchObject({
        name: "csi.hawser.dev",
        vendorVersion: "1.2.3",
      });
      const { capabilities } = await fixture.client.call("GetPluginCapabilities");
      expect(capabilities[0]?.service?.type).toBe("CONTROLLER_SERVICE");
      expect(capabilities[1]?.volumeExpansion?.type).toBe("ONLINE");
      expect(await fixture.client.call("Probe")).toMatchObject({ ready: { value: true } });
    });

    it("is not ready, rather than broken, when the backend is not", async () => {
      await fixture.backend.close();
      expect(await fixture.client.call("Probe")).toMatchObject({ ready: { value: false } });
    });
  });

  describe("CreateVolume", () => {
    it("gives exactly what is asked, again and again", async () => {
      const first = await fixture.create("v", { capacityRange: { requiredBytes: 10 * GIB, limitBytes: 10 * GIB } });
      const second = await fixture.create("v", { capacityRange: { requiredBytes: 10 * GIB, limitBytes: 10 * GIB } });
      expect(first.volume.capacityBytes).toBe(10 * GIB);
      expect(second).toEqual(first);
    });

    it("takes no capacity, and a name of 128 characters", async () => {
      const answer = await fixture.create("n".repeat(128), { capacityRange: undefined });
      expect(answer.volume.capacityBytes).toBe(GIB);
    });

    it("hands digests and what the provisioner adds on as volume context", async () => {
      const parameters = { headerDigest: "crc32c", "csi.storage.k8s.io/pvc/name": "claim" };
      const { volume } = await fixture.create("v", { parameters });
      expect(volume.volumeContext).toEqual(parameters);
      // Whose it is, is no property of the volume: the same one is made again without it.
      const again = await fixture.create("v", { parameters: { headerDigest: "crc32c" } });
      expect(again.volume.volumeId).toBe(volume.volumeId);
      expect((await fixture.backend.get(volume.volumeId))?.context).toEqual({ headerDigest: "crc32c" });
    });

    it("hands settings of the initiator on as volume context, checked", async () => {
      const parameters = { connections: "4", connectionPolicy: "round-robin", tcpConnectTimeSeconds: "15" };
      const { volume } = await fixture.create("v", { parameters });
      expect(volume.volumeContext).toEqual(parameters);
      const wrong = fixture.create("w", { parameters: { connections: "many" } });
      await expect(wrong).rejects.toMatchObject({ status: "INVALID_ARGUMENT" });
      await expect(wrong).rejects.toThrow(/"connections" is "many"; write a whole number from 1 to 64/);
    });

    it.each([
      ["no name", { name: "" }],
      ["no capabilities", { volumeCapabilities: [] }],
      ["no access type", { volumeCapabilities: [{ accessMode: { mode: "SINGLE_NODE_WRITER" } }] }],
      ["no access mode", { volumeCapabilities: [{ mount: {} }] }],
      ["an unknown access mode", { volumeCapabilities: [{ mount: {}, accessMode: { mode: 99 } }] }],
      ["an unknown file system", { volumeCapabilities: [{ ...mountOnce, mount: { fsType: "ntfs" } }] }],
      ["a mount flag that is an option", { volumeCapabilities: [{ ...mountOnce, mount: { mountFlags: ["-t"] } }] }],
      ["a local file system for many writers", { volumeCapabilities: [mountShared] }],
      ["an unknown parameter", { parameters: { flavour: "x" } }],
      ["a digest that is none", { parameters: { dataDigest: "md5" } }],
      ["a setting of the initiator that is none", { parameters: { errorRecoveryLevel: "3" } }],
      ["settings that do not go together", { parameters: { connectionPolicy: "round-robin" } }],
      ["a setting of volumes with several sessions", { parameters: { linkDownTimeSeconds: "15" } }],
      ["mutable parameters", { mutableParameters: { iops: "5" } }],
      ["a source snapshot", { volumeContentSource: { snapshot: { snapshotId: "s" } } }],
      ["a source volume", { volumeContentSource: { volume: { volumeId: "s" } } }],
      ["a range upside down", { capacityRange: { requiredBytes: 2, limitBytes: 1 } }],
      ["a negative size", { capacityRange: { requiredBytes: -1 } }],
    ])("refuses %s with INVALID_ARGUMENT", async (_what, changes) => {
      await expect(fixture.create("v", changes)).rejects.toMatchObject({ status: "INVALID_ARGUMENT" });
    });

    it("refuses secrets as parameters, and its words and log lines do not repeat them", async () => {
      const refused = fixture.create("v", {
        parameters: { chapSecret: "canary-param" },
        secrets: { key: "canary-secret" },
      });
      await expect(refused).rejects.toMatchObject({ status: "INVALID_ARGUMENT" });
      await expect(refused).rejects.toThrow("looks like a secret");
      await expect(refused).rejects.not.toThrow("canary");
      expect(fixture.lines.join("\n")).toContain("[redacted]");
      expect(fixture.lines.join("\n")).not.toContain("canary");
    });

    it.each([
      ["other size", { capacityRange: { requiredBytes: 2 * GIB } }, "ALREADY_EXISTS"],
      ["more than there is", { capacityRange: { requiredBytes: 200 * GIB }, name: "w" }, "RESOURCE_EXHAUSTED"],
      ["more than can be", { capacityRange: { requiredBytes: 2 ** 50 }, name: "w" }, "OUT_OF_RANGE"],
      ["beyond numbers", { capacityRange: { requiredBytes: 2 ** 62 }, name: "w" }, "OUT_OF_RANGE"],
    ])("refuses %s", async (_what, changes, status) => {
      await fixture.create("v");
      await expect(fixture.create("v", changes)).rejects.toMatchObject({ status });
    });
  });

  describe("DeleteVolume", () => {
    it("deletes, again and again", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await fixture.client.call("DeleteVolume", { volumeId });
      await fixture.client.call("DeleteVolume", { volumeId });
      await fixture.client.call("DeleteVolume", { volumeId: "reallyfakevolumeid" });
      await expect(fixture.client.call("DeleteVolume")).rejects.toMatchObject({ status: "INVALID_ARGUMENT" });
    });

    it("refuses a published volume", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      await fixture.publish(volumeId);
      await expect(fixture.client.call("DeleteVolume", { volumeId })).rejects.toMatchObject({
        status: "FAILED_PRECONDITION",
      });
    });
  });

  describe("ValidateVolumeCapabilities", () => {
    it("confirms what can be done, and says why not", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      const yes = await fixture.client.call("ValidateVolumeCapabilities", {
        volumeId,
        volumeCapabilities: [mountOnce],
      });
      expect(yes.confirmed?.volumeCapabilities).toHaveLength(1);
      expect(yes.confirmed?.volumeCapabilities[0]?.accessMode.mode).toBe("SINGLE_NODE_WRITER");
      const no = await fixture.client.call("ValidateVolumeCapabilities", {
        volumeId,
        volumeCapabilities: [mountShared],
      });
      expect(no.confirmed).toBeNull();
      expect(no.message).toContain("cluster file system");
    });

    it.each([
      [{}, "INVALID_ARGUMENT"],
      [{ volumeId: "v" }, "INVALID_ARGUMENT"],
      [{ volumeId: "vol-none", volumeCapabilities: [mountOnce] }, "NOT_FOUND"],
    ])("refuses %j with %s", async (request, status) => {
      await expect(fixture.client.call("ValidateVolumeCapabilities", request)).rejects.toMatchObject({ status });
    });
  });

  describe("looking", () => {
    it("lists volumes with their nodes, in pages", async () => {
      const published = await fixture.volumeIdOf("a");
      await fixture.volumeIdOf("b");
      await fixture.publish(published);
      const all = await fixture.client.call("ListVolumes");
      expect(all.entries).toHaveLength(2);
      const entry = all.entries.find((candidate) => candidate.volume.volumeId === published);
      expect(entry?.status.publishedNodeIds).toEqual([fixture.node.nodeId]);
      const first = await fixture.client.call("ListVolumes", { maxEntries: 1 });
      const second = await fixture.client.call("ListVolumes", { maxEntries: 1, startingToken: first.nextToken });
      expect(second.nextToken).toBe("");
      expect([...first.entries, ...second.entries]).toEqual(all.entries);
    });

    it.each([
      [{ startingToken: "invalid-token" }, "ABORTED"],
      [{ maxEntries: -1 }, "INVALID_ARGUMENT"],
    ])("refuses to list %j with %s", async (request, status) => {
      await expect(fixture.client.call("ListVolumes", request)).rejects.toMatchObject({ status });
    });

    it("gets one volume", async () => {
      const volumeId = await fixture.volumeIdOf("a");
      await fixture.publish(volumeId);
      const answer = await fixture.client.call("ControllerGetVolume", { volumeId });
      expect(answer).toMatchObject({ volume: { volumeId }, status: { publishedNodeIds: [fixture.node.nodeId] } });
      await expect(fixture.client.call("ControllerGetVolume", { volumeId: "x" })).rejects.toMatchObject({
        status: "NOT_FOUND",
      });
    });

    it("tells the capacity, none for what cannot be served", async () => {
      const before = await fixture.client.call("GetCapacity");
      await fixture.create("v");
      const after = await fixture.client.call("GetCapacity");
      expect(before.availableCapacity - after.availableCapacity).toBe(GIB);
      expect(before.maximumVolumeSize.value).toBe(100 * GIB);
      const none = await fixture.client.call("GetCapacity", { volumeCapabilities: [mountShared] });
      expect(none.availableCapacity).toBe(0);
    });
  });

  describe("ControllerExpandVolume", () => {
    it("grows to exactly what is asked, again and again", async () => {
      const volumeId = await fixture.volumeIdOf("v");
      const request = { volumeId, capacityRange: { requiredBytes: 2 * GIB } };
      expect(await fixture.client.call("ControllerExpandVolume", request)).toEqual({
        capacityBytes: 2 * GIB,
        nodeExpansionRequired: true,
      });
      expect((await fixture.client.call("ControllerExpandVolume", request)).capacityBytes).toBe(2 * GIB);
    });

    it.each([
      [{}, "INVALID_ARGUMENT"],
      [{ volumeId: "v" }, "INVALID_ARGUMENT"],
      [{ volumeId: "v", capacityRange: { limitBytes: 5 } }, "INVALID_ARGUMENT"],
      [{ volumeId: "vol-none", capacityRange: { requiredBytes: GIB } }, "NOT_FOUND"],
    ])("refuses %j with %s", async (request, status) => {
      await expect(fixture.client.call("ControllerExpandVolume", request)).rejects.toMatchObject({ status });
    });
  });

  it("hides errors that are our own fault from the caller, and logs them", async () => {
    const volumeId = await fixture.volumeIdOf("v");
    fixture.target.failNext("setAccess");
    const refused = fixture.publish(volumeId);
    await expect(refused).rejects.toMatchObject({ status: "INTERNAL" });
    await expect(refused).rejects.toThrow("the driver's log");
    expect(fixture.lines.join("\n")).toContain("told to fail");
  });

  it("answers UNIMPLEMENTED to what it does not offer", async () => {
    for (const method of ["CreateSnapshot", "ControllerModifyVolume", "ControllerGetVolumeHealth"]) {
      await expect(fixture.client.call(method)).rejects.toMatchObject({ status: "UNIMPLEMENTED" });
    }
  });

  it("serves a client of any authority HTTP/2 allows", async () => {
    const other = new TestCsiClient(fixture.socketPath, "csi.example.test:1234");
    expect(await other.call("Probe")).toMatchObject({ ready: { value: true } });
    other.close();
  });
});
