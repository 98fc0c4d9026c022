import { status } from "@grpc/grpc-js";
import { AppError, CancelledError, TimeoutError } from "../../../src/base/errors.js";
import { CsiError } from "../../../src/csi/errors.js";
import { controllerCapabilities, nodeCapabilities } from "../../../src/csi/capabilities.js";
import { InFlight } from "../../../src/csi/in-flight.js";
import { redactMessage } from "../../../src/csi/redact.js";
import { chapFromSecrets } from "../../../src/csi/stage-secrets.js";
import { toStatus } from "../../../src/csi/status-map.js";
import { readRange, requirePath } from "../../../src/csi/validate.js";
import { DataplaneError } from "../../../src/dataplane/errors.js";
import { StorageError } from "../../../src/storage/backend.js";
import { csiProto } from "../../support/csi-client.js";

const canary = "canary-value";

describe("redactMessage", () => {
  it("replaces every field the interface marks csi_secret, in every request that has one", () => {
    const root = csiProto.messageType("NodeStageVolumeRequest").parent!;
    const secretive = root.nestedArray.flatMap((object) =>
      "fieldsArray" in object ? [csiProto.messageType(object.name)] : [],
    );
    const withSecrets = secretive.filter((type) => type.fields["secrets"] !== undefined);
    expect(withSecrets.length).toBe(22);
    for (const type of withSecrets) {
      const redacted = redactMessage(type, { secrets: { anything: canary } });
      expect({ type: type.name, redacted }).toEqual({ type: type.name, redacted: { secrets: "[redacted]" } });
    }
  });

  it("replaces map entries that look like secrets, and shortens what is sealed", () => {
    const type = csiProto.messageType("NodeStageVolumeRequest");
    const sealed = `v1.${"A".repeat(80)}`;
    const redacted = redactMessage(type, {
      volumeId: "v",
      publishContext: { targetName: "iqn.x", chap: sealed },
      volumeContext: { "node.session.auth.password": canary, secret: canary, lun: "1" },
      volumeCapability: {
        mount: { fsType: "xfs", mountFlags: ["noatime"] },
        accessMode: { mode: "SINGLE_NODE_WRITER" },
      },
    });
    expect(redacted).toEqual({
      volumeId: "v",
      publishContext: { targetName: "iqn.x", chap: "[sealed]" },
      volumeContext: { "node.session.auth.password": "[redacted]", secret: "[redacted]", lun: "1" },
      volumeCapability: {
        mount: { fsType: "xfs", mountFlags: ["noatime"] },
        accessMode: { mode: "SINGLE_NODE_WRITER" },
      },
    });
  });

  it("shows nothing of fields the interface does not have", () => {
    const type = csiProto.messageType("DeleteVolumeRequest");
    expect(redactMessage(type, { volumeId: "v", surprise: canary })).toEqual({ volumeId: "v" });
    expect(redactMessage(type, canary)).toEqual({});
  });
});

describe("InFlight", () => {
  it("lets one call per key through, and the next after it ended, well or badly", async () => {
    const inFlight = new InFlight();
    let end = (): void => undefined;
    const first = inFlight.run("volume v", "First", () => new Promise<void>((resolve) => (end = resolve)));
    const second = inFlight.run("volume v", "Second", () => Promise.resolve());
    await expect(second).rejects.toMatchObject({ code: "CSI_ABORTED" });
    await expect(second).rejects.toThrow("First");
    expect(await inFlight.run("volume w", "Third", () => Promise.resolve(3))).toBe(3);
    end();
    await first;
    const failing = inFlight.run("volume v", "Fourth", () => Promise.reject(new Error("no")));
    await expect(failing).rejects.toThrow("no");
    expect(await inFlight.run("volume v", "Fifth", () => Promise.resolve(5))).toBe(5);
  });
});

