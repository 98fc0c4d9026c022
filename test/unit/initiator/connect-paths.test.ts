import { type Logger, silentLogger } from "../../../src/base/logger.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import {
  connectVolume,
  type ConnectedVolume,
  type ConnectVolumeRequest,
} from "../../../src/initiator/connect-volume.js";
import { pathIsid } from "../../../src/initiator/path-plan.js";
import { type InitiatorSettingTexts, parseInitiatorSettings } from "../../../src/initiator/settings.js";
import type { PathEvent } from "../../../src/multipath/status.js";
import type { TargetServerControl } from "../../../src/target/api.js";
import { createTargetServer } from "../../../src/target/target-server.js";
import { MemoryNetwork } from "../../../src/transport/memory.js";
import { settle } from "../../support/session-fixture.js";
import { VirtualTime } from "../../support/virtual-time.js";

const TARGET = "iqn.2026-11.test:paths";
const INITIATOR = "iqn.2026-11.test:host";
const ISID = Buffer.from("800102030405", "hex");
const ID = "naa.3111222233334444";
const FAST = { nopOutIntervalSeconds: "1", nopOutTimeoutSeconds: "1" };

/** A target with two portals on a memory network; each may be served by a server of its own. */
class World {
  readonly clock = new VirtualTime();
  readonly random = new SeededRandom(5);
  readonly network = new MemoryNetwork({}, { clock: this.clock, random: this.random });
  readonly device = new MemoryDevice({ sizeBytes: 1 << 20, id: ID });
  readonly events: PathEvent[] = [];
  /** What the initiator has logged. */
  readonly messages: string[] = [];
  readonly #logger: Logger = {
    ...silentLogger,
    info: (message) => this.messages.push(message),
    child: () => this.#logger,
  };

  async serve(
    portals: readonly { readonly host: string; readonly tag?: number }[],
    device = this.device,
  ): Promise<TargetServerControl> {
    const server = createTargetServer(
      { portals: portals.map(({ host, tag }) => ({ host, port: 3260, portalGroupTag: tag ?? 1 })) },
      { listener: this.network, clock: this.clock, random: this.random, logger: silentLogger },
    );
    server.addTarget({ name: TARGET, luns: new Map([[0, device]]), access: { kind: "any" } });
    await settle(this.clock, server.start());
    return server;
  }

  connect(texts: InitiatorSettingTexts = {}, changes: Partial<ConnectVolumeRequest> = {}): Promise<ConnectedVolume> {
    return settle(this.clock, this.connecting(texts, changes)).then((volume) => {
      volume.paths?.onPathEvent((event) => this.events.push(event));
      return volume;
    });
  }

  connecting(texts: InitiatorSettingTexts = {}, changes: Partial<ConnectVolumeRequest> = {}): Promise<ConnectedVolume> {
    const { clock, random, network } = this;
    return connectVolume(
      {
        portals: ["p1", "p2"].map((host) => ({ host, port: 3260 })),
        ...{ targetName: TARGET, lun: 0, expectedId: "", initiatorName: INITIATOR, isid: ISID },
        ...{ headerDigest: "none", dataDigest: "none" },
        settings: parseInitiatorSettings({ multipath: "mpio", ...FAST, ...texts }),
        ...changes,
      },
      { clock, random, dialer: network, logger: this.#logger },
    );
  }

  /** The first byte on the medium. */
  async stored(device = this.device): Promise<string> {
    const block = Buffer.alloc(512);
    await device.read(0, block);
    return block.toString("latin1", 0, 1);
  }

  blackHole(host: string, isBlackHole = true): void {
    this.network.setBlackHole({ kind: "tcp", host, port: 3260 }, isBlackHole);
    if (!isBlackHole) return;
    for (const link of this.network.links) if (link.dialerEnd.remoteAddress === `${host}:3260`) link.stall();
  }
}

function states(volume: ConnectedVolume): readonly string[] {
  return (volume.paths?.status().paths ?? []).map(({ id, state }) => `${id} ${state}`);
}

const write = (volume: ConnectedVolume, fill: string): Promise<void> =>
  volume.device.write(0, Buffer.alloc(4_096, fill));

