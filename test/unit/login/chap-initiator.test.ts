import { inspect } from "node:util";
import type { ChapCredentials } from "../../../src/base/access.js";
import { Secret } from "../../../src/base/secret.js";
import type { ChapAlgorithm } from "../../../src/login/chap-algorithms.js";
import { chapResponse, formatChapBinary, parseChapBinary } from "../../../src/login/chap-algorithms.js";
import type { ChapAttempt } from "../../../src/login/chap-initiator.js";
import { nextChapAttempt, OutstandingChallenges } from "../../../src/login/chap-initiator.js";
import { AuthError, LoginError } from "../../../src/login/errors.js";
import { loginStatusError } from "../../../src/login/login-status.js";
import { AppError } from "../../../src/base/errors.js";
import { ScriptedLogin } from "../../support/scripted-login.js";

const ours = Secret.from("initiator-secret");
const theirs = Secret.from("the-target-secret");
const oneWay: ChapCredentials = { user: "node1", secret: ours };
const mutual: ChapCredentials = { ...oneWay, mutualUser: "storage", mutualSecret: theirs };
const challenge = Buffer.from("00112233445566778899aabbccddeeff", "hex");

function errorOf(act: () => unknown): AuthError {
  try {
    act();
  } catch (error) {
    if (error instanceof AuthError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** A login up to the target's choice of CHAP. */
function begin(chap: ChapCredentials, challenges?: OutstandingChallenges): ScriptedLogin {
  const script = new ScriptedLogin({ chap }, challenges === undefined ? {} : { challenges });
  script.answer({ TargetPortalGroupTag: "1", AuthMethod: "CHAP" });
  return script;
}

/** … and up to our response. */
function challenged(
  chap: ChapCredentials,
  algorithm: ChapAlgorithm = 7,
  challenges?: OutstandingChallenges,
): ScriptedLogin {
  const script = begin(chap, challenges);
  script.answer({ CHAP_A: String(algorithm), CHAP_I: "39", CHAP_C: formatChapBinary(challenge) });
  return script;
}

/** What an honest target answers to our challenge. */
function proof(script: ScriptedLogin, algorithm: ChapAlgorithm, secret = theirs): string {
  const { CHAP_I, CHAP_C } = script.sent;
  const own = parseChapBinary("CHAP_C", CHAP_C ?? "");
  return formatChapBinary(chapResponse({ algorithm, identifier: Number(CHAP_I), secret, challenge: own }));
}

describe("one-way CHAP", () => {
  it("offers CHAP before None, the strongest algorithm first, and MD5 always", () => {
    const script = new ScriptedLogin({ chap: oneWay });
    expect(script.sent["AuthMethod"]).toBe("CHAP,None");
    expect(script.request).toMatchObject({ isTransit: false, currentStage: 0 });
    script.answer({ AuthMethod: "CHAP" });
    expect(script.sent).toEqual({ CHAP_A: "8,7,6,5" });
    const custom = new ScriptedLogin({ chap: oneWay, chapAlgorithms: [7] });
    custom.answer({ AuthMethod: "CHAP" });
    expect(custom.sent).toEqual({ CHAP_A: "7,5" });
  });

  it.each([5, 6, 7, 8] as const)("proves itself with algorithm %d", (algorithm) => {
    const script = challenged(oneWay, algorithm);
    const expected = chapResponse({ algorithm, identifier: 39, secret: ours, challenge });
    expect(script.sent).toEqual({ CHAP_N: "node1", CHAP_R: `0x${expected.toString("hex")}` });
    expect(script.request).toMatchObject({ isTransit: true, nextStage: 1 });
    script.answer({});
    expect(script.finish()).toMatchObject({ authMethod: "CHAP", chapAlgorithm: algorithm, warnings: [] });
  });

  it("takes the target's keys in any order and in several responses, in base64 as well", () => {
    const script = begin(oneWay);
    script.answer({ CHAP_C: formatChapBinary(challenge, "base64") });
    expect(script.sent).toEqual({});
    expect(script.request.isTransit).toBe(false);
    script.answer({ CHAP_I: "0x27" });
    script.answer({ CHAP_A: "5" });
    const expected = chapResponse({ algorithm: 5, identifier: 39, secret: ours, challenge });
    expect(script.sent["CHAP_R"]).toBe(`0x${expected.toString("hex")}`);
  });

  it("goes on without authentication when the target wants none, and says so", () => {
    const script = new ScriptedLogin({ chap: oneWay });
    script.answer({ AuthMethod: "None" });
    expect(script.request).toMatchObject({ isTransit: true, nextStage: 1 });
    script.answer({});
    expect(script.finish()).toMatchObject({ authMethod: "None", warnings: ["CHAP_NOT_ASKED_FOR"] });
  });

  it.each([
    ["AuthMethod=Reject", { AuthMethod: "Reject" }, "AUTH_METHOD_REFUSED"],
    ["a method not offered", { AuthMethod: "KRB5" }, "AUTH_METHOD_REFUSED"],
    ["CHAP keys before CHAP", { CHAP_A: "5" }, "AUTH_EXCHANGE_BROKEN"],
    ["keys of another method", { SRP_s: "0x00" }, "AUTH_EXCHANGE_BROKEN"],
  ])("refuses %s", (_title, pairs, expected) => {
    expect(errorOf(() => new ScriptedLogin({ chap: oneWay }).answer(pairs)).code).toBe(expected);
  });

  it.each([
    ["an algorithm not offered", { CHAP_A: "9" }, "AUTH_ALGORITHM_REFUSED"],
    ["CHAP_A=Reject", { CHAP_A: "Reject" }, "AUTH_ALGORITHM_REFUSED"],
    ["a challenge that is none", { CHAP_A: "5", CHAP_I: "1", CHAP_C: "abc" }, "AUTH_EXCHANGE_BROKEN"],
    [
      "a challenge over 1024 bytes",
      { CHAP_A: "5", CHAP_I: "1", CHAP_C: `0x${"0".repeat(2050)}` },
      "AUTH_EXCHANGE_BROKEN",
    ],
    ["an identifier over one octet", { CHAP_A: "5", CHAP_I: "256", CHAP_C: "0x00" }, "AUTH_EXCHANGE_BROKEN"],
  ])("refuses %s", (_title, pairs, expected) => {
    expect(errorOf(() => begin(oneWay).answer(pairs)).code).toBe(expected);
  });

  it("refuses a key twice", () => {
    const script = begin(oneWay);
    script.answer({ CHAP_A: "5" });
    expect(errorOf(() => script.answer({ CHAP_A: "7" })).code).toBe("AUTH_EXCHANGE_BROKEN");
  });

  it("calls a refused response what it is, whatever word the target has for it", () => {
    const exact = errorOf(() => challenged(oneWay).answer({}, { statusClass: 2, statusDetail: 1 }));
    expect(exact.code).toBe("LOGIN_AUTHENTICATION_FAILED");
    const vague = errorOf(() => challenged(oneWay).answer({}, { statusClass: 2, statusDetail: 0 }));
    expect(vague.code).toBe("LOGIN_AUTHENTICATION_FAILED");
  });

  it("names the want of credentials when only None was offered", () => {
    const error = errorOf(() => new ScriptedLogin().answer({ AuthMethod: "CHAP" }, { isTransit: false }));
    expect(error.message).toContain("configure CHAP");
  });
});

describe("mutual CHAP", () => {
  it("offers nothing but CHAP and takes a target that proves itself", () => {
    const script = new ScriptedLogin({ chap: mutual });
    expect(script.sent["AuthMethod"]).toBe("CHAP");
    script.answer({ AuthMethod: "CHAP" });
    script.answer({ CHAP_A: "8", CHAP_I: "1", CHAP_C: formatChapBinary(challenge) });
    expect(Object.keys(script.sent)).toEqual(["CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"]);
    expect(parseChapBinary("CHAP_C", script.sent["CHAP_C"] ?? "")).toHaveLength(32);
    script.answer({ CHAP_N: "storage", CHAP_R: proof(script, 8) });
    expect(script.finish()).toMatchObject({ authMethod: "CHAP", chapAlgorithm: 8 });
  });

  it("takes the proof in a response without T, then moves on", () => {
    const script = challenged(mutual, 7);
    script.answer({ CHAP_N: "storage", CHAP_R: proof(script, 7) }, { isTransit: false });
    expect(script.request).toMatchObject({ isTransit: true, nextStage: 1 });
    expect(script.sent).toEqual({});
    script.answer({});
    expect(script.finish().authMethod).toBe("CHAP");
  });

  it.each([
    ["leaves its proof out", () => ({}), "AUTH_TARGET_NOT_PROVEN"],
    ["leaves its name out", (script: ScriptedLogin) => ({ CHAP_R: proof(script, 7) }), "AUTH_TARGET_NOT_PROVEN"],
    [
      "has another name",
      (script: ScriptedLogin) => ({ CHAP_N: "other", CHAP_R: proof(script, 7) }),
      "AUTH_TARGET_NOT_PROVEN",
    ],
    [
      "has another secret",
      (script: ScriptedLogin) => ({ CHAP_N: "storage", CHAP_R: proof(script, 7, Secret.from("wrong-wrong-wrong")) }),
      "AUTH_TARGET_NOT_PROVEN",
    ],
    [
      "holds our secret for its own",
      (script: ScriptedLogin) => ({ CHAP_N: "storage", CHAP_R: proof(script, 7, ours) }),
      "AUTH_REFLECTED",
    ],
    ["sends no value", () => ({ CHAP_N: "storage", CHAP_R: "zz" }), "AUTH_EXCHANGE_BROKEN"],
  ])("refuses a target that %s", (_title, keys, expected) => {
    const script = challenged(mutual, 7);
    expect(errorOf(() => script.answer(keys(script))).code).toBe(expected);
  });

  it("refuses a target that wants no authentication", () => {
    const script = new ScriptedLogin({ chap: mutual });
    expect(errorOf(() => script.answer({ AuthMethod: "None" })).code).toBe("AUTH_METHOD_REFUSED");
  });

  it("notices its own challenge on another connection, and forgets it when the login ends (RFC 7143 §9.2.1)", () => {
    const challenges = new OutstandingChallenges();
    const first = challenged(mutual, 7, challenges);
    expect(challenges.size).toBe(1);
    const second = begin(mutual, challenges);
    const reflected = { CHAP_A: "7", CHAP_I: first.sent["CHAP_I"] ?? "", CHAP_C: first.sent["CHAP_C"] ?? "" };
    expect(errorOf(() => second.answer(reflected)).code).toBe("AUTH_REFLECTED");
    first.login.abandon();
    expect(challenges.size).toBe(0);
  });

  it("bounds the challenges it remembers", () => {
    const challenges = new OutstandingChallenges();
    for (let index = 0; index < 5000; index += 1) {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt32BE(index);
      challenges.add(bytes);
    }
    expect(challenges.size).toBe(4096);
    expect(challenges.has(Buffer.alloc(16))).toBe(false);
  });
});

describe("CHAP credentials", () => {
  it.each<[string, ChapCredentials, string]>([
    ["a short secret", { user: "u", secret: Secret.from("elevenbytes") }, "AUTH_SECRET_TOO_SHORT"],
    ["a short mutual secret", { ...oneWay, mutualSecret: Secret.from("short") }, "AUTH_SECRET_TOO_SHORT"],
    [
      "one secret for both directions",
      { ...oneWay, mutualSecret: Secret.from("initiator-secret") },
      "AUTH_SECRETS_EQUAL",
    ],
    ["a mutual user without secret", { ...oneWay, mutualUser: "x" }, "AUTH_CREDENTIALS_INCOMPLETE"],
    ["no user", { ...oneWay, user: "" }, "AUTH_CREDENTIALS_INCOMPLETE"],
  ])("refuses %s before anything is sent", (_title, chap, expected) => {
    expect(errorOf(() => new ScriptedLogin({ chap })).code).toBe(expected);
  });

  it("takes a short secret inside IPsec, with a warning", () => {
    const script = new ScriptedLogin({
      chap: { user: "u", secret: Secret.from("short") },
      isShortChapSecretAllowed: true,
    });
    script.answer({ AuthMethod: "CHAP" });
    script.answer({ CHAP_A: "5", CHAP_I: "1", CHAP_C: "0x00" });
    script.answer({});
    expect(script.finish().warnings).toEqual(["CHAP_SECRET_SHORT"]);
  });

  it("never shows key material in an error", () => {
    const script = challenged(mutual, 7);
    const response = proof(script, 7, ours);
    const error = errorOf(() => script.answer({ CHAP_N: "storage", CHAP_R: response }));
    const shown = inspect(error, { depth: 10 }) + JSON.stringify(error.details);
    for (const secret of ["initiator-secret", "the-target-secret", response.slice(2), challenge.toString("hex")]) {
      expect(shown).not.toContain(secret);
    }
  });
});

describe("nextChapAttempt", () => {
  const offered = [8, 7, 6, 5] as const;
  const failed = loginStatusError(2, 1, "x");

  it.each<[string, ChapAttempt, unknown, readonly number[] | undefined]>([
    ["a refusal after a strong algorithm", { offered, chosen: 7 as const }, failed, [5]],
    ["a refusal before any choice", { offered }, failed, [5]],
    ["a target that errs at the list", { offered }, loginStatusError(2, 0, "x"), [5]],
    ["a target that breaks at the list", { offered }, loginStatusError(3, 0, "x"), [5]],
    ["a connection lost at the list", { offered }, new AppError("transport", "TRANSPORT_RESET", "gone"), [5]],
    [
      "a wrong proof by a strong algorithm",
      { offered, chosen: 8 as const },
      new AuthError("AUTH_TARGET_NOT_PROVEN", ""),
      [5],
    ],
    ["a refusal after MD5", { offered, chosen: 5 as const }, failed, undefined],
    ["a refusal of MD5 alone", { offered: [5] as const }, failed, undefined],
    ["a target that is not there", { offered }, loginStatusError(2, 3, "x"), undefined],
    ["a lack of authorization", { offered, chosen: 7 as const }, loginStatusError(2, 2, "x"), undefined],
    ["an attack", { offered, chosen: 7 as const }, new AuthError("AUTH_REFLECTED", ""), undefined],
    ["another login error", { offered }, new LoginError("LOGIN_TOO_MANY_EXCHANGES", ""), undefined],
    [
      "a connection lost later",
      { offered, chosen: 7 as const },
      new AppError("transport", "TRANSPORT_RESET", ""),
      undefined,
    ],
  ])("after %s", (_title, attempt, error, expected) => {
    expect(nextChapAttempt(attempt, error)).toEqual(expected);
  });

  it("is asked through the login, which knows whether CHAP got so far", () => {
    const script = challenged(oneWay, 7);
    const error = errorOf(() => script.answer({}, { statusClass: 2, statusDetail: 1 }));
    expect(script.login.nextChapAttempt(error)).toEqual([5]);
    const without = new ScriptedLogin();
    expect(without.login.nextChapAttempt(failed)).toBeUndefined();
  });
});
