import { findKey, isReservedAnswer, KEYS } from "../../../src/login/keys.js";
import { DEFAULT_PARAMETERS } from "../../../src/login/parameters.js";

describe("the key table", () => {
  it("has every key of RFC 7143 §12.1, §13 and RFC 7144 §7 once, each with its section", () => {
    const expected = [
      ["AuthMethod", "12.1"],
      ["CHAP_A", "12.1.3"],
      ["CHAP_C", "12.1.3"],
      ["CHAP_I", "12.1.3"],
      ["CHAP_N", "12.1.3"],
      ["CHAP_R", "12.1.3"],
      ["HeaderDigest", "13.1"],
      ["DataDigest", "13.1"],
      ["MaxConnections", "13.2"],
      ["SendTargets", "13.3"],
      ["TargetName", "13.4"],
      ["InitiatorName", "13.5"],
      ["TargetAlias", "13.6"],
      ["InitiatorAlias", "13.7"],
      ["TargetAddress", "13.8"],
      ["TargetPortalGroupTag", "13.9"],
      ["InitialR2T", "13.10"],
      ["ImmediateData", "13.11"],
      ["MaxRecvDataSegmentLength", "13.12"],
      ["MaxBurstLength", "13.13"],
      ["FirstBurstLength", "13.14"],
      ["DefaultTime2Wait", "13.15"],
      ["DefaultTime2Retain", "13.16"],
      ["MaxOutstandingR2T", "13.17"],
      ["DataPDUInOrder", "13.18"],
      ["DataSequenceInOrder", "13.19"],
      ["ErrorRecoveryLevel", "13.20"],
      ["SessionType", "13.21"],
      ["TaskReporting", "13.23"],
      ["IFMarker", "13.25"],
      ["OFMarker", "13.25"],
      ["IFMarkInt", "13.25"],
      ["OFMarkInt", "13.25"],
      ["X#NodeArchitecture", "13.26"],
    ] as const;
    for (const [name, section] of expected) expect(findKey(name)?.section).toBe(`RFC 7143 §${section}`);
    expect(findKey("iSCSIProtocolLevel")?.section).toBe("RFC 7144 §7.1.1");
    expect(new Set(KEYS.map((key) => key.name)).size).toBe(KEYS.length);
    for (const key of KEYS) expect(key.section).toMatch(/^RFC 714[34] §\d/);
  });

  it.each([
    ["MaxConnections", 1, 65_535, "minimum", "1", "LO", "SW"],
    ["MaxRecvDataSegmentLength", 512, 16_777_215, "declared", "8192", "ALL", "CO"],
    ["MaxBurstLength", 512, 16_777_215, "minimum", "262144", "LO", "SW"],
    ["FirstBurstLength", 512, 16_777_215, "minimum", "65536", "LO", "SW"],
    ["DefaultTime2Wait", 0, 3600, "maximum", "2", "LO", "SW"],
    ["DefaultTime2Retain", 0, 3600, "minimum", "20", "LO", "SW"],
    ["MaxOutstandingR2T", 1, 65_535, "minimum", "1", "LO", "SW"],
    ["ErrorRecoveryLevel", 0, 2, "minimum", "0", "LO", "SW"],
    ["iSCSIProtocolLevel", 0, 31, "minimum", "1", "LO", "SW"],
  ])("%s: %d to %d, %s, default %s, %s, %s", (name, minimum, maximum, result, defaultValue, use, scope) => {
    expect(findKey(name)).toMatchObject({
      type: { kind: "number", minimum, maximum, result },
      defaultValue,
      use,
      scope,
    });
  });

  it.each([
    ["InitialR2T", "OR"],
    ["ImmediateData", "AND"],
    ["DataPDUInOrder", "OR"],
    ["DataSequenceInOrder", "OR"],
  ])("%s: Boolean %s, default Yes", (name, result) => {
    expect(findKey(name)).toMatchObject({ type: { kind: "boolean", result }, defaultValue: "Yes", use: "LO" });
  });

  it("marks as Any-Stage exactly the declarations that §13 marks", () => {
    const anyStage = KEYS.filter((key) => key.isAnyStage && key.use !== "security").map((key) => key.name);
    expect(anyStage.sort()).toEqual(
      [
        ...["InitiatorAlias", "InitiatorName", "SessionType", "TargetAddress"],
        ...["TargetAlias", "TargetName", "TargetPortalGroupTag"],
      ].sort(),
    );
  });

  it("marks as irrelevant to discovery exactly what the RFCs mark", () => {
    const irrelevant = KEYS.filter((key) => key.irrelevantWhen !== undefined).map((key) => key.name);
    expect(irrelevant.sort()).toEqual(
      [
        ...["DataPDUInOrder", "DataSequenceInOrder", "FirstBurstLength", "ImmediateData", "InitialR2T"],
        ...["MaxBurstLength", "MaxConnections", "MaxOutstandingR2T", "TaskReporting", "iSCSIProtocolLevel"],
      ].sort(),
    );
  });

  it("agrees with the default parameters", () => {
    expect(Number(findKey("MaxBurstLength")?.defaultValue)).toBe(DEFAULT_PARAMETERS.maxBurstLength);
    expect(Number(findKey("FirstBurstLength")?.defaultValue)).toBe(DEFAULT_PARAMETERS.firstBurstLength);
    expect(Number(findKey("DefaultTime2Retain")?.defaultValue)).toBe(DEFAULT_PARAMETERS.defaultTime2Retain);
    expect(findKey("TaskReporting")?.defaultValue).toBe(DEFAULT_PARAMETERS.taskReporting);
  });

  it("knows keys by exact spelling, and the three answers that are no values", () => {
    expect(findKey("maxburstlength")).toBeUndefined();
    expect(findKey("X-com.example.key")).toBeUndefined();
    expect(["NotUnderstood", "Irrelevant", "Reject", "None", "Yes"].filter(isReservedAnswer)).toEqual([
      "NotUnderstood",
      "Irrelevant",
      "Reject",
    ]);
  });
});
