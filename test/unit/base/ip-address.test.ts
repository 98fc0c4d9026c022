import { canonicalIpAddress, isInSubnet, isIpAddress, parseIpAddress } from "../../../src/base/ip-address.js";

describe("parseIpAddress", () => {
  it.each([
    ["10.0.1.5", "ipv4", [10, 0, 1, 5]],
    ["255.255.255.255", "ipv4", [255, 255, 255, 255]],
    ["::ffff:10.0.1.5", "ipv4", [10, 0, 1, 5]],
    ["0:0:0:0:0:FFFF:0a00:0105", "ipv4", [10, 0, 1, 5]],
    ["::", "ipv6", Array<number>(16).fill(0)],
    ["::1", "ipv6", [...Array<number>(15).fill(0), 1]],
    ["1::", "ipv6", [0, 1, ...Array<number>(14).fill(0)]],
    ["2001:DB8::12ab:3", "ipv6", [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0xab, 0, 3]],
    ["1:2:3:4:5:6:7:8", "ipv6", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8]],
    ["1:2:3:4:5:6:7::", "ipv6", [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0]],
    ["64:ff9b::192.0.2.33", "ipv6", [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 33]],
    ["fe80::1%eth0", "ipv6", [0xfe, 0x80, ...Array<number>(13).fill(0), 1]],
  ])("reads %s", (text, family, bytes) => {
    expect(parseIpAddress(text)).toEqual({ family, bytes });
    expect(isIpAddress(text)).toBe(true);
  });

  it.each([
    "",
    "localhost",
    "10.0.1",
    "10.0.1.5.6",
    "10.0.1.256",
    "010.0.1.5",
    "10.0.1.-5",
    "10.0.1.5 ",
    "10.0.1.5/24",
    "10.0.1.5%eth0",
    ":",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4::5:6:7:8",
    "1::2::3",
    ":1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:",
    "12345::",
    "g::1",
    "[::1]",
    "::1:3260:",
    "10.0.1.5::",
    "::10.0.1.5:1",
    "::10.0.1",
    "fe80::1%",
    "fe80::1%eth0%eth1",
    "fe80::1%et h0",
  ])("knows that %p is no address", (text) => {
    expect(parseIpAddress(text)).toBeUndefined();
    expect(isIpAddress(text)).toBe(false);
    expect(canonicalIpAddress(text)).toBeUndefined();
  });
});

describe("canonicalIpAddress", () => {
  // RFC 5952 §4: lower case, no leading zeroes, the first of the longest runs of zeroes shortened, never a single one.
  it.each([
    ["10.0.1.5", "10.0.1.5"],
    ["::FFFF:10.0.1.5", "10.0.1.5"],
    ["2001:0DB8:0000:0000:0000:0000:0002:0001", "2001:db8::2:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["1:0:0:0:0:0:0:0", "1::"],
    ["FE80::0001%eth0", "fe80::1"],
  ])("writes %s as %s", (text, expected) => {
    expect(canonicalIpAddress(text)).toBe(expected);
  });
});

describe("isInSubnet", () => {
  it.each([
    ["10.0.1.5", "10.0.1.200", 24, true],
    ["10.0.2.5", "10.0.1.200", 24, false],
    ["10.0.2.5", "10.0.1.200", 22, true],
    ["10.0.1.127", "10.0.1.1", 25, true],
    ["10.0.1.128", "10.0.1.1", 25, false],
    ["10.0.1.6", "10.0.1.5", 32, false],
    ["10.0.1.5", "10.0.1.5", 32, true],
    ["203.0.113.1", "10.0.1.5", 0, true],
    ["127.3.2.1", "127.0.0.1", 8, true],
    ["fd00:9::5", "fd00:9::1", 64, true],
    ["fd00:9:0:1::5", "fd00:9::1", 64, false],
    ["fd00:9::2", "fd00:9::1", 127, false],
    ["fd00:9::2", "fd00:9::3", 127, true],
    ["fe80::1%eth0", "fe80::2%eth1", 64, true],
    ["::ffff:10.0.1.5", "10.0.1.1", 24, true],
    ["10.0.1.5", "::ffff:10.0.1.1", 120, true],
    ["10.0.2.5", "::ffff:10.0.1.1", 120, false],
    ["10.0.1.5", "::ffff:10.0.1.1", 24, false],
    ["10.0.1.5", "fd00:9::1", 0, false],
    ["10.0.1.5", "10.0.1.5", 33, false],
    ["10.0.1.5", "10.0.1.5", -1, false],
    ["10.0.1.5", "10.0.1.5", 23.5, false],
    ["storage", "10.0.1.5", 0, false],
    ["10.0.1.5", "storage", 0, false],
  ])("%s in that of %s/%d: %s", (address, base, prefixLength, expected) => {
    expect(isInSubnet(address, { address: base, prefixLength })).toBe(expected);
  });
});
