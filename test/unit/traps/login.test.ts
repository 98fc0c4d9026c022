import { SeededRandom } from "../../../src/base/seeded-random.js";
import { createIsid } from "../../../src/initiator/isid.js";
import { RedirectFollower } from "../../../src/login/redirect.js";
import { parseTargetAddress } from "../../../src/login/redirect.js";
import { Session } from "../../../src/session/session.js";
import { ScriptedLogin } from "../../support/scripted-login.js";
import { ScriptedTarget } from "../../support/scripted-target.js";
import { createFixture, type Fixture, openSession, settle } from "../../support/session-fixture.js";
import { codeOf } from "../../support/trap-helpers.js";
import { TARGET_NAME, TargetWorld } from "../target/target-peer.js";

/** Traps 40 to 44 and 46 to 48: what a login carries and where it leads (RFC 7143 §6.3, §11.12, §11.13, §13.8). */

function open(fixture: Fixture): Promise<Session> {
  return settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
}

async function failureOf(fixture: Fixture): Promise<{ code?: string; retry?: string }> {
  return open(fixture).then(
    () => ({}),
    (error: unknown) => error as { code: string; retry: string },
  );
}

test("trap 40: all requests of a login share task tag, ISID, TSIH and CID, and the next waits for the answer", async () => {
  const { target } = await openSession();
  const { logins } = target.connection;
  expect(logins.length).toBeGreaterThan(1);
  const identities = logins.map(({ initiatorTaskTag, isid, tsih, cid }) =>
    [initiatorTaskTag, isid.toString("hex"), tsih, cid].join(" "),
  );
  expect(new Set(identities).size).toBe(1);
  // Each request acknowledges the answer to the one before: none was sent ahead of it.
  expect(logins.slice(1).map(({ expStatSn }) => expStatSn)).toEqual(logins.slice(1).map((_, at) => 101 + at));
});

test.each([
  ["task tag", { initiatorTaskTag: 0x78 }],
  ["ISID", { isid: Buffer.from("800000000009", "hex") }],
  ["CID", { cid: 2 }],
  ["TSIH", { tsih: 5 }],
])("trap 40: the target ends a login whose %s changes", async (_name, changes) => {
  const peer = await new TargetWorld().connect();
  const names = { InitiatorName: "iqn.2026-11.a:b", TargetName: TARGET_NAME, SessionType: "Normal" };
  await peer.send(peer.loginRequest(names, { isTransit: false, nextStage: 0 }));
  expect(peer.next("login-response").statusClass).toBe(0);
  await peer.send(peer.loginRequest({}, changes));
  expect(peer.next("login-response").statusClass).toBe(2);
  expect(peer.stream.closed).not.toBe("open");
});

test("trap 41: TSIH comes with the final response: not before, and not as 0", () => {
  const early = new ScriptedLogin();
  expect(codeOf(() => early.answer({}, { tsih: 7 }))).toBe("LOGIN_PROTOCOL_ERROR");
  const never = new ScriptedLogin();
  never.answer({});
  expect(codeOf(() => never.answer(never.agree(), { tsih: 0 }))).toBe("LOGIN_PROTOCOL_ERROR");
});

test("trap 41: with a status class other than 0 the numbers of the response mean nothing", () => {
  const script = new ScriptedLogin();
  script.answer({});
  const nonsense = { statusClass: 2, statusDetail: 2, statSn: 0x5555, expCmdSn: 9, maxCmdSn: 1, isTransit: false };
  expect(codeOf(() => script.answer({}, nonsense))).toBe("LOGIN_AUTHORIZATION_FAILED");
});

test("trap 41: the target names its TSIH in the final response only", async () => {
  const peer = await new TargetWorld().connect();
  const names = { InitiatorName: "iqn.2026-11.a:b", TargetName: TARGET_NAME, SessionType: "Normal" };
  await peer.send(peer.loginRequest(names, { isTransit: false, nextStage: 0 }));
  expect(peer.next("login-response").tsih).toBe(0);
  await peer.send(peer.loginRequest({}));
  expect(peer.next("login-response")).toMatchObject({ isTransit: true, nextStage: 3 });
  const refused = await new TargetWorld().connect();
  await refused.send(refused.loginRequest({ ...names, TargetName: `${TARGET_NAME}-none` }));
  expect(refused.next("login-response").tsih).toBe(0);
});

test("trap 42: a session that starts anew logs in with TSIH 0 and its ISID: the target ends the old one", async () => {
  const { target, clock, options } = await openSession();
  target.connection.close();
  await clock.advance(5_000);
  expect(target.connections).toHaveLength(2);
  const [again] = target.connection.logins;
  expect([again?.tsih, again?.isid.toString("hex")]).toEqual([0, options.isid.toString("hex")]);

  const world = new TargetWorld();
  const first = await world.login();
  await world.login();
  expect(first.stream.closed).not.toBe("open");
  expect(world.server.sessions()).toHaveLength(1);
  const other = await world.login({ isid: "800000000002" });
  expect([other.stream.closed, world.server.sessions().length]).toEqual(["open", 2]);
});

