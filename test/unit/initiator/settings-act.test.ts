import { TransportError } from "../../../src/transport/transport.js";
import { eventsOf, settingsWorld } from "../../support/settings-world.js";
import { settle } from "../../support/session-fixture.js";

const MIB = 1_048_576;
const logoutWanted = {
  type: "async-message",
  lun: { high: 0, low: 0 },
  asyncEvent: 1,
  asyncVCode: 0,
  parameter1: 0,
  parameter2: 0,
  parameter3: 2,
  data: Buffer.alloc(0),
} as const;

/** Every setting is tried in a volume: something happens otherwise than without it. */
describe("what settings offer to the target", () => {
  it("nothing but the defaults when there are none, and no young keys", async () => {
    const world = await settingsWorld();
    await world.connect({});
    const offered = world.offered();
    expect(offered.get("MaxConnections")).toBe("1");
    expect(offered.get("ErrorRecoveryLevel")).toBe("0");
    expect(offered.has("TaskReporting")).toBe(false);
    expect(offered.has("iSCSIProtocolLevel")).toBe(false);
  });

  it("bursts, segments, unsolicited data, level", async () => {
    const world = await settingsWorld();
    await world.connect({
      ...{ maxBurstLengthBytes: "131072", firstBurstLengthBytes: "32768", maxRecvDataSegmentLengthBytes: "16384" },
      ...{ initialR2T: "true", immediateData: "false", errorRecoveryLevel: "2" },
    });
    expect(Object.fromEntries(world.offered())).toMatchObject({
      ...{ MaxBurstLength: "131072", FirstBurstLength: "32768", MaxRecvDataSegmentLength: "16384" },
      ...{ InitialR2T: "Yes", ImmediateData: "No", ErrorRecoveryLevel: "2" },
    });
  });

  it("keys of our own, whose answers are in the status", async () => {
    const world = await settingsWorld();
    for (const target of world.targets.values()) target.keys = { "X-dev.hawser.a": "NotUnderstood" };
    const extensionKeys = [
      ["X-dev.hawser.a", "1"],
      ["X-dev.hawser.b", "2"],
    ] as const;
    const volume = await world.connect({}, { extensionKeys });
    expect(volume.sessions()[0]?.extensionAnswers).toEqual({
      "X-dev.hawser.a": "NotUnderstood",
      "X-dev.hawser.b": "2",
    });
    await expect(world.connect({}, { extensionKeys: [["Y-a", "1"]] })).rejects.toMatchObject({
      code: "NEGOTIATION_KEY_NOT_ALLOWED",
    });
  });

  it("room for connections, and with it the response fence and RFC 7144", async () => {
    const world = await settingsWorld();
    await world.connect({ maxConnections: "4" });
    expect(Object.fromEntries(world.offered())).toMatchObject({
      ...{ MaxConnections: "4", TaskReporting: "ResponseFence,RFC3720", iSCSIProtocolLevel: "2" },
    });
  });
});

describe("what settings do to commands", () => {
  it("maxTransferLengthBytes cuts them", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({ maxTransferLengthBytes: "4096" });
    await settle(world.clock, volume.device.write(0, Buffer.alloc(16_384, 7)));
    expect(world.disk.count(0x2a)).toBe(4);
  });

  it("maxPendingRequests bounds how many are at the target", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({ maxPendingRequests: "2" });
    const target = world.targets.get("target");
    if (target === undefined) throw new Error("no target");
    target.onPdu = () => undefined;
    for (let index = 0; index < 8; index += 1)
      volume.device.read(index * 512, Buffer.alloc(512)).catch(() => undefined);
    await world.clock.advance(100);
    expect(volume.sessions()[0]?.commandsInFlight).toBe(2);
  });

  it.each([
    [{}, 30_000],
    [{ srbTimeoutDeltaSeconds: "15" }, 45_000],
  ])("srbTimeoutDeltaSeconds gives them more time: %j", async (settings, timeMs) => {
    const world = await settingsWorld({ hosts: ["target"] });
    const volume = await world.connect(settings);
    const target = world.targets.get("target");
    if (target === undefined) throw new Error("no target");
    target.onPdu = (connection, pdu) => {
      // The target is alive, it only never answers the command.
      if (pdu.type === "nop-out" && pdu.initiatorTaskTag !== 0xffff_ffff) {
        connection.send({ ...pdu, type: "nop-in", targetTransferTag: 0xffff_ffff });
      }
    };
    volume.device.read(0, Buffer.alloc(512)).catch(() => undefined);
    const aborts = (): number => target.connection.ofType("task-management-request").length;
    await world.clock.advance(timeMs - 1_500);
    expect(aborts()).toBe(0);
    await world.clock.advance(3_000);
    expect(aborts()).toBe(1);
  });

  it.each([
    [{}, 1],
    [{ enableNopOut: "false" }, 0],
  ])("enableNopOut pings a silent target: %j", async (settings, pings) => {
    const world = await settingsWorld();
    await world.connect(settings);
    await world.clock.advance(7_000);
    expect(world.targets.get("target")?.connection.ofType("nop-out").length).toBe(pings);
  });
});

