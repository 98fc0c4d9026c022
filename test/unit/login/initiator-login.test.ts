import { Secret } from "../../../src/base/secret.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { encodePdu, NO_DIGESTS } from "../../../src/wire/encode.js";
import { InitiatorLogin } from "../../../src/login/initiator-login.js";
import { DEFAULT_PARAMETERS } from "../../../src/login/parameters.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
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

describe("a login without CHAP", () => {
  it("begins in the security stage with None and moves on by itself", () => {
    const script = new ScriptedLogin({ initiatorAlias: "host 1" });
    expect(script.sent).toEqual({
      InitiatorName: "iqn.2026-01.dev.hawser:test",
      InitiatorAlias: "host 1",
      TargetName: "iqn.2026-01.dev.hawser:target",
      SessionType: "Normal",
      AuthMethod: "None",
    });
    expect(script.request).toMatchObject({
      isTransit: true,
      currentStage: 0,
      nextStage: 1,
      expStatSn: 0,
      cmdSn: 5,
      tsih: 0,
    });

    script.answer({ TargetPortalGroupTag: "3", TargetAlias: "disk", AuthMethod: "None" });
    expect(script.request).toMatchObject({ isTransit: true, currentStage: 1, nextStage: 3, expStatSn: 101 });
    expect(script.sent).toMatchObject({ HeaderDigest: "None", MaxRecvDataSegmentLength: "262144", InitialR2T: "No" });

    const result = script.finish();
    expect(result).toMatchObject({
      tsih: 0x77,
      targetPortalGroupTag: 3,
      targetAlias: "disk",
      nextExpStatSn: 102,
      cmdSn: 5,
      expCmdSn: 5,
      maxCmdSn: 36,
      authMethod: "None",
      isHeaderDigestUsed: false,
      warnings: [],
    });
    expect(result.parameters).toMatchObject({ initialR2T: false, immediateData: true, maxOutstandingR2T: 16 });
  });

  it("can begin in the operational stage", () => {
    const script = new ScriptedLogin({ isSecurityStageSkipped: true });
    expect(script.request).toMatchObject({ isTransit: true, currentStage: 1, nextStage: 3 });
    expect(script.sent["AuthMethod"]).toBeUndefined();
    expect(script.finish().tsih).toBe(0x77);
  });

  it("asks for the transit again when the target holds back, and answers what the target proposes", () => {
    const script = new ScriptedLogin();
    script.answer({}, { isTransit: false });
    expect(script.request).toMatchObject({ isTransit: true, currentStage: 0, nextStage: 1 });
    expect(script.sent).toEqual({});
    script.answer({});
    const agreed = script.agree();
    script.answer(
      { ...agreed, "X-com.example.a": "1", IFMarker: "No", MaxRecvDataSegmentLength: "65536" },
      { isTransit: false },
    );
    expect(script.sent).toEqual({ "X-com.example.a": "NotUnderstood", IFMarker: "Reject" });
    expect(script.request).toMatchObject({ isTransit: true, nextStage: 3 });
    const step = script.answer({});
    expect(step).toMatchObject({ kind: "done", result: { parameters: { targetMaxRecvDataSegmentLength: 65_536 } } });
  });

  it("leaves out the target in discovery, and all but the bare minimum of keys", () => {
    const { targetName, ...options } = loginOptions();
    expect(targetName).toBeDefined();
    const login = new InitiatorLogin({ ...options, sessionType: "Discovery" }, { random: new SeededRandom(1) });
    const text = login.start().data.toString();
    expect(text).toContain("SessionType=Discovery\0");
    expect(text).not.toContain("TargetName");
  });

  it("joins a session with its TSIH, without keys of the leading login, and keeps the session's parameters", () => {
    const leading = new ScriptedLogin();
    leading.answer({});
    const { parameters } = leading.finish();
    const script = new ScriptedLogin({ tsih: 0x77, cid: 2, sessionParameters: parameters });
    expect(script.sent["SessionType"]).toBeUndefined();
    script.answer({});
    expect(Object.keys(script.sent).sort()).toEqual(["DataDigest", "HeaderDigest", "MaxRecvDataSegmentLength"]);
    const result = script.finish();
    expect(result.tsih).toBe(0x77);
    expect(result.parameters.maxOutstandingR2T).toBe(16);
  });

  it("switches both digests on when they were agreed on", () => {
    const script = new ScriptedLogin({ headerDigest: "crc32c", dataDigest: "prefer-crc32c" });
    script.answer({});
    expect(script.sent).toMatchObject({ HeaderDigest: "CRC32C", DataDigest: "CRC32C,None" });
    expect(script.finish()).toMatchObject({ isHeaderDigestUsed: true, isDataDigestUsed: true });
  });

  it("reads the first request from bytes laid out by hand from the figure of RFC 7143 §11.12", () => {
    const login = new InitiatorLogin(
      loginOptions({ initiatorName: "iqn.2026-01.a:b", targetName: "iqn.2026-01.a:c" }),
      {
        random: new SeededRandom(1),
      },
    );
    const text = "InitiatorName=iqn.2026-01.a:b\0TargetName=iqn.2026-01.a:c\0SessionType=Normal\0AuthMethod=None\0";
    const header = [
      "43", // I = 1, opcode 0x03
      "81", // T = 1, C = 0, CSG = 0, NSG = 1
      "0000", // Version-max, Version-min
      "00", // TotalAHSLength
      `0000${text.length.toString(16)}`, // DataSegmentLength
      "80a1b2c30001", // ISID
      "0000", // TSIH
      "00001234", // Initiator Task Tag
      "00010000", // CID, reserved
      "00000005", // CmdSN
      "00000000", // ExpStatSN
      "00".repeat(16),
    ].join("");
    const padding = "00".repeat((4 - (text.length % 4)) % 4);
    const expected = header + Buffer.from(text).toString("hex") + padding;
    expect(Buffer.concat(encodePdu(login.start(), NO_DIGESTS)).toString("hex")).toBe(expected);

    // The answer likewise: §11.13.
    const answerText = "TargetPortalGroupTag=1\0AuthMethod=None\0";
    const answerHeader = Buffer.from(
      [
        "23",
        "81",
        "0000",
        "00",
        `0000${answerText.length.toString(16)}`,
        "80a1b2c30001",
        "0000",
        "00001234",
        "00000000",
      ]
        .concat(["00000007", "00000005", "00000024", "0000", "0000", "00".repeat(8)])
        .join(""),
      "hex",
    );
    const pdu = decodePdu(answerHeader, undefined, Buffer.from(answerText));
    if (pdu.type !== "login-response") throw new Error("no login response");
    expect(login.receive(pdu)).toMatchObject({ kind: "send", pdu: { currentStage: 1, nextStage: 3, expStatSn: 8 } });
  });
});

