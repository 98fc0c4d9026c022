import { type ChildProcessWithoutNullStreams, execFile, spawn } from "node:child_process";
import { promisify } from "node:util";

/**
 * A network of its own for one test: nodes and switches, each a network namespace, joined by veth pairs. It needs root, ip
 * and tc; the names of this machine's network are untouched, and everything is gone after `remove`.
 *
 *   const lab = await NetLab.create();
 *   const [node, storage, lan] = [await lab.addNode("node"), await lab.addNode("storage"), await lab.addSwitch("lan")];
 *   const left = await lab.connect({ to: node, device: "left", addresses: ["10.9.0.11/24", "fd00:9::11/64"] }, { to: lan });
 *   await lab.connect({ to: node, device: "right", addresses: ["10.9.0.12/24"] }, { to: lan });
 *   await lab.connect({ to: storage, device: "san", addresses: ["10.9.0.1/24"] }, { to: lan });
 *   const child = node.spawn(process.execPath, ["--import", "tsx", "test/support/some-child.ts"]);
 *   await left.limitRate(100_000_000);        // both directions, in bits a second
 *   await left.setDown("far");                // the cable is out: `left` has no carrier, its routes stay
 *   await left.setUp();
 *   await storage.setBlackHole("10.9.0.11", true);  // nothing finds its way back, and nobody is told
 *   await lab.remove();                       // in afterAll: it does all it can, and then tells what failed
 *
 * Two interfaces of a node may be in one subnet: each answers ARP for its own address only and names it as the source of
 * what it asks (arp_ignore=1, arp_announce=2), and answers may come in by either (rp_filter=0). The routes prefer the one
 * that was connected first, whatever the source address; what is to leave by the other must be bound to it, or be given a
 * rule by `routeBySource`.
 *
 * There is no delay and no loss but what `limitRate` and links that are down make: not every kernel has netem.
 */
export class NetLab {
  readonly #prefix: string;
  readonly #spaces: LabSpace[] = [];
  #links = 0;

  private constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** Names of namespaces begin with this process's number and a count: laboratories do not meet. */
  static create(): Promise<NetLab> {
    labs += 1;
    return Promise.resolve(new NetLab(`hawser-lab-${process.pid}-${labs}`));
  }

  /** A machine: a namespace with loopback up, and nothing else yet. */
  async addNode(name: string): Promise<LabNode> {
    const node = new LabNode(name, `${this.#prefix}-${name}`);
    await this.#add(node);
    await node.setSysctls({
      "net.ipv4.conf.all.arp_ignore": 1,
      "net.ipv4.conf.all.arp_announce": 2,
      "net.ipv4.conf.all.rp_filter": 0,
      "net.ipv4.conf.default.rp_filter": 0,
    });
    return node;
  }

  /** An Ethernet switch: a namespace with a bridge, to which any number of links lead. */
  async addSwitch(name: string): Promise<LabSwitch> {
    const bridge = new LabSwitch(name, `${this.#prefix}-${name}`);
    await this.#add(bridge);
    await bridge.ip("link", "add", BRIDGE, "type", "bridge");
    await bridge.ip("link", "set", BRIDGE, "up");
    return bridge;
  }

  /** A cable, up at both ends. `near` and `far` are what the link's methods call the two. */
  async connect(near: LabPlug, far: LabPlug): Promise<LabLink> {
    this.#links += 1;
    const ends = { near: endOf(near, `n${this.#links}`), far: endOf(far, `f${this.#links}`) };
    const peer = ["peer", "name", ends.far.device, "netns", ends.far.space.namespace];
    await ends.near.space.ip("link", "add", ends.near.device, "type", "veth", ...peer);
    for (const { space, device } of [ends.near, ends.far]) {
      if (space instanceof LabSwitch) await space.ip("link", "set", device, "master", BRIDGE);
    }
    const link = new LabLink(ends);
    await link.setUp();
    return link;
  }

