import { formatNodeId, isIscsiName, parseNodeId } from "../../../src/base/node-id.js";

const publicKey = Buffer.from("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f", "hex");
const iqn = "iqn.2026-11.dev.hawser:worker-1";
const nodeId = "iqn.2026-11.dev.hawser:worker-1;3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08";

describe("node id", () => {
  it("is the name and the key in base64url", () => {
    expect(formatNodeId({ iqn, publicKey })).toBe(nodeId);
    expect(parseNodeId(nodeId)).toEqual({ iqn, publicKey });
  });

  it.each([
    ["nothing", ""],
    ["a plain node name", "worker-1"],
    ["no key", `${iqn};`],
    ["a short key", `${iqn};AAAA`],
    ["a key with padding", `${nodeId}=`],
    ["a key in plain base64", nodeId.replace(/[-_]/g, "+")],
    ["a third part", `${nodeId};x`],
    ["a name in capitals", nodeId.replace("worker", "Worker")],
    ["a name with a space", nodeId.replace("worker", "wor ker")],
    ["a name that is no iSCSI name", nodeId.replace("iqn.2026-11", "iqn.26-11")],
    ["more than 256 bytes", nodeId.replace("worker", "w".repeat(200))],
  ])("parses %s as undefined", (_title, text) => {
    expect(parseNodeId(text)).toBeUndefined();
  });

  it("takes names up to 256 bytes in all and refuses to format longer ones", () => {
    const longest = `iqn.2026-11.dev.hawser:${"n".repeat(256 - 44 - 23)}`;
    expect(Buffer.byteLength(formatNodeId({ iqn: longest, publicKey }))).toBe(256);
    expect(() => formatNodeId({ iqn: `${longest}n`, publicKey })).toThrow(/at most 256 bytes/);
  });

  it("knows iSCSI names of all three types", () => {
    expect(isIscsiName("eui.02004567A425678D")).toBe(true);
    expect(isIscsiName("naa.52004567BA64678D")).toBe(true);
    expect(isIscsiName("naa.62004567BA64678D0123456789ABCDEF")).toBe(true);
    expect(isIscsiName("iqn.1992-05.com.microsoft:host.example")).toBe(true);
    expect(isIscsiName("eui.0200")).toBe(false);
    expect(isIscsiName("iqn.2026-11")).toBe(false);
  });
});
