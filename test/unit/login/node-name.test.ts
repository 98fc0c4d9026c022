import { isNodeName, NodeNameError, normalizeNodeName } from "../../../src/login/node-name.js";

describe("node names (RFC 7143 §4.2.7)", () => {
  it.each([
    "iqn.1993-11.com.disk-vendor:diskarrays.sn.45678",
    "iqn.2001-04.com.example",
    "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
    "eui.02004567a425678d",
    "naa.52004567ba64678d",
    "naa.62004567ba64678d0123456789abcdef",
  ])("takes %s as it is", (name) => {
    expect(normalizeNodeName(name)).toBe(name);
  });

  it("lowers the case and normalises what looks alike", () => {
    expect(normalizeNodeName("iqn.2001-04.COM.Example:Host1")).toBe("iqn.2001-04.com.example:host1");
    expect(normalizeNodeName("EUI.02004567A425678D")).toBe("eui.02004567a425678d");
    expect(normalizeNodeName("iqn.2001-04.com.example:ｈｏｓｔ")).toBe("iqn.2001-04.com.example:host");
    expect(normalizeNodeName("iqn.2001-04.com.example:größe")).toBe("iqn.2001-04.com.example:größe");
  });

  it.each([
    "",
    "host1",
    "iqn.2001-4.com.example",
    "iqn.2001-13.com.example",
    "iqn.2001-04.",
    "eui.0200456",
    "eui.02004567a425678g",
    "naa.52004567ba64678d00",
    "iqn.2001-04.com.example:a b",
    "iqn.2001-04.com.example:a_b",
    "iqn.2001-04.com.example:a/b",
    "iqn.2001-04.com.example:a\u00a0b",
    "iqn.2001-04.com.example:a\u200bb",
    "iqn.2001-04.com.example:a\0",
    "iqn.2001-04.com.example:a,b",
  ])("refuses %p", (name) => {
    expect(() => normalizeNodeName(name)).toThrow(NodeNameError);
    expect(isNodeName(name)).toBe(false);
  });

  it("counts bytes, not characters", () => {
    const prefix = "iqn.2001-04.com.example:";
    expect(isNodeName(prefix + "a".repeat(223 - prefix.length))).toBe(true);
    expect(isNodeName(prefix + "a".repeat(224 - prefix.length))).toBe(false);
    expect(isNodeName(prefix + "ß".repeat(110))).toBe(false);
  });
});
