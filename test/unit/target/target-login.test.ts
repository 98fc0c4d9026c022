import { createHash } from "node:crypto";
import { Secret } from "../../../src/base/secret.js";
import { LoginStage } from "../../../src/wire/constants.js";
import { encodeTextKeys } from "../../../src/wire/text-keys.js";
import { INITIATOR_NAME, TARGET_NAME, TargetWorld, textOf, type TargetPeer } from "./target-peer.js";

const chap = {
  user: "user-one",
  secret: Secret.from("secret-of-initiator"),
  mutualUser: "target-user",
  mutualSecret: Secret.from("secret-of-the-target"),
};

const names = { InitiatorName: INITIATOR_NAME, TargetName: TARGET_NAME, SessionType: "Normal" };
const security = { currentStage: LoginStage.securityNegotiation, nextStage: LoginStage.operationalNegotiation };

/** RFC 1994: hash of identifier, secret and challenge, written out here without the code under test. */
function chapAnswer(algorithm: string, identifier: number, secret: string, challengeHex: string): string {
  const hash = createHash(algorithm);
  hash
    .update(Buffer.from([identifier]))
    .update(secret)
    .update(Buffer.from(challengeHex.slice(2), "hex"));
  return `0x${hash.digest("hex")}`;
}

async function refusalOf(peer: TargetPeer, keys: Record<string, string>, changes = {}): Promise<string> {
  await peer.send(peer.loginRequest(keys, changes));
  const response = peer.next("login-response");
  await peer.sendBytes(Buffer.alloc(0));
  const status = (response.statusClass << 8) | response.statusDetail;
  return `${status.toString(16).padStart(4, "0")} ${peer.stream.closed}`;
}

describe("a login without authentication", () => {
  test("goes straight to full feature phase and gives a TSIH and the portal group", async () => {
    const peer = await new TargetWorld().connect();
    const response = await peer.login();
    expect(response).toMatchObject({ isTransit: true, nextStage: 3, statusClass: 0, initiatorTaskTag: 0x77 });
    expect(response.tsih).not.toBe(0);
    expect(response.expCmdSn).toBe(100);
    expect(response.maxCmdSn).toBe(100 + 127);
    expect(textOf(response)).toMatchObject({
      TargetPortalGroupTag: "1",
      InitialR2T: "No",
      ImmediateData: "Yes",
      MaxRecvDataSegmentLength: "262144",
    });
  });

  test("answers AuthMethod None and moves through the stages", async () => {
    const peer = await new TargetWorld().connect();
    await peer.send(peer.loginRequest({ ...names, AuthMethod: "CHAP,None" }, security));
    const first = peer.next("login-response");
    expect(first).toMatchObject({ isTransit: true, currentStage: 0, nextStage: 1, tsih: 0 });
    expect(textOf(first)).toEqual({ AuthMethod: "None", TargetPortalGroupTag: "1" });
    await peer.send(peer.loginRequest({ HeaderDigest: "None,CRC32C", "X-dev.example": "1" }));
    const second = peer.next("login-response");
    expect(second.statSn).toBe((first.statSn + 1) >>> 0);
    expect(textOf(second)).toMatchObject({ HeaderDigest: "None", "X-dev.example": "NotUnderstood" });
  });

  test("takes keys that are split over continued PDUs, answering the first with nothing", async () => {
    const peer = await new TargetWorld().connect();
    const text = encodeTextKeys(Object.entries(names));
    const first = peer.loginRequest(
      {},
      { isContinued: true, isTransit: false, nextStage: 0, data: text.subarray(0, 20) },
    );
    await peer.send(first);
    expect(peer.next("login-response")).toMatchObject({ isTransit: false, data: Buffer.alloc(0) });
    await peer.send(peer.loginRequest({}, { data: text.subarray(20) }));
    expect(peer.next("login-response")).toMatchObject({ statusClass: 0, isTransit: true, nextStage: 3 });
  });

  test("ends the old session before it answers a login with the same ISID", async () => {
    const world = new TargetWorld();
    const first = await world.login();
    const second = await world.login();
    expect(first.stream.closed).toBe("ended");
    expect(first.next("async-message").asyncEvent).toBe(3);
    expect(world.server.sessions()).toHaveLength(1);
    const third = await world.login({ isid: "800000000002" });
    expect([second.stream.closed, third.stream.closed]).toEqual(["open", "open"]);
    expect(world.server.sessions()).toHaveLength(2);
  });
});

