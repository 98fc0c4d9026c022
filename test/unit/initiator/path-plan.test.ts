import { pathIsid, planPaths } from "../../../src/initiator/path-plan.js";
import type { NetworkInterfaceAddress } from "../../../src/host/network-interfaces.js";

const at = (name: string, address: string, prefixLength = 24): NetworkInterfaceAddress => ({
  ...{ name, address, prefixLength, isInternal: name === "lo" },
  family: address.includes(":") ? "ipv6" : "ipv4",
});
const interfaces = [
  at("lo", "127.0.0.1", 8),
  at("lo", "::1", 128),
  at("eth0", "192.0.2.5"),
  at("eth0", "fe80::1", 64),
  at("eth1", "198.51.100.5"),
  at("eth1", "2001:db8:1::5", 64),
];
const portal = (host: string): { host: string; port: number } => ({ host, port: 3260 });

function plan(hosts: readonly string[], sources: readonly string[]): readonly string[] {
  return planPaths({ portals: hosts.map(portal), sources, interfaces }).map(({ id }) => id);
}

test("without sources there is a path for each portal, and the routes choose", () => {
  expect(planPaths({ portals: [portal("192.0.2.9")], sources: [], interfaces: [] })).toEqual([
    { id: "192.0.2.9:3260", portal: portal("192.0.2.9") },
  ]);
});

test("sources times portals, portal by portal, of the portal's family", () => {
  expect(plan(["192.0.2.9", "2001:db8:1::9"], ["eth0", "eth1"])).toEqual([
    "eth0/192.0.2.5->192.0.2.9:3260",
    "eth1/198.51.100.5->192.0.2.9:3260",
    "eth1/2001:db8:1::5->[2001:db8:1::9]:3260",
  ]);
});

test("an address stands for the interface that has it; one that the node has not makes no path", () => {
  expect(plan(["192.0.2.9"], ["198.51.100.5", "203.0.113.1"])).toEqual(["eth1/198.51.100.5->192.0.2.9:3260"]);
  expect(plan(["127.0.0.1"], ["127.0.0.7"])).toEqual(["127.0.0.7->127.0.0.1:3260"]);
  expect(plan(["192.0.2.9"], ["eth7"])).toEqual([]);
});

test("all takes the interfaces next to the portal, and leaves a distant portal to the routes", () => {
  expect(plan(["192.0.2.9", "203.0.113.9"], ["all"])).toEqual(["eth0/192.0.2.5->192.0.2.9:3260", "203.0.113.9:3260"]);
});

test("a portal with a name is bound by interface alone: what it resolves to decides about the address", () => {
  expect(planPaths({ portals: [portal("array.example")], sources: ["eth1"], interfaces })).toEqual([
    { id: "eth1->array.example:3260", portal: portal("array.example"), localInterface: "eth1" },
  ]);
});

test("no more than 32 paths, whatever is named", () => {
  const hosts = Array.from({ length: 40 }, (_, index) => `192.0.2.${index + 10}`);
  expect(plan(hosts, ["eth0"])).toHaveLength(32);
});

test("the ISID of a path is its own, of type random, and the same every time", () => {
  const volume = Buffer.from("80aabbccddee", "hex");
  const one = pathIsid(volume, "eth0->p:3260");
  expect(one).toHaveLength(6);
  expect(one[0]).toBe(0x80);
  expect(pathIsid(volume, "eth0->p:3260").equals(one)).toBe(true);
  expect(pathIsid(volume, "eth1->p:3260").equals(one)).toBe(false);
  expect(pathIsid(Buffer.from("80aabbccddef", "hex"), "eth0->p:3260").equals(one)).toBe(false);
});
