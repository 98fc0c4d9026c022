import { planSession, type SessionPlanRequest } from "../../../src/initiator/session-plan.js";
import { parseInitiatorSettings } from "../../../src/initiator/settings.js";

const a = { host: "a", port: 3260 };
const b = { host: "b", port: 3260 };
const c = { host: "c", port: 3260 };

function plan(texts: Record<string, string>, changes: Partial<SessionPlanRequest> = {}) {
  return planSession({ portals: [a, b, c], settings: parseInitiatorSettings(texts), ...changes });
}

describe("the plan of a session", () => {
  it("is one connection with the defaults of the session where nothing is set", () => {
    expect(plan({})).toEqual({
      alternatePortals: [b, c],
      isPortalPinned: false,
      additionalConnections: [],
      leading: { portal: a },
      maxConnections: 1,
      timers: {},
      offers: {},
    });
  });

  it("spreads connections over the portals in turn", () => {
    const { leading, additionalConnections, maxConnections, policy } = plan({
      connections: "5",
      connectionPolicy: "weighted-path",
    });
    expect([leading, ...(additionalConnections ?? [])]).toEqual([a, b, c, a, b].map((portal) => ({ portal })));
    expect({ maxConnections, policy }).toEqual({ maxConnections: 5, policy: "weighted-path" });
    expect(plan({ connections: "2" }, { portals: [a] }).additionalConnections).toEqual([{ portal: a }]);
  });

  it("gives weights in order and puts the last connections on standby", () => {
    const { leading, additionalConnections } = plan({
      connections: "3",
      connectionWeights: "5,1,9",
      standbyConnections: "1",
    });
    expect(leading).toEqual({ portal: a, weight: 5 });
    expect(additionalConnections).toEqual([
      { portal: b, weight: 1 },
      { portal: c, weight: 9, isStandby: true },
    ]);
  });

  it("has a connection for each portal with MC/S, unless a number is set", () => {
    const connectionsOf = (texts: Record<string, string>, portals: SessionPlanRequest["portals"] = [a, b, c]): number =>
      1 + (plan({ multipath: "mcs", ...texts }, { portals }).additionalConnections ?? []).length;
    expect(connectionsOf({})).toBe(3);
    expect(connectionsOf({}, [a])).toBe(1);
    expect(connectionsOf({ maxConnections: "2" })).toBe(2);
    expect(connectionsOf({ maxConnections: "5" })).toBe(3);
    expect(connectionsOf({ connections: "5" })).toBe(5);
    const many = Array.from({ length: 70 }, (_, index) => ({ host: `h${index}`, port: 3260 }));
    expect(connectionsOf({}, [a, ...many])).toBe(64);
    expect(plan({ multipath: "mcs" })).toMatchObject({
      ...{ maxConnections: 3, leading: { portal: a }, additionalConnections: [{ portal: b }, { portal: c }] },
    });
    expect(plan({ multipath: "off" }).additionalConnections).toEqual([]);
    expect(plan({ multipath: "mpio" }).additionalConnections).toEqual([]);
  });

  it("leaves one of them active, however few portals there are", () => {
    const texts = { multipath: "mcs", connectionPolicy: "round-robin-subset", standbyConnections: "2" };
    const { leading, additionalConnections } = plan(texts, { portals: [a, b] });
    expect([leading, ...(additionalConnections ?? [])]).toEqual([{ portal: a }, { portal: b, isStandby: true }]);
  });

  it("asks for room for connections that are added later", () => {
    expect(plan({ maxConnections: "4" })).toMatchObject({ maxConnections: 4, additionalConnections: [] });
  });

  it("offers the response fence and RFC 7144 only where responses can overtake each other", () => {
    expect(plan({ connections: "2" }).offers).toEqual({
      taskReporting: ["ResponseFence", "RFC3720"],
      iscsiProtocolLevel: 2,
    });
    expect(plan({ errorRecoveryLevel: "2" }).offers).toEqual({});
  });

  it("turns seconds into the session's milliseconds", () => {
    const { timers } = plan({
      tcpConnectTimeSeconds: "15",
      delayBetweenReconnectSeconds: "1",
      maxRequestHoldTimeSeconds: "60",
      asyncLogoutPauseTimeoutSeconds: "10",
      srbTimeoutDeltaSeconds: "15",
      enableNopOut: "false",
    });
    expect(timers).toEqual({
      connectTimeoutMs: 15_000,
      reconnectInitialMs: 1_000,
      reconnectMaximumMs: 1_000,
      reconnectLimitMs: 60_000,
      asyncLogoutPauseMs: 10_000,
      taskTimeoutDeltaMs: 15_000,
      nopIntervalMs: 0,
    });
    expect(plan({ enableNopOut: "true" }).timers).toEqual({});
  });

  it.each([
    [{ nopOutIntervalSeconds: "3" }, { nopIntervalMs: 3_000 }],
    [{ nopOutTimeoutSeconds: "300" }, { nopTimeoutMs: 300_000 }],
    [{ nopOutIntervalSeconds: "2" }, { nopIntervalMs: 2_000, sweepIntervalMs: 250 }],
    [
      { nopOutIntervalSeconds: "10", nopOutTimeoutSeconds: "1" },
      { nopIntervalMs: 10_000, nopTimeoutMs: 1_000, sweepIntervalMs: 250 },
    ],
  ])("pings as is said, and looks often enough: %j", (texts, timers) => {
    expect(plan(texts).timers).toEqual(timers);
  });

  it("holds requests for LinkDownTime where other paths wait to carry them", () => {
    const texts = { multipath: "mpio", linkDownTimeSeconds: "7" };
    expect(plan(texts, { isOneOfSeveralPaths: true }).timers).toEqual({ reconnectLimitMs: 7_000 });
  });

  it("takes what is asked for directly before what is set", () => {
    const { timers, maxTasks } = plan(
      { tcpConnectTimeSeconds: "15", maxPendingRequests: "255" },
      { timers: { connectTimeoutMs: 1 }, maxTasks: 3 },
    );
    expect({ timers, maxTasks }).toEqual({ timers: { connectTimeoutMs: 1 }, maxTasks: 3 });
  });

  it("carries the rest", () => {
    expect(
      plan({
        ...{ portalHopping: "pinned", portalRetryCount: "0", maxConnectionRetries: "9", errorRecoveryLevel: "1" },
        ...{ maxPendingRequests: "255", maxBurstLengthBytes: "262144", firstBurstLengthBytes: "65536" },
        ...{ maxRecvDataSegmentLengthBytes: "65536", initialR2T: "true", immediateData: "false" },
      }),
    ).toMatchObject({
      ...{ isPortalPinned: true, portalRetryCount: 0, maxReconnectAttempts: 9, errorRecoveryLevel: 1, maxTasks: 255 },
      offers: {
        ...{ maxBurstLength: 262_144, firstBurstLength: 65_536, maxRecvDataSegmentLength: 65_536 },
        ...{ initialR2T: true, immediateData: false },
      },
    });
    expect(plan({ maxConnectionRetries: "-1" }).maxReconnectAttempts).toBeUndefined();
  });
});
