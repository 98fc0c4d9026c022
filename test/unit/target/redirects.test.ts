import type { PortalAddress } from "../../../src/base/access.js";
import { Secret } from "../../../src/base/secret.js";
import type { TargetRedirect } from "../../../src/target/api.js";
import { INITIATOR_NAME, TARGET_NAME, TargetWorld, textOf, type LoginChanges } from "./target-peer.js";

const group: PortalAddress = { host: "192.0.2.1", port: 3260 };
const east: PortalAddress = { host: "192.0.2.2", port: 3260 };
const west: PortalAddress = { host: "2001:db8::3", port: 3261 };
const inTurn: TargetRedirect = { kind: "temporary", choose: "in-turn", portals: [east, west] };

function worldWith(
  redirect: TargetRedirect = inTurn,
  portals: readonly PortalAddress[] = [group, east, west],
): TargetWorld {
  return new TargetWorld({ portals, redirect });
}

/** The address a login is sent to, or "taken". */
async function login(world: TargetWorld, changes: LoginChanges = {}): Promise<string | undefined> {
  const peer = await world.connect(changes.portal);
  const response = await peer.login(changes);
  return response.statusClass === 0 ? "taken" : textOf(response)["TargetAddress"];
}

/** What SendTargets tells in a discovery session. */
async function discovered(world: TargetWorld): Promise<string> {
  const peer = await world.connect();
  const keys = { InitiatorName: INITIATOR_NAME, SessionType: "Discovery" };
  await peer.send(peer.loginRequest(keys));
  expect(peer.next("login-response")).toMatchObject({ statusClass: 0 });
  await peer.send({
    type: "text-request",
    isImmediate: true,
    isFinal: true,
    isContinued: false,
    lun: peer.command("00").lun,
    initiatorTaskTag: 0x10,
    targetTransferTag: 0xffff_ffff,
    cmdSn: peer.cmdSn,
    expStatSn: 0,
    data: Buffer.from("SendTargets=All\0"),
  });
  return peer.next("text-response").data.toString("utf8").replace(/\0/g, "\n");
}

describe("a redirect in turn (RFC 7143 §11.13.5)", () => {
  test("sends one login after the other to its portals, without portal group tags", async () => {
    const world = worldWith();
    const reached = [await login(world), await login(world), await login(world)];
    expect(reached).toEqual(["192.0.2.2:3260", "[2001:db8::3]:3261", "192.0.2.2:3260"]);
    expect(world.server.sessions()).toEqual([]);
  });

  test("takes the logins that arrive where it leads, which use up no turn", async () => {
    const world = worldWith();
    expect(await login(world, { portal: 1 })).toBe("taken");
    expect(await login(world, { portal: 2, isid: "800000000002" })).toBe("taken");
    expect(await login(world, { isid: "800000000003" })).toBe("192.0.2.2:3260");
    expect(world.server.sessions()).toHaveLength(2);
  });

  test.each<[string, PortalAddress, PortalAddress]>([
    ["longer", { host: "2001:DB8:0:0::3", port: 3260 }, { host: "2001:db8::3", port: 3260 }],
    ["mapped", { host: "192.0.2.1", port: 3260 }, { host: "::ffff:192.0.2.1", port: 3260 }],
    ["of one interface", { host: "fe80::1%ETH0", port: 3260 }, { host: "fe80::1%eth0", port: 3260 }],
  ])("knows its own portal in another spelling: %s", async (_, portal, bound) => {
    const world = worldWith({ kind: "temporary", choose: "in-turn", portals: [portal] }, [bound]);
    expect(await login(world)).toBe("taken");
  });

  test("tells the port apart", async () => {
    const world = worldWith({ kind: "temporary", choose: "in-turn", portals: [{ ...group, port: 3261 }] });
    expect(await login(world)).toBe("192.0.2.1:3261");
  });

  test("lets connections join the session where it is", async () => {
    const world = worldWith();
    const first = await world.login({ portal: 1, keys: { MaxConnections: "2" } });
    await world.join(first, { portal: 0 });
    expect(world.server.sessions()[0]?.connections).toHaveLength(2);
  });

  test("comes after authentication where that is asked for", async () => {
    const chap = { user: "user-one", secret: Secret.from("secret-of-initiator") };
    const redirect: TargetRedirect = { ...inTurn, isAfterAuthentication: true };
    const world = new TargetWorld({ portals: [group, east, west], redirect, access: { kind: "any", chap } });
    const stranger = await world.connect();
    expect(await stranger.login()).toMatchObject({ statusClass: 2, statusDetail: 1 });
    expect(await login(worldWith(redirect))).toBe("192.0.2.2:3260");
  });

  test("is set, changed and lifted, and turns begin anew", async () => {
    const world = worldWith();
    expect(await login(world)).toBe("192.0.2.2:3260");
    world.server.setRedirect(TARGET_NAME, { ...inTurn, kind: "permanent" });
    const peer = await world.connect();
    const response = await peer.login();
    expect(response).toMatchObject({ statusClass: 1, statusDetail: 2 });
    expect(textOf(response)).toEqual({ TargetAddress: "192.0.2.2:3260" });
    world.server.setRedirect(TARGET_NAME, undefined);
    expect(await login(world)).toBe("taken");
  });

  test("that leads nowhere is refused, and the one before stays", async () => {
    const world = worldWith();
    const empty: TargetRedirect = { kind: "temporary", choose: "in-turn", portals: [] };
    expect(() => worldWith(empty)).toThrow(expect.objectContaining({ code: "TARGET_INVALID" }));
    expect(() => world.server.setRedirect(TARGET_NAME, empty)).toThrow(
      expect.objectContaining({ code: "TARGET_INVALID", message: expect.stringContaining(TARGET_NAME) as unknown }),
    );
    expect(await login(world)).toBe("192.0.2.2:3260");
  });
});

test("a redirect to one portal is told at every portal, that one included", async () => {
  const world = worldWith({ kind: "temporary", portal: east });
  expect([await login(world), await login(world, { portal: 1 })]).toEqual(["192.0.2.2:3260", "192.0.2.2:3260"]);
});

describe("what discovery tells (RFC 7143 Appendix C)", () => {
  const portals = [group, { ...east, portalGroupTag: 2 }, { host: "0.0.0.0", port: 3262, portalGroupTag: 3 }];
  const name = `TargetName=${TARGET_NAME}\n`;

  test("every portal, where nothing is said", async () => {
    const all = ["192.0.2.1:3260,1", "192.0.2.2:3260,2", "192.0.2.1:3262,3"];
    const lines = all.map((address) => `TargetAddress=${address}\n`).join("");
    expect(await discovered(new TargetWorld({ portals }))).toBe(name + lines);
  });

  test.each<[string, readonly PortalAddress[], string]>([
    ["one of the portals", [east], "TargetAddress=192.0.2.2:3260,2\n"],
    [
      "addresses of a portal bound to every interface",
      [
        { host: "192.0.2.7", port: 3262 },
        { host: "192.0.2.8", port: 3262 },
      ],
      "TargetAddress=192.0.2.7:3262,3\nTargetAddress=192.0.2.8:3262,3\n",
    ],
    ["a portal that is not ours: the one reached", [{ host: "192.0.2.2", port: 3269 }], ""],
  ])("only what is advertised: %s", async (_, advertisedPortals, lines) => {
    expect(await discovered(new TargetWorld({ portals, advertisedPortals }))).toBe(name + lines);
  });
});
