import { TransportError } from "../../../src/transport/transport.js";
import { eventsOf, type SettingsWorld, settingsWorld } from "../../support/settings-world.js";
import { settle } from "../../support/session-fixture.js";

const refused = new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there");

/** Hosts dialled since `from`, one letter each. */
function hosts(world: SettingsWorld, from: number): string {
  return world.diallings
    .slice(from)
    .map(({ host }) => host[0])
    .join("");
}

describe("portal hopping of a volume", () => {
  it("tries the original, then the others that are named, each again once, for ever", async () => {
    const world = await settingsWorld({ hosts: ["target", "second", "xenon"] });
    await world.connect({});
    for (const host of world.targets.keys()) world.failures.set(host, refused);
    const from = world.diallings.length;
    world.targets.get("target")?.connection.close();
    await world.clock.advance(300_000);
    expect(hosts(world, from)).toMatch(/^(ttssxx){3,}/);
  });

  it("comes back to the original after the next outage", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({ portalRetryCount: "0" });
    world.failures.set("target", refused);
    world.targets.get("target")?.connection.close();
    await settle(world.clock, volume.device.read(0, Buffer.alloc(512)));
    expect(volume.sessions()[0]?.portal).toBe("second:3260");
    world.failures.clear();
    world.targets.get("second")?.connection.close();
    await settle(world.clock, volume.device.read(0, Buffer.alloc(512)));
    expect(volume.sessions()).toMatchObject([{ portal: "target:3260", reconnects: 2 }]);
  });

  it("pinned stays with the first portal, also at the first login", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({ portalHopping: "pinned" });
    world.failures.set("target", refused);
    world.targets.get("target")?.connection.close();
    await world.clock.advance(120_000);
    expect(hosts(world, 0)).toMatch(/^t{4,}$/);
    expect(volume.sessions()[0]?.state).toBe("recovering");
    await expect(world.connect({ portalHopping: "pinned" })).rejects.toBe(refused);
    expect(hosts(world, 0)).not.toContain("s");
  });

  it("advertised asks the target for its portals and uses them after those that are named", async () => {
    const world = await settingsWorld({ hosts: ["target"], advertised: ["target", "adv"] });
    const volume = await world.connect({ portalHopping: "advertised" });
    await world.clock.advance(1_000);
    world.failures.set("target", refused);
    for (const connection of world.targets.get("target")?.connections ?? []) connection.close();
    await settle(world.clock, volume.device.read(0, Buffer.alloc(512)));
    expect(volume.sessions()).toMatchObject([{ portal: "adv:3260", state: "ready" }]);
    await settle(world.clock, volume.close());
    expect(world.clock.pendingTimers).toBe(0);
  });

  it("a target that may not be asked is used as it is named", async () => {
    const world = await settingsWorld({ hosts: ["target"], advertised: ["target", "adv"] });
    const volume = await world.connect({});
    await world.clock.advance(1_000);
    expect(world.diallings).toHaveLength(1);
    const asked = await settingsWorld({ hosts: ["target"] });
    const target = asked.targets.get("target");
    if (target === undefined) throw new Error("no target");
    const { onPdu } = target;
    target.onPdu = (connection, pdu) => {
      if (pdu.type === "text-request") connection.close();
      else onPdu(connection, pdu);
    };
    const going = await asked.connect({ portalHopping: "advertised" });
    await asked.clock.advance(1_000);
    await settle(asked.clock, going.device.read(0, Buffer.alloc(512)));
    expect(going.sessions()).toMatchObject([{ state: "ready", reconnects: 0 }]);
    await settle(world.clock, volume.close());
  });

  it("closing while the target is being asked leaves nothing behind", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    const target = world.targets.get("target");
    if (target === undefined) throw new Error("no target");
    const { onPdu } = target;
    target.onPdu = (connection, pdu) => {
      if (pdu.type !== "text-request") onPdu(connection, pdu);
    };
    const volume = await world.connect({ portalHopping: "advertised" });
    await settle(world.clock, volume.close());
    expect(world.clock.pendingTimers).toBe(0);
    expect(target.connections.every(({ isClosed }) => isClosed)).toBe(true);
  });

  it("gives a portal that fell silent one short chance: the other one serves some 10 s sooner than before", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({});
    const events = eventsOf(volume);
    world.blackHole("target");
    const begin = world.clock.nowMs();
    const read = volume.device.read(0, Buffer.alloc(512));
    await settle(world.clock, read);
    expect(volume.sessions()[0]?.portal).toBe("second:3260");
    // 5 s of silence, 5 s for the ping, 3 s for the silent portal, and at most 2 s of sweeps and pauses.
    expect(world.clock.nowMs() - begin).toBeLessThan(15_500);
    expect(world.diallings.slice(-2)).toMatchObject([
      { host: "target", timeoutMs: 3_000 },
      { host: "second", timeoutMs: 3_000 },
    ]);
    expect(events.map(({ kind }) => kind)).toContain("reconnected");
  });

  it("gives it its whole time where there is no other", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    await world.connect({});
    world.blackHole("target");
    await world.clock.advance(60_000);
    expect(new Set(world.diallings.map(({ timeoutMs }) => timeoutMs))).toEqual(new Set([10_000]));
  });
});
