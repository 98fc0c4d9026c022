import { execFile } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { AttachRequest } from "../../src/dataplane/api.js";
import type { PathsView } from "../../src/cli/paths-view.js";
import { CLI_NEEDS, runCli } from "../support/cli-process.js";
import { reportMeasured } from "../support/file-load.js";
import { readFioReport } from "../support/fio-report.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { type LabNode, NetLab } from "../support/net-lab.js";
import { Tgtd } from "../support/tgt.js";

const MIB = 1_048_576;
const PORT = 3_260;
const DISK_BYTES = 128 * MIB;
/** Slow enough that the links, and not the processors of a busy machine, are what limits. */
const LINK_BITS_PER_SECOND = 50_000_000;
const LINK_BYTES_PER_SECOND = LINK_BITS_PER_SECOND / 8;
/** Of each link. What is missing are the headers of Ethernet, IP and TCP, and those of iSCSI. */
const ENOUGH_BYTES_PER_SECOND = LINK_BYTES_PER_SECOND * 0.94;
const TARGET = "iqn.2026-11.test:paths-bandwidth";
const needs = [
  ...[...HOST_NEEDS, ...CLI_NEEDS, "ip", "tc", "ss", "nsenter", "sysctl"],
  ...["tgtd", "tgtadm", "/dev/fuse", "/dev/loop-control"],
];

type Direction = "read" | "write";

/**
 * What a program is started by to be on a node: only the network is the node's, so that mounts, devices and unix sockets
 * are those of the test.
 */
const on = (node: LabNode): readonly string[] => ["nsenter", `--net=/run/netns/${node.namespace}`];

/** The kernel's table of the node's established TCP connections to the port. */
async function connectionsOf(node: LabNode): Promise<readonly { readonly local: string; readonly peer: string }[]> {
  const table = await node.exec("ss", ["-tnH", "state", "established", `( dport = :${PORT} )`]);
  return table.split("\n").flatMap((line) => {
    const [, , local, peer] = line.trim().split(/\s+/);
    // A socket that is bound to a link has `%LINK` behind its address.
    return local === undefined || peer === undefined ? [] : [{ local: local.replace(/%[^:]+/, ""), peer }];
  });
}

/**
 * Bytes per second of large sequential requests. Enough of them are under way to keep two links busy, and not so many that
 * those under way at the begin and the end of the time count for much.
 */
async function measure(devicePath: string, direction: Direction): Promise<number> {
  const { stdout } = await promisify(execFile)("fio", [
    ...["--name=stream", `--filename=${devicePath}`, `--rw=${direction}`, "--bs=256k", `--size=${DISK_BYTES}`],
    ...["--ioengine=libaio", "--iodepth=12", "--direct=1", "--time_based=1", "--runtime=4", "--ramp_time=1"],
    "--output-format=json",
  ]);
  const { readBytes, writtenBytes, runtimeMs } = readFioReport(stdout);
  return ((readBytes + writtenBytes) / runtimeMs) * 1_000;
}

/**
 * The fastest of up to three times, one of which must be enough: what else goes on on this machine makes a time slower,
 * and nothing makes it faster than the links are.
 */
async function fastest(devicePath: string, direction: Direction, enoughBytesPerSecond: number): Promise<number> {
  let best = 0;
  for (let attempt = 0; attempt < 3 && best < enoughBytesPerSecond; attempt += 1) {
    best = Math.max(best, await measure(devicePath, direction));
  }
  return best;
}

function requestOf(volumeHandle: string, change: Pick<AttachRequest, "portals" | "settings">): AttachRequest {
  return {
    ...{ volumeHandle, targetName: TARGET, lun: 1, expectedId: "", isReadOnly: false, publicationId: "" },
    ...{ headerDigest: "none", dataDigest: "none", backend: "fuse", portals: change.portals },
    settings: { multipath: "mpio", pathPolicy: "round-robin", ...change.settings },
  };
}

async function pathsOf(host: HawserHost, volumeHandle: string): Promise<PathsView> {
  const args = ["paths", volumeHandle, "--dataplane", host.socketPath("dataplane")];
  const { exitCode, out, err } = await runCli("hawserctl", ...args, "--output", "json");
  if (exitCode !== 0) throw new Error(`hawserctl paths: ${err}`);
  return JSON.parse(out) as PathsView;
}

/** The table for people, printed among the test results. */
async function showPaths(host: HawserHost, volumeHandle: string): Promise<string> {
  const { out } = await runCli("hawserctl", "paths", volumeHandle, "--dataplane", host.socketPath("dataplane"));
  process.stdout.write(`${out.trimEnd().replace(/^/gm, "    ")}\n`);
  return out;
}