describe("what settings do to a target that falls silent", () => {
  it.each([
    [{}, 10_000],
    [{ nopOutIntervalSeconds: "1", nopOutTimeoutSeconds: "1" }, 2_000],
    [{ nopOutIntervalSeconds: "2", nopOutTimeoutSeconds: "8" }, 10_000],
  ])("nopOutIntervalSeconds and nopOutTimeoutSeconds find it out: %j", async (settings, foundMs) => {
    const world = await settingsWorld({ hosts: ["target"] });
    const volume = await world.connect(settings);
    const events = eventsOf(volume);
    const target = world.targets.get("target");
    if (target === undefined) throw new Error("no target");
    target.onPdu = () => undefined;
    const isLost = (): boolean => events.some(({ kind }) => kind === "disconnected");
    await world.clock.advance(foundMs - 100);
    expect(isLost()).toBe(false);
    // Looked at once a second, or four times with short times, for the silence and for the answer.
    await world.clock.advance(foundMs < 10_000 ? 600 : 2_200);
    expect(isLost()).toBe(true);
  });
});

describe("what settings do to an outage", () => {
  it("tcpConnectTimeSeconds is the time to connect", async () => {
    const world = await settingsWorld();
    await world.connect({ tcpConnectTimeSeconds: "4" });
    expect(world.diallings).toMatchObject([{ host: "target", timeoutMs: 4_000 }]);
  });

  it("delayBetweenReconnectSeconds is the pause, each time", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    await world.connect({ delayBetweenReconnectSeconds: "10" });
    world.failures.set("target", new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there"));
    world.targets.get("target")?.connection.close();
    await world.clock.advance(60_000);
    const pauses = world.diallings.slice(2).map(({ atMs }, index) => atMs - (world.diallings[index + 1]?.atMs ?? 0));
    expect(pauses.length).toBeGreaterThan(4);
    // Half of it is random, so that many sessions do not come back in step.
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(5_000);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(10_000);
  });

  it("maxConnectionRetries ends the volume", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    const volume = await world.connect({ maxConnectionRetries: "3" });
    const events = eventsOf(volume);
    world.failures.set("target", new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there"));
    world.targets.get("target")?.connection.close();
    const read = volume.device.read(0, Buffer.alloc(512));
    const refused = expect(settle(world.clock, read)).rejects.toThrow();
    await refused;
    expect(world.diallings).toHaveLength(4);
    expect(volume.sessions()[0]?.state).toBe("closed");
    expect(events.some(({ kind }) => kind === "closed")).toBe(true);
    await world.clock.advance(60_000);
    expect(world.diallings).toHaveLength(4);
  });

  it.each([[{ maxRequestHoldTimeSeconds: "20" }, 20_000]])(
    "requests wait as long as is said: %j",
    async (settings, timeMs) => {
      const world = await settingsWorld({ hosts: ["target"] });
      const volume = await world.connect(settings);
      world.failures.set("target", new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there"));
      world.targets.get("target")?.connection.close();
      let outcome = "waiting";
      volume.device.read(0, Buffer.alloc(512)).then(
        () => (outcome = "done"),
        () => (outcome = "failed"),
      );
      await world.clock.advance(timeMs - 500);
      expect(outcome).toBe("waiting");
      await world.clock.advance(1_000);
      expect(outcome).toBe("failed");
      world.failures.clear();
      await world.clock.advance(30_000);
      await settle(world.clock, volume.device.read(0, Buffer.alloc(512)));
    },
  );

  it("requests wait for ever where nothing is said", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    const volume = await world.connect({});
    world.failures.set("target", new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there"));
    world.targets.get("target")?.connection.close();
    const read = volume.device.read(0, Buffer.alloc(512));
    await world.clock.advance(600_000);
    world.failures.clear();
    await settle(world.clock, read);
  });

  it("asyncLogoutPauseTimeoutSeconds is the least pause after a logout that the target wanted", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    const volume = await world.connect({ asyncLogoutPauseTimeoutSeconds: "10" });
    const before = world.clock.nowMs();
    world.targets.get("target")?.connection.send(logoutWanted);
    await world.clock.advance(30_000);
    expect(volume.sessions()).toMatchObject([{ state: "ready", reconnects: 1 }]);
    const pauseMs = (world.diallings[1]?.atMs ?? 0) - before;
    expect(pauseMs).toBeGreaterThanOrEqual(10_000);
    expect(pauseMs).toBeLessThan(12_000);
  });
});