describe("refusals", () => {
  test.each([
    ["no initiator name", { TargetName: TARGET_NAME }, {}, "0207 ended"],
    ["no target name", { InitiatorName: INITIATOR_NAME }, {}, "0207 ended"],
    ["an unknown target", { ...names, TargetName: "iqn.2026-11.dev.hawser:none" }, {}, "0203 ended"],
    ["a session type nobody knows", { ...names, SessionType: "Other" }, {}, "0209 ended"],
    ["a version from the future", names, { versionMin: 1, versionMax: 1 }, "0205 ended"],
    ["a TSIH that no session has", names, { tsih: 77 }, "020a ended"],
    ["a reserved word as an offer", { ...names, MaxBurstLength: "Irrelevant" }, {}, "0200 ended"],
    ["a security key in the operational stage", { ...names, AuthMethod: "None" }, {}, "020b ended"],
    ["no common method", { ...names, AuthMethod: "KRB5" }, security, "0201 ended"],
  ])("%s", async (_, keys, changes, expected) => {
    expect(await refusalOf(await new TargetWorld().connect(), keys, changes)).toBe(expected);
  });

  test("an initiator that is not on the list", async () => {
    const world = new TargetWorld({ access: { kind: "list", rules: [{ initiatorName: "iqn.2026-11.other:x" }] } });
    expect(await refusalOf(await world.connect(), names)).toBe("0202 ended");
  });

  test("a second connection of a session", async () => {
    const world = new TargetWorld();
    const first = await world.connect();
    const { tsih } = await first.login();
    expect(await refusalOf(await world.connect(), names, { tsih, cid: 2 })).toBe("0206 ended");
    expect(first.stream.closed).toBe("open");
  });

  test("more sessions than there is room for", async () => {
    const world = new TargetWorld({ limits: { maxSessions: 1 } });
    await world.login();
    expect(await refusalOf(await world.connect(), names, { isid: Buffer.from("800000000002", "hex") })).toBe(
      "0302 ended",
    );
  });

  test("an ISID that changes midway", async () => {
    const peer = await new TargetWorld().connect();
    await peer.send(peer.loginRequest(names, { isTransit: false, nextStage: 0 }));
    peer.next("login-response");
    expect(await refusalOf(peer, {}, { isid: Buffer.from("800000000009", "hex") })).toBe("020b ended");
  });

  test("a PDU other than a login request closes at once", async () => {
    const peer = await new TargetWorld().connect();
    await peer.send(peer.command("00"));
    expect(peer.received).toEqual([]);
    expect(peer.stream.closed).toBe("destroyed");
  });

  test("a login that takes too long", async () => {
    const world = new TargetWorld();
    const peer = await world.connect();
    await world.clock.advance(14_999);
    expect(peer.stream.closed).toBe("open");
    await world.clock.advance(2);
    expect(peer.stream.closed).toBe("destroyed");
  });

  test("a login that never comes to an end", async () => {
    const peer = await new TargetWorld().connect();
    await peer.send(peer.loginRequest(names, { isTransit: false, nextStage: 0 }));
    for (let step = 0; step < 40; step += 1) await peer.send(peer.loginRequest({}, { isTransit: false, nextStage: 0 }));
    expect(peer.stream.closed).toBe("ended");
    expect(peer.received.at(-1)).toMatchObject({ statusClass: 2, statusDetail: 0x0b });
  });
});