async function untilUp(host: HawserHost, volumeHandle: string, count: number): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    const { paths = [] } = (await host.dataplaneClient.get(volumeHandle))?.multipath ?? {};
    if (paths.filter(({ state }) => state === "up").length === count) return;
    if (attempt > 200) throw new Error(`${volumeHandle} never had ${count} paths: ${JSON.stringify(paths)}`);
    await delay(50);
  }
}

/** The share of all bytes that each link carried in that time. */
async function sharesDuring(links: readonly string[], node: LabNode, work: () => Promise<unknown>): Promise<number[]> {
  const count = async (link: string): Promise<number> => {
    const { receivedBytes, sentBytes } = await node.counters(link);
    return receivedBytes + sentBytes;
  };
  const before = await Promise.all(links.map(count));
  await work();
  const after = await Promise.all(links.map(count));
  const moved = after.map((bytes, index) => bytes - (before[index] ?? 0));
  const total = moved.reduce((sum, bytes) => sum + bytes, 0);
  return moved.map((bytes) => bytes / total);
}

interface Comparison {
  readonly what: string;
  /** Prefix of the volumes' names; the one with two paths stays attached. */
  readonly name: string;
  readonly links: readonly [string, string];
  readonly one: Pick<AttachRequest, "portals" | "settings">;
  readonly two: Pick<AttachRequest, "portals" | "settings">;
}