describe("networkReadyRetryCount", () => {
  const unreachable = new TransportError("transport", "TRANSPORT_UNREACHABLE", "there is no route to it");

  it("repeats the first login while this node has no way out, a second apart", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    world.failures.set("target", unreachable);
    world.clock.setTimer(2_500, () => world.failures.clear());
    const volume = await world.connect({ networkReadyRetryCount: "5" });
    expect(world.diallings.map(({ atMs }) => atMs)).toEqual([0, 1_000, 2_000, 3_000]);
    expect(volume.sessions()[0]?.state).toBe("ready");
  });

  it("gives up after that many, and at once for what is no matter of the network", async () => {
    const world = await settingsWorld({ hosts: ["target"] });
    world.failures.set("target", unreachable);
    await expect(world.connect({ networkReadyRetryCount: "2" })).rejects.toBe(unreachable);
    expect(world.diallings).toHaveLength(3);
    await expect(world.connect({})).rejects.toBe(unreachable);
    expect(world.diallings).toHaveLength(4);
    world.failures.set("target", new TransportError("transport", "TRANSPORT_REFUSED", "nothing listens there"));
    await expect(world.connect({ networkReadyRetryCount: "2" })).rejects.toMatchObject({ code: "TRANSPORT_REFUSED" });
    expect(world.diallings).toHaveLength(5);
  });
});

describe("the connections of a volume", () => {
  it("are as many as are set, over the portals in turn, and their policy can be changed", async () => {
    const world = await settingsWorld();
    for (const target of world.targets.values()) target.keys = { MaxConnections: "4" };
    const volume = await world.connect({ connections: "1", maxConnections: "4" });
    expect(volume.sessions()).toMatchObject([{ connectionPolicy: "round-robin", maxConnections: 4 }]);
    volume.setConnectionPolicy("fail-over-only");
    expect(volume.sessions()[0]?.connectionPolicy).toBe("fail-over-only");
    const status = volume.sessions()[0];
    expect(status?.connections).toMatchObject([{ cid: 0, portal: "target:3260", weight: 0, isStandby: false }]);
    expect(status?.recovery).toMatchObject({ dataSnacks: 0, sessionRecoveries: 0 });
    await expect(volume.removeConnection(0)).rejects.toMatchObject({ code: "SESSION_CONNECTION_LAST" });
    await expect(volume.removeConnection(9)).rejects.toMatchObject({ code: "SESSION_CONNECTION_UNKNOWN" });
  });

  it("cannot be more than the target admits", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({});
    const adding = volume.addConnection({ portal: { host: "second", port: 3260 } });
    await expect(settle(world.clock, adding)).rejects.toMatchObject({ code: "SESSION_CONNECTION_LIMIT" });
  });

  it("may have data of more than the default segment length where that was offered", async () => {
    const world = await settingsWorld();
    const volume = await world.connect({ maxRecvDataSegmentLengthBytes: String(MIB) });
    await settle(world.clock, volume.device.read(0, Buffer.alloc(4096)));
    expect(world.offered().get("MaxRecvDataSegmentLength")).toBe(String(MIB));
  });
});