test("trap 43: an ISID is of the random type, its own for each volume, and the same at every login", async () => {
  const random = new SeededRandom(3);
  const isids = Array.from({ length: 1000 }, () => createIsid(random));
  expect(isids.every((isid) => isid.length === 6 && isid[0] === 0x80)).toBe(true);
  expect(new Set(isids.map((isid) => isid.toString("hex"))).size).toBe(1000);
  const { target, clock } = await openSession({ session: { isid: isids[5]! } });
  for (let restart = 0; restart < 3; restart += 1) {
    target.connection.close();
    await clock.advance(20_000);
  }
  expect(target.connections.length).toBeGreaterThan(3);
  const seen = target.connections.flatMap(({ logins }) => logins.map(({ isid }) => isid.toString("hex")));
  expect(new Set(seen)).toEqual(new Set([isids[5]!.toString("hex")]));
});

test("trap 44: the portal group of the login is held against that of discovery; 0 is a tag like others", () => {
  const wrong = new ScriptedLogin({ expectedPortalGroupTag: 0 });
  expect(codeOf(() => wrong.answer({ TargetPortalGroupTag: "1" }))).toBe("LOGIN_PORTAL_GROUP_MISMATCH");
  const right = new ScriptedLogin({ expectedPortalGroupTag: 0 });
  right.answer({ TargetPortalGroupTag: "0" });
  expect(right.finish().targetPortalGroupTag).toBe(0);
  const late = new ScriptedLogin({ expectedPortalGroupTag: 2 });
  late.answer({});
  expect(codeOf(() => late.answer({ ...late.agree(), TargetPortalGroupTag: "3" }))).toBe("LOGIN_PORTAL_GROUP_MISMATCH");
});

test("trap 44: the target names its portal group in the first response, whatever stage it is", async () => {
  const peer = await new TargetWorld().connect();
  expect((await peer.login()).data.toString()).toContain("TargetPortalGroupTag=1\0");
});

test.each([
  [2, 1, "never"],
  [2, 3, "never"],
  [3, 1, "same-path"],
])("trap 46: status class %i detail %i closes TCP; advice: %s", async (statusClass, statusDetail, retry) => {
  const fixture = await createFixture({});
  fixture.target.loginRefusal = { statusClass, statusDetail };
  const failure = await failureOf(fixture);
  await fixture.clock.advance(60_000);
  expect(fixture.target.connections).toHaveLength(1);
  expect(fixture.target.connection.isClosed).toBe(true);
  expect(failure.retry === "never").toBe(retry === "never");
});

interface Portals extends Fixture {
  readonly moved: ScriptedTarget;
}

async function redirected(statusDetail: number): Promise<Portals> {
  const fixture = await createFixture({});
  const endpoint = { kind: "tcp", host: "10.0.0.9", port: 3261 } as const;
  const moved = await ScriptedTarget.listen(fixture.network, { endpoint });
  fixture.target.loginRefusal = { statusClass: 1, statusDetail, address: "10.0.0.9:3261" };
  return { ...fixture, moved };
}

test.each([
  [1, "temporary", [2, 2]],
  [2, "permanent", [1, 2]],
])("trap 47: redirect 010%i is followed; the next login after a %s one asks %p", async (detail, _kind, counts) => {
  const fixture = await redirected(detail);
  const session = await open(fixture);
  expect([fixture.target.connections.length, fixture.moved.connections.length]).toEqual([1, 1]);
  expect(fixture.target.connection.isClosed).toBe(true);
  fixture.moved.connection.close();
  await fixture.clock.advance(5_000);
  expect(session.state).toBe("ready");
  expect([fixture.target.connections.length, fixture.moved.connections.length]).toEqual(counts);
});

test("trap 47: a redirect is followed before and after authentication", () => {
  const redirect = { statusClass: 1, statusDetail: 1, isTransit: false } as const;
  const before = new ScriptedLogin();
  expect(before.answer({ TargetAddress: "10.0.0.9:3261" }, redirect).kind).toBe("redirect");
  const after = new ScriptedLogin();
  after.answer({});
  expect(after.request.currentStage).toBe(1);
  expect(after.answer({ TargetAddress: "10.0.0.9:3261" }, redirect).kind).toBe("redirect");
});

test("trap 47: portals that redirect to each other are left after a bounded number of hops", async () => {
  const fixture = await redirected(1);
  fixture.moved.loginRefusal = { statusClass: 1, statusDetail: 1, address: "target:3260" };
  expect((await failureOf(fixture)).code).toBe("LOGIN_TOO_MANY_REDIRECTS");
  expect(fixture.target.connections.length + fixture.moved.connections.length).toBeLessThan(20);
});

test("trap 48: the address of a redirect has no tag, its port may be missing, IPv6 has brackets, names may be DNS names", () => {
  expect(parseTargetAddress("[2001:db8::7]:3261")).toEqual({ host: "2001:db8::7", port: 3261 });
  expect(parseTargetAddress("[2001:db8::7]")).toEqual({ host: "2001:db8::7", port: 3260 });
  expect(parseTargetAddress("storage-2.example.com")).toEqual({ host: "storage-2.example.com", port: 3260 });
  expect(parseTargetAddress("10.1.2.3:860")).toEqual({ host: "10.1.2.3", port: 860 });
  expect(codeOf(() => parseTargetAddress("2001:db8::7"))).toBe("TARGET_ADDRESS_INVALID");
  const follower = new RedirectFollower({ host: "a", port: 3260 });
  follower.begin();
  expect(follower.follow({ kind: "temporary", ...parseTargetAddress("[fd00::1]") })).toEqual({
    host: "fd00::1",
    port: 3260,
  });
});
