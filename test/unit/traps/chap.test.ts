import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ChapCredentials } from "../../../src/base/access.js";
import { Secret } from "../../../src/base/secret.js";
import { OutstandingChallenges } from "../../../src/login/chap-initiator.js";
import { equalsInConstantTime } from "../../../src/login/chap-algorithms.js";
import { SystemRandom } from "../../../src/base/system-random.js";
import { LoginStage } from "../../../src/wire/constants.js";
import { ScriptedLogin } from "../../support/scripted-login.js";
import { codeOf } from "../../support/trap-helpers.js";
import { INITIATOR_NAME, TARGET_NAME, type TargetPeer, TargetWorld, textOf } from "../target/target-peer.js";

/** Traps 52 to 55: CHAP (RFC 7143 §9.2.1, §12.1.3). The responses are computed here, without the code under test. */

const OURS = "initiator-secret";
const THEIRS = "the-target-secret";
const mutual: ChapCredentials = {
  ...{ user: "node1", secret: Secret.from(OURS), mutualUser: "storage", mutualSecret: Secret.from(THEIRS) },
};
const oneWay: ChapCredentials = { user: "node1", secret: Secret.from(OURS) };

function response(algorithm: "md5" | "sha256", identifier: number, secret: string, challengeHex: string): string {
  const hash = createHash(algorithm).update(Buffer.of(identifier)).update(secret);
  return `0x${hash.update(Buffer.from(challengeHex.slice(2), "hex")).digest("hex")}`;
}

const challenge = { CHAP_A: "7", CHAP_I: "39", CHAP_C: "0x00112233445566778899aabbccddeeff" };

/** A login up to our response; the target's challenge is `keys`. */
function challenged(chap: ChapCredentials, challenges?: OutstandingChallenges, keys = challenge): ScriptedLogin {
  const script = new ScriptedLogin({ chap }, challenges === undefined ? {} : { challenges });
  script.answer({ AuthMethod: "CHAP" });
  script.answer(keys);
  return script;
}

function ownChallenge(script: ScriptedLogin): { readonly CHAP_I: string; readonly CHAP_C: string } {
  return { CHAP_I: script.sent["CHAP_I"] ?? "", CHAP_C: script.sent["CHAP_C"] ?? "" };
}

test("trap 52: a secret under 96 bits gives no CHAP_R; one of 128 random bits is taken", () => {
  const short = { user: "u", secret: Secret.from("elevenbytes") };
  expect(codeOf(() => new ScriptedLogin({ chap: short }))).toBe("AUTH_SECRET_TOO_SHORT");
  const twelve = challenged({ user: "u", secret: Secret.from("twelve bytes") });
  expect(twelve.sent["CHAP_R"]).toBe(response("sha256", 39, "twelve bytes", challenge.CHAP_C));
  const random = Buffer.from(Array.from({ length: 16 }, (_, index) => (index * 37 + 128) & 0xff));
  const binary = challenged({ user: "u", secret: Secret.from(random) });
  const expected = createHash("sha256").update(Buffer.of(39)).update(random);
  const sent = expected.update(Buffer.from(challenge.CHAP_C.slice(2), "hex")).digest("hex");
  expect(binary.sent["CHAP_R"]).toBe(`0x${sent}`);
});

test("trap 53: the secrets of the two directions must differ", () => {
  const same = { ...mutual, mutualSecret: Secret.from(OURS) };
  expect(codeOf(() => new ScriptedLogin({ chap: same }))).toBe("AUTH_SECRETS_EQUAL");
});

test("trap 53: a response equal to the one we would give fails the login", () => {
  const script = challenged(mutual);
  const { CHAP_I, CHAP_C } = ownChallenge(script);
  const echo = { CHAP_N: "storage", CHAP_R: response("sha256", Number(CHAP_I), OURS, CHAP_C) };
  expect(codeOf(() => script.answer(echo))).toBe("AUTH_REFLECTED");
});

test("trap 53: our challenge given back to us on another connection fails that login, and gets no response", () => {
  const challenges = new OutstandingChallenges();
  const first = challenged(mutual, challenges);
  const reflected = { CHAP_A: "7", ...ownChallenge(first) };
  expect(reflected.CHAP_C.length).toBeGreaterThan(30);
  expect(codeOf(() => challenged(oneWay, challenges, reflected))).toBe("AUTH_REFLECTED");
  // The same bytes as base64 are the same challenge.
  const base64 = `0b${Buffer.from(reflected.CHAP_C.slice(2), "hex").toString("base64")}`;
  expect(codeOf(() => challenged(oneWay, challenges, { ...reflected, CHAP_C: base64 }))).toBe("AUTH_REFLECTED");
});