describe("a volume over two portals", () => {
  test("is there as soon as one path is; a silent portal keeps nobody waiting, and joins when it answers", async () => {
    const world = new World();
    await world.serve([{ host: "p1" }, { host: "p2" }]);
    world.blackHole("p1");
    const startMs = world.clock.nowMs();
    const volume = await world.connect();
    expect(world.clock.nowMs() - startMs).toBeLessThan(500);
    expect(states(volume)).toEqual(["p1:3260 connecting", "p2:3260 up"]);
    world.blackHole("p1", false);
    await world.clock.advance(30_000);
    expect(states(volume)).toEqual(["p1:3260 up", "p2:3260 up"]);
    expect(volume.sessions().map(({ pathId, isid }) => [pathId, isid])).toEqual(
      ["p1:3260", "p2:3260"].map((id) => [id, pathIsid(ISID, id).toString("hex")]),
    );
    await settle(world.clock, volume.close());
  });

  test("fails with the most telling error when no path comes up", async () => {
    const world = new World();
    const server = await world.serve([{ host: "p2" }]);
    await settle(world.clock, server.removeTarget(TARGET));
    await expect(settle(world.clock, world.connecting())).rejects.toMatchObject({ code: "LOGIN_TARGET_NOT_FOUND" });
    expect(world.network.links).toEqual([]);
  });

  test("says which interfaces it looked for in vain", async () => {
    const world = new World();
    await expect(settle(world.clock, world.connecting({ pathInterfaces: "eth9" }))).rejects.toMatchObject({
      code: "PATH_NONE_POSSIBLE",
      message: expect.stringContaining("eth9"),
    });
  });

  test("a write in a network that went silent is fenced by reinstatement, then written over the other path", async () => {
    const world = new World();
    const server = await world.serve([{ host: "p1" }, { host: "p2" }]);
    const volume = await world.connect({ pathPolicy: "fail-over-only" });
    await world.clock.advance(1_000);
    await settle(world.clock, write(volume, "1"));
    world.blackHole("p1");
    const startMs = world.clock.nowMs();
    await settle(world.clock, write(volume, "2"));
    // Silence is noticed after 1 s without a byte and 1 s without an answer, looked at every 250 ms.
    expect(world.clock.nowMs() - startMs).toBeLessThan(3_000);
    expect(states(volume)).toEqual(["p1:3260 down", "p2:3260 up"]);
    const lost = pathIsid(ISID, "p1:3260").toString("hex");
    expect(server.sessions().map(({ isid }) => isid)).not.toContain(lost);
    expect(await world.stored()).toBe("2");
    expect(world.messages).toContain("commands of a lost path are fenced");
    expect(world.messages).not.toContain("the unit is reset: the lost path led to another portal group");
    world.blackHole("p1", false);
    await world.clock.advance(40_000);
    expect(states(volume)).toEqual(["p1:3260 up", "p2:3260 up"]);
    await settle(world.clock, volume.close());
  });

  test("a fence goes over a way that answers, not over the next that is dead and not found so yet", async () => {
    const world = new World();
    const hosts = ["p1", "p2", "p3"];
    await world.serve(hosts.map((host) => ({ host })));
    const portals = hosts.map((host) => ({ host, port: 3260 }));
    const volume = await world.connect({ pathPolicy: "fail-over-only" }, { portals });
    await world.clock.advance(1_000);
    world.blackHole("p1");
    const startMs = world.clock.nowMs();
    const writing = write(volume, "2");
    await world.clock.advance(1_200);
    world.blackHole("p2");
    await settle(world.clock, writing);
    expect(world.clock.nowMs() - startMs).toBeLessThan(3_000);
    expect(world.messages).toContain("commands of a lost path are fenced");
    expect(await world.stored()).toBe("2");
    for (const host of hosts) world.blackHole(host, false);
    await settle(world.clock, volume.close());
  });

  test("at another portal group the unit is reset before the write moves", async () => {
    const world = new World();
    await world.serve([
      { host: "p1", tag: 1 },
      { host: "p2", tag: 2 },
    ]);
    const volume = await world.connect({ pathPolicy: "fail-over-only" });
    await world.clock.advance(1_000);
    world.blackHole("p1");
    await settle(world.clock, write(volume, "2"));
    await settle(world.clock, write(volume, "3"));
    expect(world.messages).toContain("the unit is reset: the lost path led to another portal group");
    expect(await world.stored()).toBe("3");
    await settle(world.clock, volume.close());
  });

  test("another unit behind one portal is refused, told by both names, and never written to", async () => {
    const world = new World();
    await world.serve([{ host: "p1" }]);
    const other = new MemoryDevice({ sizeBytes: 1 << 20, id: "naa.3999999999999999" });
    await world.serve([{ host: "p2" }], other);
    const volume = await world.connect({}, { expectedId: ID });
    await world.clock.advance(5_000);
    await settle(world.clock, write(volume, "x"));
    expect(states(volume)).toEqual(["p1:3260 up", "p2:3260 refused"]);
    const { reason } = volume.paths?.status().paths[1] ?? { reason: "" };
    expect(reason).toContain(ID);
    expect(reason).toContain("naa.3999999999999999");
    expect(await world.stored(other)).toBe("\0");
    await settle(world.clock, volume.close());
  });

  test("after a crash nothing is served before the former sessions are over, also of paths that are no more", async () => {
    const world = new World();
    const server = await world.serve([{ host: "p1" }, { host: "p2" }]);
    const remembered: (readonly string[])[] = [];
    const before = await world.connect({}, { rememberPaths: (ids) => Promise.resolve(void remembered.push(ids)) });
    await world.clock.advance(1_000);
    expect(remembered).toEqual([["p1:3260", "p2:3260"]]);
    // The process is gone, and nobody tells the target.
    for (const link of world.network.links) link.stall();
    const isids = (): readonly string[] => server.sessions().map(({ isid }) => isid);
    expect(isids()).toHaveLength(2);
    world.blackHole("p1");
    const after = await world.connect(
      {},
      {
        portals: [{ host: "p2", port: 3260 }],
        hasFormerSessions: true,
        formerPathIds: ["p1:3260", "p2:3260"],
      },
    );
    expect(isids()).toEqual([pathIsid(ISID, "p2:3260").toString("hex")]);
    await settle(world.clock, write(after, "n"));
    await settle(world.clock, after.close());
    before.device.close().catch(() => undefined);
    await settle(world.clock, before.close());
  });

  test("connections are not for a volume of paths", async () => {
    const world = new World();
    await world.serve([{ host: "p1" }, { host: "p2" }]);
    const volume = await world.connect();
    const refusal = expect.objectContaining({ code: "VOLUME_IS_MULTIPATH" });
    expect(() => volume.setConnectionPolicy("round-robin")).toThrow(refusal);
    await expect(volume.addConnection({ portal: { host: "p1", port: 3260 } })).rejects.toEqual(refusal);
    await expect(volume.removeConnection(0)).rejects.toEqual(refusal);
    await settle(world.clock, volume.close());
  });

  test("standby over both ports: the array is asked to make one active", async () => {
    const world = new World();
    const server = createTargetServer(
      {
        portals: [
          { host: "p1", port: 3260, portalGroupTag: 1 },
          { host: "p2", port: 3260, portalGroupTag: 2 },
        ],
      },
      { listener: world.network, clock: world.clock, random: world.random, logger: silentLogger },
    );
    server.addTarget({
      ...{ name: TARGET, luns: new Map([[0, world.device]]), access: { kind: "any" as const } },
      explicitAccessStates: true,
    });
    await settle(world.clock, server.start());
    for (const tag of [1, 2]) server.setAccessState(TARGET, tag, "standby");
    const volume = await world.connect();
    await settle(world.clock, write(volume, "s"));
    await world.clock.advance(20_000);
    const paths = volume.paths?.status().paths ?? [];
    expect(paths.map(({ state }) => state)).toEqual(["up", "up"]);
    expect(paths.map(({ accessState }) => accessState)).toContain("active-optimized");
    await settle(world.clock, volume.close());
  });
});