  /** Ends what runs in the namespaces, and takes them and their links away. Fails with everything that would not go. */
  async remove(): Promise<void> {
    const failures: unknown[] = [];
    for (const space of this.#spaces.splice(0)) {
      await space.killAll().catch((error: unknown) => failures.push(error));
      await run("ip", ["netns", "delete", space.namespace]).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw new AggregateError(failures, "parts of the laboratory are left behind");
  }

  async #add(space: LabSpace): Promise<void> {
    await run("ip", ["netns", "add", space.namespace]);
    this.#spaces.push(space);
    await space.ip("link", "set", "lo", "up");
  }
}

let labs = 0;

const BRIDGE = "bridge";

const run = promisify(execFile);

/** Which end of a link. */
export type LinkEnd = "near" | "far";

/** What one end of a cable is plugged into. */
export interface LabPlug {
  readonly to: LabSpace;
  /** The interface's name at this end, at most 15 characters; default: a name of the laboratory's. */
  readonly device?: string;
  /** With prefix length, IPv4 or IPv6: `10.9.0.11/24`, `fd00:9::11/64`. They come back when the link does. */
  readonly addresses?: readonly string[];
}

interface PluggedEnd {
  readonly space: LabSpace;
  readonly device: string;
  readonly addresses: readonly string[];
}

function endOf({ to, device, addresses = [] }: LabPlug, otherwise: string): PluggedEnd {
  return { space: to, device: device ?? otherwise, addresses };
}

/** Bytes and packets of an interface since it was made. */
export interface LabCounters {
  readonly sentBytes: number;
  readonly sentPackets: number;
  readonly receivedBytes: number;
  readonly receivedPackets: number;
}

/** A network namespace. Programs in it see the files and processes of this machine, and no network but its own. */
export class LabSpace {
  readonly name: string;
  /** As `ip netns` knows it. */
  readonly namespace: string;
  readonly #children = new Set<ChildProcessWithoutNullStreams>();

  constructor(name: string, namespace: string) {
    this.name = name;
    this.namespace = namespace;
  }

  /** `ip` in this namespace; gives its standard output. Rejects when it fails, with what it said. */
  async ip(...args: readonly string[]): Promise<string> {
    return (await run("ip", ["-n", this.namespace, ...args], { timeout: COMMAND_LIMIT_MS })).stdout;
  }

  /** Runs a program in this namespace to its end; gives its standard output. Rejects when it fails. */
  async exec(program: string, args: readonly string[] = []): Promise<string> {
    const command = ["netns", "exec", this.namespace, program, ...args];
    return (await run("ip", command, { timeout: COMMAND_LIMIT_MS })).stdout;
  }

  /** Starts a program in this namespace, with pipes. It is killed by `remove` if it still runs then. */
  spawn(program: string, args: readonly string[] = []): ChildProcessWithoutNullStreams {
    // `ip netns exec` becomes the program: a signal to the child is one to the program.
    const child = spawn("ip", ["netns", "exec", this.namespace, program, ...args], { stdio: "pipe" });
    this.#children.add(child);
    child.once("close", () => this.#children.delete(child));
    return child;
  }

  /** Kernel settings of this namespace: `{ "net.ipv4.tcp_syn_retries": 2 }`. */
  async setSysctls(settings: Readonly<Record<string, number>>): Promise<void> {
    const pairs = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    await this.exec("sysctl", ["-q", "-w", ...pairs]);
  }

  async counters(device: string): Promise<LabCounters> {
    const line = (await this.exec("cat", ["/proc/net/dev"]))
      .split("\n")
      .find((row) => row.trim().startsWith(`${device}:`));
    if (line === undefined) throw new Error(`${this.name} has no interface ${device}`);
    const [receivedBytes = 0, receivedPackets = 0, , , , , , , sentBytes = 0, sentPackets = 0] = line
      .slice(line.indexOf(":") + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    return { sentBytes, sentPackets, receivedBytes, receivedPackets };
  }

  /** Ends every program that `spawn` started and waits for that. */
  async killAll(): Promise<void> {
    await Promise.all(
      [...this.#children].map(async (child) => {
        const closed = new Promise((resolve) => child.once("close", resolve));
        child.kill("SIGKILL");
        await closed;
      }),
    );
  }
}

const COMMAND_LIMIT_MS = 30_000;

/** A switch: frames only, no addresses. */
export class LabSwitch extends LabSpace {}

/** A machine, with routes. */
export class LabNode extends LabSpace {
  /**
   * Swallows everything that leaves this node for an address or subnet, or ends that. Connections stay, and wait; programs
   * that dial it anew run into EINVAL here, and what the other side sends still arrives: so set it at the node that answers.
   */
  async setBlackHole(destination: string, isBlackHole: boolean): Promise<void> {
    await this.ip(...familyFlag(destination), "route", isBlackHole ? "add" : "delete", "blackhole", destination);
  }