const security = { currentStage: LoginStage.securityNegotiation, nextStage: LoginStage.operationalNegotiation };

/** A login at the target up to its challenge. */
async function atTarget(chap: ChapCredentials): Promise<{ peer: TargetPeer; keys: Record<string, string> }> {
  const peer = await new TargetWorld({ access: { kind: "any", chap } }).connect();
  const names = { InitiatorName: INITIATOR_NAME, TargetName: TARGET_NAME, SessionType: "Normal" };
  await peer.send(peer.loginRequest({ ...names, AuthMethod: "CHAP" }, security));
  peer.next("login-response");
  await peer.send(peer.loginRequest({ CHAP_A: "7" }, security));
  return { peer, keys: textOf(peer.next("login-response")) };
}

test("trap 53: the target closes when its own challenge comes back", async () => {
  const { peer, keys } = await atTarget(mutual);
  const { CHAP_I = "", CHAP_C = "" } = keys;
  const proof = { CHAP_N: "node1", CHAP_R: response("sha256", Number(CHAP_I), OURS, CHAP_C) };
  await peer.send(peer.loginRequest({ ...proof, CHAP_I: "5", CHAP_C }, security));
  expect(peer.next("login-response")).toMatchObject({ statusClass: 2, statusDetail: 1 });
  expect(peer.stream.closed).not.toBe("open");
});

test("trap 54: a challenge is never used twice, is as long as the response, and CHAP_I is one octet", async () => {
  const challenges = new Set<string>();
  const random = new SystemRandom();
  for (let index = 0; index < 200; index += 1) {
    const script = new ScriptedLogin({ chap: mutual }, { random });
    script.answer({ AuthMethod: "CHAP" });
    script.answer(challenge);
    const { CHAP_I, CHAP_C } = ownChallenge(script);
    expect(CHAP_I).toMatch(/^\d{1,3}$/);
    expect(Number(CHAP_I)).toBeLessThan(256);
    expect(CHAP_C).toMatch(/^0x[0-9a-f]{64}$/);
    challenges.add(CHAP_C);
  }
  expect(challenges.size).toBe(200);
  for (const identifier of ["256", "-1", "0x1ff", ""]) {
    expect(codeOf(() => challenged(oneWay, undefined, { ...challenge, CHAP_I: identifier }))).toBe(
      "AUTH_EXCHANGE_BROKEN",
    );
  }
  const [first, second] = [await atTarget(mutual), await atTarget(mutual)];
  expect(first.keys["CHAP_C"]).toMatch(/^0x[0-9a-f]{64}$/);
  expect(Number(second.keys["CHAP_I"])).toBeLessThan(256);
});

test("trap 54: randomness in production is the system's, and responses are compared in constant time", () => {
  const read = (path: string): string => readFileSync(join(__dirname, "../../../src", path), "utf8");
  expect(read("base/system-random.ts")).toMatch(/import \{[^}]*randomBytes[^}]*\} from "node:crypto"/);
  expect(read("login/chap-algorithms.ts")).toContain("timingSafeEqual(a, b)");
  // No other comparison of a response or secret: neither end compares such bytes by itself.
  for (const path of ["login/chap-initiator.ts", "target/login/chap-exchange.ts"]) {
    expect(read(path)).not.toMatch(/\.equals\(|\.compare\(/);
  }
  expect(equalsInConstantTime(Buffer.from("same"), Buffer.from("same"))).toBe(true);
  expect(equalsInConstantTime(Buffer.from("same"), Buffer.from("samE"))).toBe(false);
  expect(equalsInConstantTime(Buffer.from("same"), Buffer.from("sam"))).toBe(false);
});

test.each([
  ["nothing", {}],
  ["a name without response", { CHAP_N: "storage" }],
  ["a response without name", { CHAP_R: `0x${"11".repeat(32)}` }],
])("trap 55: mutual CHAP does not go on when the target sends %s", (_name, keys) => {
  expect(codeOf(() => challenged(mutual).answer(keys))).toBe("AUTH_TARGET_NOT_PROVEN");
  const waiting = challenged(mutual);
  waiting.answer(keys, { isTransit: false });
  expect(codeOf(() => waiting.answer({}))).toBe("AUTH_TARGET_NOT_PROVEN");
});

test("trap 55: a target that offers to go on without authentication is refused", () => {
  expect(codeOf(() => new ScriptedLogin({ chap: mutual }).answer({ AuthMethod: "None" }))).toBe("AUTH_METHOD_REFUSED");
  const script = new ScriptedLogin({ chap: mutual });
  expect(script.sent["AuthMethod"]).toBe("CHAP");
});