describe("toStatus", () => {
  it.each([
    [new CsiError("CSI_ABORTED", "busy"), status.ABORTED],
    [new StorageError("STORAGE_NO_SPACE", "full"), status.RESOURCE_EXHAUSTED],
    [new StorageError("STORAGE_BUSY", "granted"), status.FAILED_PRECONDITION],
    [new DataplaneError("VOLUME_MISMATCH", "other"), status.ALREADY_EXISTS],
    [new DataplaneError("DATAPLANE_UNREACHABLE", "gone"), status.UNAVAILABLE],
    [new DataplaneError("DEVICE_BUSY", "held"), status.FAILED_PRECONDITION],
    [new AppError("transport", "TRANSPORT_REFUSED", "refused"), status.UNAVAILABLE],
    [new AppError("login", "LOGIN_AUTHENTICATION_FAILED", "wrong secret"), status.UNAUTHENTICATED],
    [new TimeoutError("host", "HOST_TIMEOUT", "late"), status.DEADLINE_EXCEEDED],
    [new CancelledError("base", "GONE", "gone"), status.CANCELLED],
    [new AppError("host", "HOST_EIO", "bad disk"), status.INTERNAL],
  ])("keeps the words of %s", (error, code) => {
    expect(toStatus(error)).toEqual({ code, details: error.message });
  });

  it("says nothing of an error that is our own fault", () => {
    expect(toStatus(new TypeError(canary)).code).toBe(status.INTERNAL);
    expect(toStatus(new TypeError(canary)).details).not.toContain(canary);
    expect(toStatus(canary).details).not.toContain(canary);
  });
});

describe("capabilities", () => {
  it("are fewer for a backend that only knows attributes", () => {
    const none = { canCreate: false, canExpand: false, canList: false, reportsCapacity: false, keepsState: false };
    expect(controllerCapabilities(none)).toEqual(["PUBLISH_UNPUBLISH_VOLUME", "SINGLE_NODE_MULTI_WRITER"]);
  });

  it("offer nothing of 1.13 to a client of 1.12", () => {
    expect(nodeCapabilities("1.12")).not.toContain("GET_VOLUME_HEALTH");
    expect(nodeCapabilities("1.13")).toContain("GET_VOLUME_HEALTH");
  });
});

describe("chapFromSecrets", () => {
  it("reads our names and those of open-iscsi, and takes empty values as none", () => {
    const chap = chapFromSecrets({
      "node.session.auth.username": "user",
      "node.session.auth.password": "0123456789ab",
      "node.session.auth.username_in": "",
      "node.session.auth.password_in": "",
    });
    expect(chap?.user).toBe("user");
    expect(chap?.mutualUser).toBeUndefined();
    expect(chapFromSecrets({})).toBeUndefined();
  });

  it.each([
    ["half a pair", { chapUser: "u" }],
    ["half a mutual pair", { chapUser: "u", chapSecret: "0123456789ab", mutualUser: "m" }],
    ["mutual alone", { mutualUser: "m", mutualSecret: canary }],
    ["a short secret", { chapUser: "u", chapSecret: "01234567890" }],
    ["one secret for both", { chapUser: "u", chapSecret: canary, mutualUser: "m", mutualSecret: canary }],
  ])("refuses %s, without its value", (_what, secrets) => {
    const read = (): unknown => chapFromSecrets(secrets);
    expect(read).toThrow(expect.objectContaining({ code: "CSI_INVALID_ARGUMENT" }));
    expect(read).not.toThrow(canary);
  });
});

describe("validate", () => {
  it.each(["", "a", "/", "/a/../b", "/a//b", "/a/./b", "/a\0b"])("takes no path %j", (path) => {
    expect(() => requirePath(path, "target_path")).toThrow("target_path");
  });

  it("drops slashes at the end", () => {
    expect(requirePath("/var/lib/x//", "target_path")).toBe("/var/lib/x");
  });

  it("reads an absent range as open", () => {
    expect(readRange(null)).toEqual({ requiredBytes: 0, limitBytes: 0 });
  });
});
