import { Secret } from "../../../src/base/secret.js";
import type { TargetRedirect } from "../../../src/target/api.js";
import { INITIATOR_NAME, outcomeOf, ready, TARGET_NAME, TargetWorld, textOf, type TargetPeer } from "./target-peer.js";

const several = { MaxConnections: "4" };

async function pair(world: TargetWorld, keys: Record<string, string> = {}): Promise<[TargetPeer, TargetPeer]> {
  const first = await ready({ ...several, ...keys }, world);
  return [first, await world.join(first)];
}

describe("redirects (RFC 7143 §11.13.5, §13.8)", () => {
  const portal = { host: "2001:db8::5", port: 3261 };

  test.each([
    ["temporary", 0x0101],
    ["permanent", 0x0102],
  ] as const)("a %s one tells the address without a portal group tag, before authentication", async (kind, status) => {
    const chap = { user: "user-one", secret: Secret.from("secret-of-initiator") };
    const world = new TargetWorld({ access: { kind: "any", chap }, redirect: { kind, portal } });
    const peer = await world.connect();
    const response = await peer.login({ keys: { AuthMethod: "CHAP" } });
    expect((response.statusClass << 8) | response.statusDetail).toBe(status);
    expect(textOf(response)).toEqual({ TargetAddress: "[2001:db8::5]:3261" });
    expect(peer.stream.closed).toBe("ended");
  });

  test("one after authentication tells nothing to those who cannot prove themselves", async () => {
    const redirect: TargetRedirect = { kind: "temporary", portal, isAfterAuthentication: true };
    const chap = { user: "user-one", secret: Secret.from("secret-of-initiator") };
    const world = new TargetWorld({ access: { kind: "any", chap }, redirect });
    const stranger = await world.connect();
    expect(await stranger.login()).toMatchObject({ statusClass: 2, statusDetail: 1 });
    const open = new TargetWorld({ redirect });
    const peer = await open.connect();
    expect(await peer.login()).toMatchObject({ statusClass: 1, statusDetail: 1 });
  });

  test("are set and lifted while sessions run, which go on and may take connections in", async () => {
    const world = new TargetWorld();
    const first = await ready(several, world);
    world.server.setRedirect(TARGET_NAME, { kind: "permanent", portal });
    const second = await world.join(first);
    expect(outcomeOf(await second.run("00"))).toBe("good");
    const other = await world.connect();
    expect(await other.login({ isid: "800000000002" })).toMatchObject({ statusClass: 1, statusDetail: 2 });
    world.server.setRedirect(TARGET_NAME, undefined);
    await world.login({ isid: "800000000002" });
    expect(world.server.sessions()).toHaveLength(2);
  });
});

describe("asynchronous messages (RFC 7143 §11.9)", () => {
  test("a logout is asked for, and the connection dropped when none comes in time (events 1 and 2)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(world);
    let isGone = false;
    const request = world.server
      .requestLogout(TARGET_NAME, { cid: 2, timeLimitSeconds: 7 })
      .then(() => (isGone = true));
    await world.clock.advance(6_999);
    expect(second.next("async-message")).toMatchObject({ asyncEvent: 1, parameter3: 7 });
    expect([second.stream.closed, isGone]).toEqual(["open", false]);
    await world.clock.advance(1);
    await request;
    expect(second.next("async-message")).toMatchObject({ asyncEvent: 2, parameter1: 2, parameter2: 2 });
    expect([first.stream.closed, second.stream.closed, isGone]).toEqual(["open", "ended", true]);
    expect(first.received).toEqual([]);
  });

  test("a logout that comes in time is enough", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(world);
    const request = world.server.requestLogout(TARGET_NAME, { cid: 2, timeLimitSeconds: 7 });
    await world.clock.advance(0);
    second.next("async-message");
    expect((await second.logout(1)).response).toBe(0);
    await request;
    expect(first.stream.closed).toBe("open");
  });

  test("one connection is dropped after event 2, a whole session after event 3", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(world, { ErrorRecoveryLevel: "2", DefaultTime2Retain: "9" });
    world.server.dropConnections(TARGET_NAME, { cid: 2 });
    await world.clock.advance(0);
    expect(second.next("async-message")).toMatchObject({ asyncEvent: 2, parameter1: 2, parameter2: 2, parameter3: 9 });
    expect([first.stream.closed, second.stream.closed]).toEqual(["open", "ended"]);
    world.server.dropConnections(TARGET_NAME, { initiatorName: INITIATOR_NAME.toUpperCase() });
    await world.clock.advance(0);
    expect(first.next("async-message")).toMatchObject({ asyncEvent: 3, parameter1: 0, parameter2: 2, parameter3: 9 });
    expect(first.stream.closed).toBe("ended");
    // At level 2 the session waits to be recovered.
    expect(world.server.sessions()).toHaveLength(1);
    await world.clock.advance(11_000);
    expect(world.server.sessions()).toEqual([]);
  });

  test("negotiation, SCSI and vendor events say what they were told to", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(world);
    world.server.requestNegotiation(TARGET_NAME, { cid: 1, timeLimitSeconds: 3 });
    world.server.reportScsiEvent(TARGET_NAME, { lun: 1, sense: Buffer.from("7000060000000000", "hex") });
    world.server.sendVendorEvent(TARGET_NAME, { asyncVCode: 9, parameter1: 77, data: Buffer.from("hi") }, { cid: 2 });
    await world.clock.advance(0);
    const [negotiation, scsi] = [first.next("async-message"), first.next("async-message")];
    expect(negotiation).toMatchObject({ asyncEvent: 4, parameter3: 3 });
    expect(scsi).toMatchObject({ asyncEvent: 0, lun: { high: 0x0001_0000, low: 0 } });
    expect(scsi.data.toString("hex")).toBe("00087000060000000000");
    expect(scsi.statSn).toBe((negotiation.statSn + 1) >>> 0);
    expect(second.next("async-message")).toMatchObject({
      asyncEvent: 255,
      asyncVCode: 9,
      parameter1: 77,
      data: Buffer.from("hi"),
    });
    expect([first.received, second.received]).toEqual([[], []]);
  });

  test("what cannot be meant is refused", () => {
    const { server } = new TargetWorld();
    expect(() => server.sendVendorEvent(TARGET_NAME, { asyncEvent: 5, asyncVCode: 0 })).toThrow("not a vendor's event");
    expect(() => server.requestNegotiation(TARGET_NAME, { timeLimitSeconds: 70_000 })).toThrow("timeLimitSeconds");
    expect(() => server.dropConnections("iqn.2026-11.a:none", {})).toThrow("there is no target");
  });

  test("a shutdown with a time limit asks first (event 1), and waits no longer than that", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair(world);
    const stopped = world.server.stop({ timeLimitSeconds: 5 });
    await world.clock.advance(0);
    expect(first.next("async-message")).toMatchObject({ asyncEvent: 1, parameter3: 5 });
    expect((await first.logout(1)).response).toBe(0);
    await world.clock.advance(5_000);
    await stopped;
    expect(second.received.map((pdu) => pdu.type === "async-message" && pdu.asyncEvent)).toEqual([1, 2]);
    expect([world.server.sessions().length, world.clock.pendingTimers]).toEqual([0, 0]);
  });
});

test("standard INQUIRY data names the agreed iSCSIProtocolLevel (RFC 7144 §4.2)", async () => {
  const peer = await ready({ iSCSIProtocolLevel: "2" });
  const { data } = await peer.run("12 00 00 00 ff 00", 255);
  expect(data.readUInt16BE(64)).toBe(0x0962);
});
