import type { InitiatorLoginOptions } from "../../../src/login/initiator-login.js";
import { InitiatorLogin } from "../../../src/login/initiator-login.js";
import { DEFAULT_PARAMETERS, type NegotiatedParameters } from "../../../src/login/parameters.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { Secret } from "../../../src/base/secret.js";
import { loginOptions } from "../../support/login-driver.js";
import { ScriptedLogin } from "../../support/scripted-login.js";

const code = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
};

/** Nothing in it is a default, so that what is kept and what is not can be told apart. */
const session: NegotiatedParameters = {
  headerDigest: "CRC32C",
  dataDigest: "CRC32C",
  maxConnections: 4,
  initialR2T: false,
  immediateData: false,
  initiatorMaxRecvDataSegmentLength: 16_384,
  targetMaxRecvDataSegmentLength: 32_768,
  maxBurstLength: 524_288,
  firstBurstLength: 131_072,
  defaultTime2Wait: 7,
  defaultTime2Retain: 60,
  maxOutstandingR2T: 4,
  dataPduInOrder: false,
  dataSequenceInOrder: false,
  errorRecoveryLevel: 2,
  taskReporting: "ResponseFence",
  iscsiProtocolLevel: 2,
};

/** The second connection of session 0x77, whose next CmdSN is 500. */
function join(changes: Partial<InitiatorLoginOptions> = {}): ScriptedLogin {
  return new ScriptedLogin({
    tsih: 0x77,
    cid: 3,
    cmdSn: 500,
    sessionParameters: session,
    expectedPortalGroupTag: 2,
    ...changes,
  });
}

