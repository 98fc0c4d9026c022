import { HostError } from "../../../src/host/errors.js";
import { SystemNetworkInterfaces } from "../../../src/host/network-interfaces.js";

describe("SystemNetworkInterfaces", () => {
  it("lists loopback of this machine", () => {
    const found = new SystemNetworkInterfaces().list().find(({ address }) => address === "127.0.0.1");
    expect(found).toEqual({
      name: expect.stringMatching(/^lo/) as string,
      address: "127.0.0.1",
      family: "ipv4",
      prefixLength: 8,
      isInternal: true,
    });
  });

  it("has one entry for each address, and none for a netmask that is no prefix", () => {
    const common = { mac: "02:00:00:00:00:01", internal: false };
    const interfaces = new SystemNetworkInterfaces(() => ({
      eth1: [
        { ...common, address: "10.0.1.5", netmask: "255.255.255.0", family: "IPv4", cidr: "10.0.1.5/24" },
        { ...common, address: "10.0.9.9", netmask: "255.0.255.0", family: "IPv4", cidr: null },
        { ...common, address: "fe80::1", netmask: "ffff:ffff::", family: "IPv6", cidr: "fe80::1/64", scopeid: 2 },
      ],
      eth2: undefined,
    }));
    expect(interfaces.list()).toEqual([
      { name: "eth1", address: "10.0.1.5", family: "ipv4", prefixLength: 24, isInternal: false },
      { name: "eth1", address: "fe80::1", family: "ipv6", prefixLength: 64, isInternal: false },
    ]);
  });

  it("says that the system does not tell", () => {
    const interfaces = new SystemNetworkInterfaces(() => {
      throw new Error("uv_interface_addresses returned ENOMEM");
    });
    expect(() => interfaces.list()).toThrow(HostError);
    expect(() => interfaces.list()).toThrow(
      expect.objectContaining({ code: "HOST_INTERFACES_UNKNOWN", retry: "same-path" }) as Error,
    );
  });
});