describe("text over several PDUs (C bit)", () => {
  it("takes the target's text in pieces, split anywhere, asking with empty requests", () => {
    const script = new ScriptedLogin();
    script.answer({});
    const agreed = script.agree();
    const whole = script.response(agreed).data;
    let step = script.answer({}, { isTransit: false, isContinued: true, data: whole.subarray(0, 5), statSn: 101 });
    expect(step).toMatchObject({ kind: "send", pdu: { isTransit: false, isContinued: false, currentStage: 1 } });
    expect(script.request.data).toHaveLength(0);
    step = script.answer({}, { isContinued: true, data: whole.subarray(5, 60), statSn: 102 });
    expect(script.request).toMatchObject({ isTransit: false });
    step = script.answer({}, { data: whole.subarray(60), statSn: 103 });
    expect(script.request).toMatchObject({ isTransit: true, nextStage: 3 });
    step = script.answer({}, { statSn: 104 });
    expect(step.kind).toBe("done");
  });

  it("sends its own long text in pieces of 8192 bytes and wants empty answers between", () => {
    const script = new ScriptedLogin();
    script.answer({});
    const proposals = Array.from(
      { length: 400 },
      (_, index) => [`X-com.example.${index}.${"k".repeat(30)}`, "1"] as const,
    );
    script.answer([...Object.entries(script.agree()), ...proposals], { isTransit: false });
    expect(script.request).toMatchObject({ isContinued: true, isTransit: false });
    expect(script.request.data).toHaveLength(8192);
    const parts = [script.request.data];
    while (script.request.isContinued) {
      script.answer({});
      parts.push(script.request.data);
    }
    expect(script.request).toMatchObject({ isTransit: true, nextStage: 3 });
    expect(Buffer.concat(parts).toString().split("=NotUnderstood\0")).toHaveLength(401);
    expect(script.answer({}).kind).toBe("done");
  });

  it("refuses text between the pieces of its own", () => {
    const script = new ScriptedLogin();
    script.answer({});
    const proposals = Array.from(
      { length: 400 },
      (_, index) => [`X-com.example.${index}.${"k".repeat(30)}`, "1"] as const,
    );
    script.answer([...Object.entries(script.agree()), ...proposals], { isTransit: false });
    expect(code(() => script.answer({ TargetAlias: "x" }))).toBe("LOGIN_PROTOCOL_ERROR");
  });

  it("bounds what a target may send in one login", () => {
    const script = new ScriptedLogin();
    script.answer({});
    const flood = (): unknown =>
      script.answer({}, { isTransit: false, isContinued: true, data: Buffer.alloc(8192, 0x41) });
    expect(
      code(() => {
        for (let piece = 0; piece < 9; piece += 1) flood();
      }),
    ).toBe("LOGIN_PROTOCOL_ERROR");
  });
});