describe("a login that joins a session", () => {
  it("names both ends, but sends no key that only the leading login may (RFC 7143 §13, use LO)", () => {
    const script = join({ extensionKeys: [["X-dev.hawser.test", "1"]] });
    expect(script.sent).toEqual({
      InitiatorName: "iqn.2026-01.dev.hawser:test",
      TargetName: "iqn.2026-01.dev.hawser:target",
      AuthMethod: "None",
    });
    expect(script.request).toMatchObject({ tsih: 0x77, cid: 3, cmdSn: 500, expStatSn: 0 });
    script.answer({ TargetPortalGroupTag: "2" });
    expect(Object.keys(script.sent).sort()).toEqual(["DataDigest", "HeaderDigest", "MaxRecvDataSegmentLength"]);
    expect(script.request).toMatchObject({ tsih: 0x77, cid: 3, cmdSn: 500, expStatSn: 101 });
  });

  it("keeps the values of the session; digests and segment lengths are the connection's own (§13, scope CO)", () => {
    const script = join({ headerDigest: "crc32c", offers: { maxRecvDataSegmentLength: 65_536 } });
    script.answer({ TargetPortalGroupTag: "2" });
    const step = script.answer({ ...script.agree(), MaxRecvDataSegmentLength: "4096" });
    expect(step).toMatchObject({ kind: "done", result: { tsih: 0x77, cmdSn: 500, targetPortalGroupTag: 2 } });
    if (step.kind !== "done") throw new Error("not done");
    expect(step.result.parameters).toEqual({
      ...session,
      headerDigest: "CRC32C",
      dataDigest: "None",
      initiatorMaxRecvDataSegmentLength: 65_536,
      targetMaxRecvDataSegmentLength: 4_096,
    });
    expect(step.result).toMatchObject({ isHeaderDigestUsed: true, isDataDigestUsed: false });
  });

  it("takes 8192 where the target declares no segment length, whatever the leading connection has (§13.12)", () => {
    const script = join();
    script.answer({});
    expect(script.finish().parameters.targetMaxRecvDataSegmentLength).toBe(
      DEFAULT_PARAMETERS.targetMaxRecvDataSegmentLength,
    );
  });

  it("answers Reject to a value of the session that the target wants to settle anew", () => {
    const script = join();
    script.answer({});
    script.answer({ ...script.agree(), MaxBurstLength: "512", ErrorRecoveryLevel: "0" }, { isTransit: false });
    expect(script.sent).toEqual({ MaxBurstLength: "Reject", ErrorRecoveryLevel: "Reject" });
    const step = script.answer({});
    expect(step).toMatchObject({
      kind: "done",
      result: { parameters: { maxBurstLength: 524_288, errorRecoveryLevel: 2 } },
    });
  });

  it("demands the session's TSIH in every response (§11.13.3)", () => {
    expect(code(() => join().answer({}, { tsih: 0x78 }))).toBe("LOGIN_PROTOCOL_ERROR");
    expect(code(() => join().answer({}, { tsih: 0 }))).toBe("LOGIN_PROTOCOL_ERROR");
    const late = join();
    late.answer({});
    expect(code(() => late.answer(late.agree(), { tsih: 0x78 }))).toBe("LOGIN_PROTOCOL_ERROR");
  });

  it("trap 45: refuses a portal of another portal group, with the groups named", () => {
    expect(code(() => join().answer({ TargetPortalGroupTag: "1" }))).toBe("LOGIN_PORTAL_GROUP_MISMATCH");
    expect(() => join().answer({ TargetPortalGroupTag: "1" })).toThrow(/portal group 1, the session is in 2/);
    const zero = join({ expectedPortalGroupTag: 0 });
    expect(code(() => zero.answer({ TargetPortalGroupTag: "1" }))).toBe("LOGIN_PORTAL_GROUP_MISMATCH");
  });

  it.each([
    [0x06, "LOGIN_TOO_MANY_CONNECTIONS", "never", /as many connections as the target allows.*lower the number/],
    [0x08, "LOGIN_CANNOT_INCLUDE_IN_SESSION", "other-path", /cannot span to this address.*one portal group/],
    [0x0a, "LOGIN_SESSION_DOES_NOT_EXIST", "never", /the session to be joined is gone.*open a new session/],
  ])("says what a refusal means for a join: class 2, detail %d", (statusDetail, expected, retry, message) => {
    const refuse = (): unknown => join().answer({}, { statusClass: 2, statusDetail, isTransit: false });
    expect(refuse).toThrow(message);
    expect(refuse).toThrow(expect.objectContaining({ code: expected, retry }));
  });

  it("authenticates for itself, with CHAP keys before any other (§9.2)", () => {
    const script = join({ chap: { user: "u", secret: Secret.from("initiator-secret") } });
    expect(script.sent["AuthMethod"]).toBe("CHAP,None");
    script.answer({ AuthMethod: "CHAP", TargetPortalGroupTag: "2" }, { isTransit: false });
    expect(script.sent).toEqual({ CHAP_A: "8,7,6,5" });
  });

  it("follows a redirect like any login", () => {
    const changes = { statusClass: 1, statusDetail: 1, isTransit: false };
    expect(join().answer({ TargetAddress: "10.0.0.2:3261" }, changes)).toMatchObject({
      kind: "redirect",
      redirect: { kind: "temporary", host: "10.0.0.2", port: 3261 },
    });
  });
});

describe("a login that restarts a connection", () => {
  it("carries the ExpStatSN of the old connection in its first request only (§11.12.9)", () => {
    const script = join({ cid: 0, oldExpStatSn: 0xffff_fff0 });
    expect(script.request).toMatchObject({ cid: 0, tsih: 0x77, expStatSn: 0xffff_fff0 });
    script.answer({ TargetPortalGroupTag: "2" });
    expect(script.request.expStatSn).toBe(101);
  });
});

describe("what makes no login", () => {
  it.each<[string, Partial<InitiatorLoginOptions>]>([
    ["a join without the session's parameters", { tsih: 0x77 }],
    ["a new session with the parameters of another", { sessionParameters: session }],
    ["a new session that restarts a connection", { oldExpStatSn: 5 }],
  ])("is %s", (_what, changes) => {
    expect(() => new InitiatorLogin(loginOptions(changes), { random: new SeededRandom(1) })).toThrow();
  });

  it("is a join to a discovery session, which has one connection (§4.3)", () => {
    const { targetName, ...options } = loginOptions({ sessionType: "Discovery", tsih: 1 });
    expect(targetName).toBeDefined();
    const attempt = (): unknown =>
      new InitiatorLogin({ ...options, sessionParameters: session }, { random: new SeededRandom(1) });
    expect(attempt).toThrow(/only a normal session/);
  });
});
