import { blockCapability, capability, GIB, NodeFixture, staticContext, volumeId } from "./node-fixture.js";

describe("Node service: staging", () => {
  let fixture: NodeFixture;
  beforeEach(async () => {
    fixture = await NodeFixture.open();
  });
  afterEach(() => fixture.close());

  describe("staging", () => {
    it("attaches, formats, mounts; repeated, it changes nothing", async () => {
      await fixture.stage();
      expect(fixture.world.trap.steps).toEqual([
        "attach",
        "put record",
        "mkfs",
        "markFormatted",
        "put record",
        "mount",
      ]);
      fixture.world.trap.steps.length = 0;
      await fixture.stage();
      expect(fixture.world.trap.steps).toEqual(["attach"]);
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
    });

    it("opens the CHAP pair sealed to this node", async () => {
      await fixture.stage();
      const request = fixture.world.dataplane.volumes.get(volumeId)?.request;
      expect(request?.chap?.secret.reveal().toString()).toBe("sealed-canary-0123");
      expect(request).toMatchObject({ expectedId: "naa.3000000000000001", isReadOnly: false, headerDigest: "none" });
    });

    it("says nothing of secrets in logs and records", async () => {
      const secrets = { chapUser: "u", chapSecret: "canary-stage-secret" };
      await fixture.stage({ publishContext: {}, volumeContext: staticContext, secrets });
      const record = await fixture.world.records.get(volumeId);
      const seen = fixture.world.lines.join("\n") + JSON.stringify(record);
      expect(seen).not.toContain("canary");
    });

    it("works from static attributes and a node-stage secret, without an attacher", async () => {
      const volumeContext = { ...staticContext, dataDigest: "crc32c" };
      const secrets = { "node.session.auth.username": "u", "node.session.auth.password": "0123456789ab" };
      await fixture.stage({ publishContext: {}, volumeContext, secrets });
      const request = fixture.world.dataplane.volumes.get(volumeId)?.request;
      expect(request).toMatchObject({ targetName: staticContext.targetIQN, lun: 1, dataDigest: "crc32c" });
      expect(request?.chap?.user).toBe("u");
    });

    it.each([
      ["SINGLE_NODE_WRITER", undefined],
      ["SINGLE_NODE_MULTI_WRITER", undefined],
      ["MULTI_NODE_MULTI_WRITER", true],
      ["MULTI_NODE_SINGLE_WRITER", true],
      ["MULTI_NODE_READER_ONLY", true],
    ])("says whether other nodes may have the volume at the same time: %s", async (mode, isShared) => {
      await fixture.stage({ volumeCapability: { ...blockCapability, accessMode: { mode } } });
      expect(fixture.world.dataplane.volumes.get(volumeId)?.request?.isShared).toBe(isShared);
    });

    it("hands settings of the initiator on, from the volume context of either kind", async () => {
      await fixture.stage();
      const plain = fixture.world.dataplane.volumes.get(volumeId)?.request;
      expect(plain).not.toHaveProperty("settings");
      const context = { connections: "2", errorRecoveryLevel: "2", immediateData: "false" };
      const settings = { connections: 2, errorRecoveryLevel: 2, immediateData: false };
      await fixture.stage({ volumeContext: context });
      expect(fixture.world.dataplane.volumes.get(volumeId)?.request?.settings).toEqual(settings);
      await fixture.stage({ publishContext: {}, volumeContext: { ...staticContext, ...context } });
      expect(fixture.world.dataplane.volumes.get(volumeId)?.request?.settings).toEqual(settings);
    });

    it.each([
      ["no volume", { volumeId: "" }],
      ["no staging path", { stagingTargetPath: "" }],
      ["a relative staging path", { stagingTargetPath: "a/b" }],
      ["a staging path with dots", { stagingTargetPath: "/a/../etc" }],
      ["no capability", { volumeCapability: null }],
      ["many writers of a file system", { volumeCapability: capability({}, "MULTI_NODE_MULTI_WRITER") }],
      ["no way to the volume", { publishContext: {} }],
      ["a setting of the initiator that is none", { volumeContext: { connections: "0" } }],
      ["a publish context of another driver", { publishContext: { device: "/dev/mock" } }],
      ["a damaged publish context", { publishContext: { targetName: "iqn.x", lun: "0", portals: "[]" } }],
      ["a secret among the attributes", { volumeContext: { secret: "x" } }],
      ["half a CHAP pair", { publishContext: {}, volumeContext: staticContext, secrets: { chapUser: "u" } }],
      [
        "a short CHAP secret",
        { publishContext: {}, volumeContext: staticContext, secrets: { chapUser: "u", chapSecret: "short" } },
      ],
      [
        "CHAP demanded and not given",
        { publishContext: {}, volumeContext: { ...staticContext, sessionCHAPAuth: "true" } },
      ],
    ])("refuses %s", async (_what, changes) => {
      await expect(fixture.stage(changes)).rejects.toMatchObject({ code: expect.stringMatching(/INVALID/) as string });
      expect(fixture.world.trap.steps).toEqual([]);
    });

    it("does not open what was sealed for another volume", async () => {
      const staged = fixture.stage({ volumeId: "vol-2" });
      await expect(staged).rejects.toMatchObject({ code: "SEALING_OPEN_FAILED" });
    });

    it.each([
      ["foreign data", { signature: { kind: "empty" }, isZero: false }, "not empty"],
      ["a partition table", { signature: { kind: "partition-table", tableType: "gpt" } }, "gpt"],
      ["another file system", { signature: { kind: "filesystem", fsType: "xfs" } }, "xfs"],
      ["LVM", { signature: { kind: "other", type: "LVM2_member" } }, "LVM2"],
      ["contradictions", { signature: { kind: "ambivalent" } }, "contradict"],
    ])("never formats %s", async (_what, content, word) => {
      Object.assign(fixture.world.filesystems, content);
      await expect(fixture.stage()).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      await expect(fixture.stage()).rejects.toThrow(word);
      expect(fixture.world.trap.steps).not.toContain("mkfs");
    });

    it("never formats a volume that once had a file system", async () => {
      await fixture.stage();
      await fixture.unstage();
      Object.assign(fixture.world.filesystems, { signature: { kind: "empty" }, isZero: true });
      await expect(fixture.stage()).rejects.toThrow("had a file system");
    });

    it("checks the file system that is there, and keeps it", async () => {
      await fixture.stage();
      await fixture.unstage();
      fixture.world.trap.steps.length = 0;
      await fixture.stage();
      expect(fixture.world.trap.steps).toEqual(["attach", "fsck", "put record", "mount"]);
    });

    it("grows a file system that is smaller than its device", async () => {
      await fixture.stage();
      await fixture.unstage();
      fixture.world.dataplane.lunBytes = 2 * GIB;
      await fixture.stage();
      expect(fixture.world.filesystems.sizeBytes).toBe(2 * GIB);
    });

    it("stages a reader mode read-only: neither checked nor grown", async () => {
      await fixture.stage();
      await fixture.unstage();
      fixture.world.trap.steps.length = 0;
      await fixture.stage({ volumeCapability: capability({}, "MULTI_NODE_READER_ONLY") });
      expect(fixture.world.trap.steps).toEqual(["attach", "put record", "mount"]);
      expect(fixture.world.mounter.entries[0]?.options).toContain("ro");
    });

    it("passes mount flags on", async () => {
      await fixture.stage({ volumeCapability: capability({ mountFlags: ["noatime", "discard"] }) });
      expect(fixture.world.mounter.entries[0]?.options).toEqual(["rw", "noatime", "discard"]);
    });

    it("refuses another file system or access at the same place", async () => {
      await fixture.stage();
      const other = fixture.stage({ volumeCapability: capability({ fsType: "xfs" }) });
      await expect(other).rejects.toMatchObject({ code: "CSI_ALREADY_EXISTS" });
      const readOnly = fixture.stage({ volumeCapability: capability({}, "SINGLE_NODE_READER_ONLY") });
      await expect(readOnly).rejects.toMatchObject({ code: "VOLUME_MISMATCH" });
    });

    it("only attaches a block volume", async () => {
      await fixture.stage({ volumeCapability: blockCapability });
      expect(fixture.world.trap.steps).toEqual(["attach", "put record"]);
    });

    it("answers ABORTED to a second call while the first is under way", async () => {
      const first = fixture.stage();
      await expect(fixture.stage()).rejects.toMatchObject({ code: "CSI_ABORTED" });
      await first;
    });

    it("stops when the caller goes away, and goes on when called again", async () => {
      const abort = new AbortController();
      const attach = fixture.world.dataplane.attach.bind(fixture.world.dataplane);
      fixture.world.dataplane.attach = async (request) => {
        const volume = await attach(request);
        abort.abort(new Error("gone"));
        return volume;
      };
      await expect(fixture.stage({}, abort.signal)).rejects.toThrow("gone");
      expect(fixture.world.trap.steps).not.toContain("mkfs");
      await fixture.stage();
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
    });
  });

  describe("stale mounts", () => {
    it("are taken away when nobody uses them, and never mounted upon", async () => {
      await fixture.stage();
      fixture.world.mounter.stale.add(fixture.world.stagingPath);
      fixture.world.dataplane.loseDevice(volumeId);
      await fixture.stage();
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
      expect((await fixture.world.records.get(volumeId))?.generation).toBe(2);
    });

    it("are seen by their generation though the numbers are the same", async () => {
      await fixture.stage();
      fixture.world.dataplane.loseDevice(volumeId);
      await fixture.stage();
      expect(fixture.world.trap.steps.filter((step) => step === "mount")).toHaveLength(2);
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
    });

    it("are refused while pods use them", async () => {
      await fixture.stage();
      await fixture.publish();
      fixture.world.mounter.stale.add(fixture.world.stagingPath);
      fixture.world.dataplane.loseDevice(volumeId);
      await expect(fixture.stage()).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      await expect(fixture.stage()).rejects.toThrow(fixture.world.targetPath());
      await expect(fixture.publish({ targetPath: fixture.world.targetPath("b") })).rejects.toThrow("not attached");
    });

    it("of someone else are left alone", async () => {
      await fixture.stage({ volumeId: "other", publishContext: {}, volumeContext: staticContext });
      fixture.world.dataplane.nextMinor = 2;
      await expect(fixture.stage()).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
    });
  });

  describe("unstaging", () => {
    it("unmounts and detaches, again and again, and volumes that never were", async () => {
      await fixture.stage();
      await fixture.unstage();
      await fixture.unstage();
      await fixture.unstage({ volumeId: "never" });
      expect(fixture.mountPoints()).toEqual([]);
      expect(await fixture.world.dataplane.get(volumeId)).toBeUndefined();
      expect(await fixture.world.records.get(volumeId)).toBeUndefined();
    });

    it("is refused while the volume is published, with nothing taken away", async () => {
      await fixture.stage();
      await fixture.publish();
      await expect(fixture.unstage()).rejects.toMatchObject({ code: "CSI_FAILED_PRECONDITION" });
      expect(fixture.mountPoints()).toHaveLength(2);
      await fixture.unpublish();
      await fixture.unstage();
      expect(fixture.mountPoints()).toEqual([]);
    });

    it("does not take another volume's mount away", async () => {
      await fixture.stage();
      await fixture.unstage({ volumeId: "other" });
      expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
    });

    it.each([
      ["no volume", { volumeId: "" }],
      ["no path", { stagingTargetPath: "" }],
    ])("refuses %s", async (_what, changes) => {
      await expect(fixture.unstage(changes)).rejects.toMatchObject({ code: "CSI_INVALID_ARGUMENT" });
    });
  });
});