  /** Sends what has this source address out of this device, as nodes with two interfaces in one subnet often do. */
  async routeBySource(address: string, subnet: string, device: string): Promise<void> {
    this.#tables += 1;
    const [flag, table] = [familyFlag(address), String(this.#tables)];
    await this.ip(...flag, "route", "add", subnet, "dev", device, "src", address, "table", table);
    await this.ip(...flag, "rule", "add", "from", address, "table", table);
  }

  /** The interface by which packets for an address leave, if nothing binds them. */
  async deviceTowards(address: string): Promise<string> {
    const route = await this.ip(...familyFlag(address), "route", "get", address);
    return /\bdev (\S+)/.exec(route)?.[1] ?? "";
  }

  #tables = 100;
}

function familyFlag(address: string): readonly string[] {
  return address.includes(":") ? ["-6"] : ["-4"];
}

/** A cable between two plugs. */
export class LabLink {
  readonly #ends: Readonly<Record<LinkEnd, PluggedEnd>>;

  constructor(ends: Readonly<Record<LinkEnd, PluggedEnd>>) {
    this.#ends = ends;
  }

  /** The interface at an end. */
  device(end: LinkEnd): string {
    return this.#ends[end].device;
  }

  /** Both ends are up, with their addresses and the routes to their subnets, and know that of each other. */
  async setUp(): Promise<void> {
    const ends = [this.#ends.near, this.#ends.far];
    for (const { space, device } of ends) await space.ip("link", "set", device, "up");
    for (const { space, device, addresses } of ends) {
      // The kernel takes IPv6 addresses away with the link. Without duplicate detection they can be used at once.
      for (const address of addresses) {
        await space.ip("address", "replace", address, "dev", device, ...(address.includes(":") ? ["nodad"] : []));
      }
    }
  }

  /**
   * Takes one end down. The other one loses its carrier and keeps addresses and routes, as when a cable is pulled or a port
   * of a switch is shut; the end itself loses its routes, as when an operator takes an interface down.
   */
  async setDown(end: LinkEnd): Promise<void> {
    const { space, device } = this.#ends[end];
    await space.ip("link", "set", device, "down");
  }

  /**
   * What leaves an end, or both, is shaped to so many bits a second (token bucket; queued for at most 50 ms, then dropped);
   * undefined ends that.
   */
  async limitRate(bitsPerSecond: number | undefined, ends: readonly LinkEnd[] = ["near", "far"]): Promise<void> {
    for (const end of ends) {
      const { space, device } = this.#ends[end];
      if (bitsPerSecond === undefined) {
        await space.exec("tc", ["qdisc", "delete", "dev", device, "root"]);
        continue;
      }
      // veth hands on segments of up to 64 KiB; a bucket that holds none would drop them all.
      const burstBytes = Math.max(131_072, Math.ceil(bitsPerSecond / 8 / 100));
      const shape = ["rate", `${bitsPerSecond}bit`, "burst", String(burstBytes), "latency", "50ms"];
      await space.exec("tc", ["qdisc", "replace", "dev", device, "root", "tbf", ...shape]);
    }
  }
}
