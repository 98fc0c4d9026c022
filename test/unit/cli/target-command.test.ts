import { parseTargetPortal, parseVolume } from "../../../src/cli/commands/target.js";

describe("hawser target", () => {
  test.each([
    ["10.0.0.1", { host: "10.0.0.1", port: 3260 }],
    ["10.0.0.1:3261", { host: "10.0.0.1", port: 3261 }],
    ["10.0.0.1:3261@2", { host: "10.0.0.1", port: 3261, portalGroupTag: 2 }],
    ["[fd00::1]:3260@65535", { host: "fd00::1", port: 3260, portalGroupTag: 65_535 }],
    ["fd00::1@7", { host: "fd00::1", port: 3260, portalGroupTag: 7 }],
  ])("takes the portal %s", (text, portal) => {
    expect(parseTargetPortal(text)).toEqual(portal);
  });

  test.each([
    ["10.0.0.1@0", /tag from 1 to 65535/],
    ["10.0.0.1@65536", /tag from 1 to 65535/],
    ["10.0.0.1@", /portal group ""/],
    ["10.0.0.1@two", /portal group "two"/],
    ["10.0.0.1:x@2", /is not a portal/],
    ["@2", /is not a portal/],
  ])("refuses the portal %s", (text, reason) => {
    const portal = (): unknown => parseTargetPortal(text);
    expect(portal).toThrow(expect.objectContaining({ code: "PORTAL_INVALID" }));
    expect(portal).toThrow(reason);
  });

  test("takes volumes by name and size", () => {
    expect(parseVolume("disk1=1Mi")).toEqual({ name: "disk1", sizeBytes: 1_048_576 });
    expect(() => parseVolume("Disk=1Mi")).toThrow(expect.objectContaining({ code: "VOLUME_INVALID" }));
  });
});
