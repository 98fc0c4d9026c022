import { silentLogger } from "../../../src/base/logger.js";
import { isSecretLikeName } from "../../../src/storage/secret-names.js";
import { hasStaticAttributes, parseStaticAttributes } from "../../../src/storage/static-attributes.js";
import { StaticBackend } from "../../../src/storage/static-backend.js";
import { initiator } from "../../contract/storage-backend.js";

const own = { targetPortal: "192.0.2.1", targetIQN: "iqn.2001-05.com.example:disk", lun: "3" };

/** A PersistentVolume's attributes as csi-driver-iscsi documents them. */
const migrated = {
  targetPortal: "192.168.1.1:3260",
  iqn: "iqn.2015-06.com.example.test:target1",
  lun: "1",
  portals: '["192.168.1.2:3260", "[2001:db8::5]:3261"]',
  iscsiInterface: "default",
  discoveryCHAPAuth: "true",
  sessionCHAPAuth: "true",
  initiatorName: "iqn.1994-05.com.redhat:other",
};

describe("parseStaticAttributes", () => {
  it("reads our own names", () => {
    const naa = "naa.6001405abcdef0123456789abcdef012";
    expect(parseStaticAttributes({ ...own, naa, headerDigest: "crc32c" })).toEqual({
      portals: [{ host: "192.0.2.1", port: 3260 }],
      targetName: own.targetIQN,
      lun: 3,
      deviceId: naa,
      isChapRequired: false,
      headerDigest: "crc32c",
      dataDigest: undefined,
      initiatorName: undefined,
    });
  });

  it("reads those of csi-driver-iscsi", () => {
    const attributes = parseStaticAttributes(migrated);
    expect(attributes.portals).toEqual([
      { host: "192.168.1.1", port: 3260 },
      { host: "192.168.1.2", port: 3260 },
      { host: "2001:db8::5", port: 3261 },
    ]);
    expect(attributes).toMatchObject({ targetName: migrated.iqn, lun: 1, isChapRequired: true });
  });

  it("takes portals between commas, bracketed IPv6 first too, and each once", () => {
    const portals = "[2001:db8::1]:3260, 192.0.2.1:3260,192.0.2.1";
    expect(parseStaticAttributes({ targetIQN: own.targetIQN, portals }).portals).toEqual([
      { host: "2001:db8::1", port: 3260 },
      { host: "192.0.2.1", port: 3260 },
    ]);
  });

  it.each([
    ["6001405ABCDEF012", "naa.6001405abcdef012"],
    ["0x6001405abcdef0123456789abcdef012", "naa.6001405abcdef0123456789abcdef012"],
    ["eui.0025385b71b00001", "eui.0025385b71b00001"],
  ])("reads the identity %s as %s", (naa, deviceId) => {
    expect(parseStaticAttributes({ ...own, naa }).deviceId).toBe(deviceId);
  });

  it("ignores what Kubernetes adds", () => {
    const attributes = { ...own, "storage.kubernetes.io/csiProvisionerIdentity": "x" };
    expect(parseStaticAttributes(attributes).lun).toBe(3);
  });

  it("takes settings of the initiator beside the attributes, and says which one is wrong", () => {
    expect(parseStaticAttributes({ ...own, connections: "4", portalHopping: "advertised" }).lun).toBe(3);
    expect(() => parseStaticAttributes({ ...own, portalHopping: "always" })).toThrow(
      expect.objectContaining({
        code: "INITIATOR_SETTING_INVALID",
        message: expect.stringContaining('"portalHopping" is "always"; write pinned, listed, advertised'),
      }),
    );
  });

  it.each([
    ["no portal", { targetIQN: own.targetIQN }, "targetPortal"],
    ["no target", { targetPortal: "192.0.2.1" }, "targetIQN"],
    ["a target that is none", { ...own, targetIQN: "disk1" }, "targetIQN"],
    ["a portal that is none", { ...own, targetPortal: "a b" }, "portal"],
    ["a list that is none", { ...own, portals: "[1, 2]" }, "portals"],
    ["a LUN that is none", { ...own, lun: "-1" }, "lun"],
    ["a LUN too large", { ...own, lun: "16384" }, "lun"],
    ["an identity that is none", { ...own, naa: "naa.1" }, "naa"],
    ["a digest that is none", { ...own, dataDigest: "md5" }, "dataDigest"],
    ["a yes that is none", { ...own, sessionCHAPAuth: "yes" }, "sessionCHAPAuth"],
    ["two targets", { ...own, iqn: "iqn.2001-05.com.example:other" }, "mean the same"],
    ["a name nobody knows", { ...own, colour: "red" }, "colour"],
  ])("refuses %s", (_what, attributes, word) => {
    const parse = (): unknown => parseStaticAttributes(attributes);
    expect(parse).toThrow(expect.objectContaining({ code: "STORAGE_INVALID" }));
    expect(parse).toThrow(word);
  });

  it.each(["secret", "node.session.auth.password", "chapPassword", "CHAP_SECRET"])(
    "refuses the secret-bearing attribute %s without repeating its value",
    (name) => {
      const parse = (): unknown => parseStaticAttributes({ ...own, [name]: "canary-value" });
      expect(parse).toThrow("nodeStageSecretRef");
      expect(parse).not.toThrow("canary-value");
    },
  );

  it("tells static volumes from others", () => {
    expect(hasStaticAttributes(migrated)).toBe(true);
    expect(hasStaticAttributes({ headerDigest: "none" })).toBe(false);
  });
});

describe("isSecretLikeName", () => {
  it.each(["sessionCHAPAuth", "discoveryCHAPAuth", "headerDigest", "iqn", "naa", "blockSize"])("passes %s", (name) => {
    expect(isSecretLikeName(name)).toBe(false);
  });
});

describe("StaticBackend", () => {
  const backend = new StaticBackend({ logger: silentLogger });

  it("answers a grant from the attributes, again and again", async () => {
    const access = await backend.grant("any-handle", initiator("a"), migrated);
    expect(access).toEqual(await backend.grant("any-handle", initiator("a"), migrated));
    expect(access).toMatchObject({ targetName: migrated.iqn, lun: 1, deviceId: "" });
    expect(access.chap).toBeUndefined();
  });

  it("warns of an initiator name it does not use", async () => {
    const warn = jest.fn();
    const warned = new StaticBackend({ logger: { ...silentLogger, warn } });
    await warned.grant("v", initiator("a"), migrated);
    expect(warn).toHaveBeenCalledTimes(1);
    await warned.grant("v", initiator("a"), { ...migrated, initiatorName: initiator("a").iqn });
    expect(warn).toHaveBeenCalledTimes(1);
  });

  it("rejects a grant without attributes", async () => {
    await expect(backend.grant("v", initiator("a"), {})).rejects.toMatchObject({ code: "STORAGE_INVALID" });
  });

  it("neither creates nor grows nor counts", async () => {
    for (const call of [backend.create(), backend.expand(), backend.capacityBytes()]) {
      await expect(call).rejects.toMatchObject({ code: "STORAGE_NOT_SUPPORTED" });
    }
  });

  it("has nothing to delete, revoke, list or close", async () => {
    await backend.delete();
    await backend.revoke();
    expect(await backend.get()).toBeUndefined();
    expect(await backend.list(0, "")).toEqual({ volumes: [], nextToken: "" });
    await backend.probe();
    await backend.close();
  });
});