/** Measures over one path and over two, and demands 1.9 times as much. */
async function compare(host: HawserHost, node: LabNode, { what, name, links, one, two }: Comparison): Promise<void> {
  const run = async (
    count: number,
    change: Comparison["one"],
  ): Promise<{ readonly rates: Readonly<Record<Direction, number>>; readonly shares: readonly number[] }> => {
    const volumeHandle = `${name}-${count}`;
    const { devicePath } = await host.dataplaneClient.attach(requestOf(volumeHandle, change));
    await untilUp(host, volumeHandle, count);
    const rates = { read: 0, write: 0 };
    const shares = await sharesDuring(links, node, async () => {
      for (const direction of ["read", "write"] as const) {
        rates[direction] = await fastest(devicePath, direction, count * ENOUGH_BYTES_PER_SECOND);
      }
    });
    return { rates, shares };
  };
  const single = await run(1, one);
  await host.dataplaneClient.detach(`${name}-1`);
  const both = await run(2, two);

  const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB/s`;
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  for (const direction of ["read", "write"] as const) {
    const [ofOne, ofTwo] = [single.rates[direction], both.rates[direction]];
    reportMeasured(
      `${what}, ${direction}s over links of ${LINK_BITS_PER_SECOND / 1_000_000} Mbit/s: one path ${mib(ofOne)}, ` +
        `two paths ${mib(ofTwo)}, ratio ${(ofTwo / ofOne).toFixed(3)}`,
    );
  }
  reportMeasured(
    `${what}: of the bytes of two paths ${both.shares.map(percent).join(" and ")} over ${links.join(", ")}`,
  );

  expect(single.shares[1]).toBeLessThan(0.01);
  for (const share of both.shares) expect(share).toBeGreaterThan(0.45);
  for (const direction of ["read", "write"] as const) {
    // The link was what limited: it was used, and it let no more through than it should.
    expect(single.rates[direction]).toBeGreaterThan(LINK_BYTES_PER_SECOND * 0.85);
    expect(single.rates[direction]).toBeLessThan(LINK_BYTES_PER_SECOND * 1.05);
    expect(both.rates[direction] / single.rates[direction]).toBeGreaterThanOrEqual(1.9);
  }
}

/** Two cables from the node to two ports of the array, each a subnet. */
const CABLES = [
  { link: "san1", source: "10.71.1.2", portal: "10.71.1.1" },
  { link: "san2", source: "10.71.2.2", portal: "10.71.2.1" },
] as const;

/** The example of an array with three interfaces in one subnet, of which one is its portal, and a node with two there. */
const PORTAL = "192.168.51.1";
const MEMBERS = ["192.168.51.2", "192.168.51.4"] as const;
const SOURCES = ["192.168.50.105", "192.168.50.125"] as const;
const LINKS = ["iscsi-3a", "iscsi-3b"] as const;

/** Where the programs listen that the portal's connections are passed to, one after the other. */
const REDIRECTING_PORTS = [13_262, 13_263] as const;

interface World {
  readonly lab: NetLab;
  readonly node: LabNode;
  readonly array: LabNode;
}

/** The node's links are slow in both directions; the array's own are not. */
async function buildNetwork(): Promise<World> {
  const lab = await NetLab.create();
  const [node, array, fabric] = [await lab.addNode("node"), await lab.addNode("array"), await lab.addSwitch("switch")];
  for (const { link, source, portal } of CABLES) {
    const cable = await lab.connect(
      { to: node, device: link, addresses: [`${source}/24`] },
      { to: array, addresses: [`${portal}/24`] },
    );
    await cable.limitRate(LINK_BITS_PER_SECOND);
  }
  for (const [index, device] of LINKS.entries()) {
    const cable = await lab.connect({ to: node, device, addresses: [`${SOURCES[index]}/22`] }, { to: fabric });
    await cable.limitRate(LINK_BITS_PER_SECOND);
  }
  for (const address of [PORTAL, ...MEMBERS]) {
    await lab.connect({ to: array, addresses: [`${address}/22`] }, { to: fabric });
  }
  return { lab, node, array };
}

/** tgtd sends all logins to one address. So there is one for each, and who comes to the portal meets them in turn. */
function startRedirecting(array: LabNode): Promise<Tgtd[]> {
  return Promise.all(
    MEMBERS.map((member, index) =>
      Tgtd.start({
        ...{ controlPort: 13_462 + index, starter: on(array), portals: [`127.0.0.1:${REDIRECTING_PORTS[index]}`] },
        targets: [
          {
            ...{ name: TARGET, diskBytes: [] },
            parameters: { RedirectAddress: member, RedirectPort: PORT, RedirectReason: "Temporary" },
          },
        ],
      }),
    ),
  );
}

async function startTakingTurns(array: LabNode): Promise<void> {
  const backs = REDIRECTING_PORTS.map((port) => `127.0.0.1:${port}`);
  const script = ["--import", "tsx", "test/support/take-turns-main.ts"];
  const child = array.spawn(process.execPath, [...script, `${PORTAL}:${PORT}`, ...backs]);
  await once(child.stdout, "data");
}

describeNeeding(needs, "the bandwidth of two paths", () => {
  let world: World;
  let host: HawserHost;
  const daemons: Tgtd[] = [];

  beforeAll(async () => {
    world = await buildNetwork();
    const { node, array } = world;
    const addresses = [...CABLES.map(({ portal }) => portal), ...MEMBERS];
    daemons.push(
      await Tgtd.start({
        ...{ controlPort: 13_461, starter: on(array), portals: addresses.map((address) => `${address}:${PORT}`) },
        targets: [{ name: TARGET, diskBytes: [DISK_BYTES] }],
      }),
      ...(await startRedirecting(array)),
    );
    await startTakingTurns(array);
    host = await HawserHost.start({ dataplaneStarter: on(node), dataplaneArgs: ["--backend", "fuse"] });
  }, 60_000);

  afterEach(async () => {
    for (const { volumeHandle } of await host.dataplaneClient.list()) await host.dataplaneClient.detach(volumeHandle);
    expect(host.leftovers()).toEqual([]);
  }, 60_000);

  afterAll(async () => {
    await host.remove();
    for (const daemon of daemons) await daemon.stop();
    await world.lab.remove();
  }, 60_000);

  it("to two portals is at least 1.9 times that of one", async () => {
    const portals = CABLES.map(({ portal }) => ({ host: portal, port: PORT }));
    await compare(host, world.node, {
      ...{ what: "two portals", name: "cables", links: ["san1", "san2"] },
      one: { portals: portals.slice(0, 1) },
      two: { portals },
    });
    await showPaths(host, "cables-2");
    const { policy, paths } = await pathsOf(host, "cables-2");
    expect(policy).toBe("round-robin");
    expect(paths.map(({ portal, localAddress, state }) => [portal, localAddress.split(":")[0], state])).toEqual(
      CABLES.map(({ portal, source }) => [`${portal}:${PORT}`, source, "up"]),
    );
  }, 90_000);

  it("from two interfaces to one portal that redirects logins in turn is so, too", async () => {
    const { node } = world;
    const portals = [{ host: PORTAL, port: PORT }];
    await compare(host, node, {
      ...{ what: "one redirecting portal", name: "redirected", links: LINKS },
      one: { portals, settings: { pathInterfaces: LINKS.slice(0, 1) } },
      two: { portals, settings: { pathInterfaces: [...LINKS] } },
    });

    const table = await showPaths(host, "redirected-2");
    const { paths } = await pathsOf(host, "redirected-2");
    expect(paths.map(({ id, state }) => `${id} ${state}`)).toEqual(
      LINKS.map((link, index) => `${link}/${SOURCES[index]}->${PORTAL}:${PORT} up`),
    );
    // Whose login came first is not settled; that they were sent to different interfaces is.
    const members = MEMBERS.map((member) => `${member}:${PORT}`);
    expect(paths.map(({ portal }) => portal).sort()).toEqual(members);
    expect(paths.map(({ localAddress }) => localAddress.split(":")[0])).toEqual([...SOURCES]);
    for (const address of [...MEMBERS, ...SOURCES]) expect(table).toContain(address);

    const connections = await connectionsOf(node);
    for (const { local, peer } of connections) reportMeasured(`ESTABLISHED ${local} -> ${peer}`);
    expect(connections.map(({ local }) => local.split(":")[0]).sort()).toEqual([...SOURCES]);
    expect(connections.map(({ peer }) => peer).sort()).toEqual(members);
  }, 90_000);
});