describe("rules that a target may break", () => {
  it.each([
    ["another Initiator Task Tag", { initiatorTaskTag: 1 }],
    ["another ISID", { isid: Buffer.from("80a1b2c30002", "hex") }],
    ["another version", { versionActive: 1 }],
    ["a TSIH before the end", { tsih: 9 }],
    ["another stage", { currentStage: 1 as const, nextStage: 3 as const }],
    ["a stage we did not propose", { nextStage: 3 as const }],
    ["T and C at once", { isContinued: true }],
  ])("refuses %s", (_title, changes) => {
    const script = new ScriptedLogin();
    expect(code(() => script.answer({}, changes))).toBe("LOGIN_PROTOCOL_ERROR");
    expect(() => script.answer({})).toThrow("between its start and its end");
  });

  it("refuses a gap in StatSN", () => {
    const script = new ScriptedLogin();
    script.answer({});
    expect(code(() => script.answer({}, { statSn: 102 }))).toBe("LOGIN_PROTOCOL_ERROR");
  });

  it("wraps StatSN", () => {
    const script = new ScriptedLogin();
    script.answer({}, { statSn: 0xffff_ffff });
    expect(script.request.expStatSn).toBe(0);
    expect(script.answer(script.agree(), { statSn: 0 })).toMatchObject({ kind: "done", result: { nextExpStatSn: 1 } });
  });

  it("refuses a transit it did not ask for, TSIH 0 at the end, and a final response that asks for answers", () => {
    const unasked = new ScriptedLogin({ chap: chap() });
    expect(code(() => unasked.answer({}, { isTransit: true, nextStage: 1 }))).toBe("LOGIN_PROTOCOL_ERROR");
    const nameless = new ScriptedLogin();
    nameless.answer({});
    expect(code(() => nameless.answer(nameless.agree(), { tsih: 0 }))).toBe("LOGIN_PROTOCOL_ERROR");
    const asking = new ScriptedLogin({ tsih: 5, sessionParameters: DEFAULT_PARAMETERS });
    asking.answer({});
    expect(code(() => asking.answer({ ...asking.agree(), MaxBurstLength: "512" }))).toBe("LOGIN_PROTOCOL_ERROR");
  });

  it("refuses an end without answers", () => {
    const script = new ScriptedLogin();
    script.answer({});
    expect(code(() => script.answer({}))).toBe("NEGOTIATION_INCOMPLETE");
  });

  it("gives up on a target that never ends", () => {
    const script = new ScriptedLogin();
    expect(
      code(() => {
        for (let exchange = 0; exchange < 40; exchange += 1) script.answer({}, { isTransit: false });
      }),
    ).toBe("LOGIN_TOO_MANY_EXCHANGES");
  });

  it("checks the portal group that discovery named; 0 is a tag like others", () => {
    const wrong = new ScriptedLogin({ expectedPortalGroupTag: 1 });
    expect(code(() => wrong.answer({ TargetPortalGroupTag: "2" }))).toBe("LOGIN_PORTAL_GROUP_MISMATCH");
    const right = new ScriptedLogin({ expectedPortalGroupTag: 0 });
    right.answer({ TargetPortalGroupTag: "0" });
    expect(right.finish().targetPortalGroupTag).toBe(0);
  });

  it("refuses security keys in the operational stage, and keys twice", () => {
    const late = new ScriptedLogin();
    late.answer({});
    expect(code(() => late.answer({ AuthMethod: "None" }))).toBe("NEGOTIATION_KEY_NOT_ALLOWED");
    const twice = new ScriptedLogin();
    twice.answer({ TargetPortalGroupTag: "1" });
    expect(code(() => twice.answer({ ...twice.agree(), TargetPortalGroupTag: "1" }))).toBe("NEGOTIATION_KEY_REPEATED");
  });
});

describe("the end by a status", () => {
  it.each([
    [1, "temporary"],
    [2, "permanent"],
  ])("follows the redirect 010%d as %s, at any time", (statusDetail, kind) => {
    const changes = { statusClass: 1, statusDetail, isTransit: false, statSn: 0, isid: Buffer.alloc(6) };
    const early = new ScriptedLogin({ chap: chap() });
    expect(early.answer({ TargetAddress: "[fd00::1]:3261" }, changes)).toEqual({
      kind: "redirect",
      redirect: { kind, host: "fd00::1", port: 3261 },
    });
    const late = new ScriptedLogin();
    late.answer({});
    expect(late.answer({ TargetAddress: "storage2.example.com" }, changes)).toEqual({
      kind: "redirect",
      redirect: { kind, host: "storage2.example.com", port: 3260 },
    });
  });

  it("refuses a redirect that leads nowhere", () => {
    const changes = { statusClass: 1, statusDetail: 1, isTransit: false };
    expect(code(() => new ScriptedLogin().answer({}, changes))).toBe("LOGIN_PROTOCOL_ERROR");
    expect(code(() => new ScriptedLogin().answer({ TargetAddress: "::1" }, changes))).toBe("TARGET_ADDRESS_INVALID");
  });

  it("names the target and the reason", () => {
    const script = new ScriptedLogin();
    expect(() => script.answer({}, { statusClass: 2, statusDetail: 2 })).toThrow(
      "login to iqn.2026-01.dev.hawser:target failed: this initiator may not use the target (status 0x0202)",
    );
  });
});

function chap() {
  return { user: "u", secret: Secret.from("initiator-secret") };
}