describe("CHAP", () => {
  const open = async (): Promise<TargetPeer> => new TargetWorld({ access: { kind: "any", chap } }).connect();

  async function challenge(peer: TargetPeer, algorithms: string): Promise<Record<string, string>> {
    await peer.send(peer.loginRequest({ ...names, AuthMethod: "CHAP,None" }, security));
    expect(peer.next("login-response")).toMatchObject({ isTransit: false, statusClass: 0 });
    await peer.send(peer.loginRequest({ CHAP_A: algorithms }, security));
    return textOf(peer.next("login-response"));
  }

  test.each([
    ["5", "md5", 5],
    ["6,5", "sha1", 6],
    ["7", "sha256", 7],
    ["99,8,5", "sha3-256", 8],
  ])("algorithm list %s takes %s", async (list, algorithm, number) => {
    const peer = await open();
    const keys = await challenge(peer, list);
    expect(keys["CHAP_A"]).toBe(String(number));
    const answer = chapAnswer(algorithm, Number(keys["CHAP_I"]), "secret-of-initiator", keys["CHAP_C"] ?? "");
    await peer.send(peer.loginRequest({ CHAP_N: "user-one", CHAP_R: answer }, security));
    expect(peer.next("login-response")).toMatchObject({ statusClass: 0, isTransit: true, nextStage: 1 });
  });

  test("proves itself when the initiator asks for it", async () => {
    const peer = await open();
    const keys = await challenge(peer, "7,5");
    const answer = chapAnswer("sha256", Number(keys["CHAP_I"]), "secret-of-initiator", keys["CHAP_C"] ?? "");
    const own = "0x00112233445566778899aabbccddeeff";
    await peer.send(peer.loginRequest({ CHAP_N: "user-one", CHAP_R: answer, CHAP_I: "9", CHAP_C: own }, security));
    expect(textOf(peer.next("login-response"))).toEqual({
      CHAP_N: "target-user",
      CHAP_R: chapAnswer("sha256", 9, "secret-of-the-target", own),
    });
  });

  test.each([
    ["a wrong secret", "user-one", "wrong-secret-wrong", {}],
    ["a wrong name", "user-two", "secret-of-initiator", {}],
    ["half a challenge of its own", "user-one", "secret-of-initiator", { CHAP_I: "1" }],
  ])("%s is refused with 0201", async (_, user, secret, more) => {
    const peer = await open();
    const keys = await challenge(peer, "5");
    const answer = chapAnswer("md5", Number(keys["CHAP_I"]), secret, keys["CHAP_C"] ?? "");
    expect(await refusalOf(peer, { CHAP_N: user, CHAP_R: answer, ...more }, security)).toBe("0201 ended");
  });

  test("our own challenge sent back is refused", async () => {
    const peer = await open();
    const keys = await challenge(peer, "5");
    const answer = chapAnswer("md5", Number(keys["CHAP_I"]), "secret-of-initiator", keys["CHAP_C"] ?? "");
    const reflected = { CHAP_N: "user-one", CHAP_R: answer, CHAP_I: "3", CHAP_C: keys["CHAP_C"] ?? "" };
    expect(await refusalOf(peer, reflected, security)).toBe("0201 ended");
  });

  test.each([
    ["None alone", { ...names, AuthMethod: "None" }, security],
    ["no security stage at all", names, {}],
  ])("%s is refused where CHAP is demanded", async (_, keys, changes) => {
    expect(await refusalOf(await open(), keys, changes)).toBe("0201 ended");
  });

  test("no common algorithm is refused", async () => {
    const peer = await open();
    await peer.send(peer.loginRequest({ ...names, AuthMethod: "CHAP" }, security));
    peer.next("login-response");
    expect(await refusalOf(peer, { CHAP_A: "1,2" }, security)).toBe("0201 ended");
  });
});

describe("discovery", () => {
  async function discover(world: TargetWorld, value: string, initiatorName = INITIATOR_NAME): Promise<string> {
    const peer = await world.connect();
    await peer.send(peer.loginRequest({ InitiatorName: initiatorName, SessionType: "Discovery" }));
    expect(peer.next("login-response").statusClass).toBe(0);
    await peer.send({
      type: "text-request",
      isImmediate: true,
      isFinal: true,
      isContinued: false,
      lun: { high: 0, low: 0 },
      initiatorTaskTag: 5,
      targetTransferTag: 0xffff_ffff,
      cmdSn: 100,
      expStatSn: 0,
      data: encodeTextKeys([["SendTargets", value]]),
    });
    return peer.next("text-response").data.toString("latin1").replaceAll("\0", " ").trim();
  }

  test("lists the targets the initiator may use, with address and portal group", async () => {
    const listing = `TargetName=${TARGET_NAME} TargetAddress=192.0.2.1:3260,1`;
    expect(await discover(new TargetWorld(), "All")).toBe(listing);
    expect(await discover(new TargetWorld(), TARGET_NAME)).toBe(listing);
    const closed = new TargetWorld({ access: { kind: "list", rules: [] } });
    expect(await discover(closed, "All")).toBe("");
  });

  test("hundreds of targets come in several PDUs, and the text is whole", async () => {
    const world = new TargetWorld();
    for (let index = 0; index < 300; index += 1) {
      world.server.addTarget({ name: `${TARGET_NAME}-${index}`, luns: new Map(), access: { kind: "any" } });
    }
    const peer = await world.connect();
    await peer.send(peer.loginRequest({ InitiatorName: INITIATOR_NAME, SessionType: "Discovery" }));
    peer.next("login-response");
    const base = { type: "text-request", isImmediate: true, isContinued: false, lun: { high: 0, low: 0 } } as const;
    const fields = { initiatorTaskTag: 5, cmdSn: 100, expStatSn: 0, isFinal: true };
    let text = "";
    let data = encodeTextKeys([["SendTargets", "All"]]);
    let targetTransferTag = 0xffff_ffff;
    for (let step = 0; step < 20; step += 1) {
      await peer.send({ ...base, ...fields, targetTransferTag, data });
      const response = peer.next("text-response");
      text += response.data.toString("latin1");
      expect(response.data.length).toBeLessThanOrEqual(8192);
      if (response.isFinal) break;
      expect(response.isContinued).toBe(true);
      ({ targetTransferTag } = response);
      data = Buffer.alloc(0);
    }
    expect(text.match(/TargetName=/g)).toHaveLength(301);
  });
});
