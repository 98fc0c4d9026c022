import type { NegotiatorOptions, OperationalPreferences, TextPairs } from "../../../src/login/negotiate.js";
import { DEFAULT_PREFERENCES, NegotiationError, Negotiator } from "../../../src/login/negotiate.js";
import { DEFAULT_PARAMETERS } from "../../../src/login/parameters.js";

type Changes = Partial<Omit<NegotiatorOptions, "preferences">> & {
  readonly preferences?: Partial<OperationalPreferences>;
};

function create({ preferences, ...options }: Changes = {}): Negotiator {
  return new Negotiator({
    role: "target",
    sessionType: "Normal",
    isLeading: true,
    ...options,
    preferences: { ...DEFAULT_PREFERENCES, ...preferences },
  });
}

const answer = (key: string, value: string, changes: Changes = {}): string | undefined =>
  create(changes)
    .receive([[key, value]], "operational")
    .answers.find(([name]) => name === key)?.[1];

function code(act: () => unknown): string | undefined {
  try {
    act();
  } catch (error) {
    if (error instanceof NegotiationError) return error.code;
    throw error;
  }
  return undefined;
}

describe("an acceptor", () => {
  it.each<[string, string, string, Partial<OperationalPreferences>]>([
    ["MaxBurstLength", "1000", "1000", { maxBurstLength: 4096 }],
    ["MaxBurstLength", "16777215", "4096", { maxBurstLength: 4096 }],
    ["MaxBurstLength", "0x1000", "4096", { maxBurstLength: 8192 }],
    ["MaxConnections", "8", "2", { maxConnections: 2 }],
    ["MaxOutstandingR2T", "65535", "16", {}],
    ["DefaultTime2Wait", "0", "2", { defaultTime2Wait: 2 }],
    ["DefaultTime2Wait", "30", "30", { defaultTime2Wait: 2 }],
    ["DefaultTime2Retain", "30", "20", {}],
    ["ErrorRecoveryLevel", "2", "1", { errorRecoveryLevel: 1 }],
    ["InitialR2T", "No", "No", { initialR2T: false }],
    ["InitialR2T", "No", "Yes", { initialR2T: true }],
    ["InitialR2T", "Yes", "Yes", { initialR2T: false }],
    ["ImmediateData", "Yes", "Yes", { immediateData: true }],
    ["ImmediateData", "Yes", "No", { immediateData: false }],
    ["ImmediateData", "No", "No", { immediateData: true }],
    ["HeaderDigest", "CRC32C,None", "CRC32C", { headerDigest: ["None", "CRC32C"] }],
    ["HeaderDigest", "None,CRC32C", "None", { headerDigest: ["CRC32C", "None"] }],
    ["DataDigest", "Z-com.example.sum,CRC32C", "CRC32C", { dataDigest: ["CRC32C"] }],
    [
      "TaskReporting",
      "FastAbort,ResponseFence,RFC3720",
      "ResponseFence",
      { taskReporting: ["RFC3720", "ResponseFence"] },
    ],
    ["iSCSIProtocolLevel", "2", "1", {}],
  ])("answers %s=%s with %s", (key, offered, expected, preferences) => {
    expect(answer(key, offered, { preferences })).toBe(expected);
  });

  it.each([
    ["MaxBurstLength", "511"],
    ["MaxBurstLength", "16777216"],
    ["MaxBurstLength", "01000"],
    ["MaxBurstLength", "-1"],
    ["MaxBurstLength", "1e5"],
    ["MaxBurstLength", ""],
    ["MaxBurstLength", "512~1024"],
    ["MaxConnections", "0"],
    ["DefaultTime2Wait", "3601"],
    ["ErrorRecoveryLevel", "3"],
    ["ErrorRecoveryLevel", "99999999999999999999"],
    ["InitialR2T", "yes"],
    ["ImmediateData", "1"],
    ["HeaderDigest", "CRC32C"],
    ["HeaderDigest", ""],
    ["IFMarker", "Yes"],
    ["OFMarker", "No"],
    ["IFMarkInt", "1~65535"],
    ["OFMarkInt", "2048"],
  ])("rejects %s=%s and keeps the value it had", (key, offered) => {
    const negotiator = create();
    expect(negotiator.receive([[key, offered]], "operational").answers).toEqual([[key, "Reject"]]);
    expect(negotiator.result()).toEqual(DEFAULT_PARAMETERS);
  });

  it("answers NotUnderstood to keys nobody defined, and never to those that are", () => {
    expect(answer("X-com.example.turbo", "1")).toBe("NotUnderstood");
    expect(answer("maxburstlength", "512")).toBe("NotUnderstood");
    expect(answer("toString", "1")).toBe("NotUnderstood");
  });

  it("answers Irrelevant in discovery to what §13 calls irrelevant there, but negotiates the rest", () => {
    expect(answer("MaxBurstLength", "65536", { sessionType: "Discovery" })).toBe("Irrelevant");
    expect(answer("InitialR2T", "No", { sessionType: "Discovery" })).toBe("Irrelevant");
    expect(answer("DefaultTime2Wait", "5", { sessionType: "Discovery" })).toBe("5");
    expect(answer("HeaderDigest", "None", { sessionType: "Discovery" })).toBe("None");
    const preferences = { errorRecoveryLevel: 2, maxConnections: 8 } as const;
    expect(answer("ErrorRecoveryLevel", "2", { sessionType: "Discovery", preferences })).toBe("0");
    expect(answer("MaxConnections", "4", { sessionType: "Discovery", preferences })).toBe("Irrelevant");
  });

  it("calls FirstBurstLength irrelevant without unsolicited data, in whatever order the keys came (§13.14)", () => {
    const { answers } = create({ preferences: { initialR2T: true, immediateData: false } }).receive(
      [
        ["FirstBurstLength", "4192"],
        ["InitialR2T", "No"],
        ["ImmediateData", "Yes"],
      ],
      "operational",
    );
    expect(Object.fromEntries(answers)).toEqual({
      InitialR2T: "Yes",
      ImmediateData: "No",
      FirstBurstLength: "Irrelevant",
    });
  });

  it("keeps FirstBurstLength within MaxBurstLength, in whatever order the keys came", () => {
    const negotiator = create();
    const { answers } = negotiator.receive(
      [
        ["FirstBurstLength", "262144"],
        ["MaxBurstLength", "8192"],
      ],
      "operational",
    );
    expect(Object.fromEntries(answers)).toEqual({ FirstBurstLength: "8192", MaxBurstLength: "8192" });
    expect(negotiator.result()).toMatchObject({ firstBurstLength: 8192, maxBurstLength: 8192 });
  });

  it("allows one R2T when recovery and ordered sequences meet (§13.19)", () => {
    const preferences = { errorRecoveryLevel: 2, maxOutstandingR2T: 8, dataSequenceInOrder: false } as const;
    const r2t = (pairs: TextPairs): string | undefined =>
      Object.fromEntries(create({ preferences }).receive(pairs, "operational").answers)["MaxOutstandingR2T"];
    const offer = ["MaxOutstandingR2T", "16"] as const;
    const level = ["ErrorRecoveryLevel", "1"] as const;
    expect(r2t([offer, level, ["DataSequenceInOrder", "Yes"]])).toBe("1");
    expect(r2t([offer, level, ["DataSequenceInOrder", "No"]])).toBe("8");
    expect(r2t([offer, ["ErrorRecoveryLevel", "0"], ["DataSequenceInOrder", "Yes"]])).toBe("8");
  });

  it("says when an answer must be heard before the stage ends", () => {
    const required = (key: string, value: string): boolean =>
      create().receive([[key, value]], "operational").isAnswerRequired;
    expect(required("MaxBurstLength", "512")).toBe(true);
    expect(required("InitialR2T", "No")).toBe(true);
    expect(required("InitialR2T", "Yes")).toBe(false);
    expect(required("ImmediateData", "No")).toBe(false);
    expect(required("X-com.example.a", "1")).toBe(false);
    expect(required("MaxRecvDataSegmentLength", "512")).toBe(false);
  });

  it("leaves session-wide keys alone on a connection that joins a session", () => {
    const current = { ...DEFAULT_PARAMETERS, maxBurstLength: 512_000 };
    const negotiator = create({ isLeading: false, current });
    const { answers } = negotiator.receive(
      [
        ["MaxBurstLength", "4096"],
        ["HeaderDigest", "None"],
        ["MaxRecvDataSegmentLength", "65536"],
      ],
      "operational",
    );
    expect(Object.fromEntries(answers)).toEqual({ MaxBurstLength: "Reject", HeaderDigest: "None" });
    expect(negotiator.result()).toMatchObject({ maxBurstLength: 512_000, initiatorMaxRecvDataSegmentLength: 65_536 });
  });

  it("refuses a login that ends without the digest it demands", () => {
    const negotiator = create({ preferences: { headerDigest: ["CRC32C"] } });
    negotiator.receive([["HeaderDigest", "None"]], "operational");
    expect(code(() => negotiator.result())).toBe("NEGOTIATION_UNACCEPTABLE");
  });
});

describe("both roles", () => {
  it.each<[string, TextPairs, string]>([
    [
      "a key twice",
      [
        ["MaxBurstLength", "512"],
        ["MaxBurstLength", "512"],
      ],
      "NEGOTIATION_KEY_REPEATED",
    ],
    [
      "an unknown key twice",
      [
        ["X-a", "1"],
        ["X-a", "1"],
      ],
      "NEGOTIATION_KEY_REPEATED",
    ],
    [
      "a declaration twice",
      [
        ["InitiatorAlias", "a"],
        ["InitiatorAlias", "a"],
      ],
      "NEGOTIATION_KEY_REPEATED",
    ],
    ["a reserved word as proposal", [["MaxBurstLength", "Reject"]], "NEGOTIATION_RESERVED_VALUE"],
    ["an answer to nothing", [["X-a", "NotUnderstood"]], "NEGOTIATION_RESERVED_VALUE"],
    ["a key of the target", [["TargetAlias", "x"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["a security key", [["CHAP_N", "x"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["a key of full feature phase", [["SendTargets", "All"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["a declaration out of range", [["MaxRecvDataSegmentLength", "511"]], "NEGOTIATION_VALUE_INVALID"],
    ["a session type nobody knows", [["SessionType", "Boot"]], "NEGOTIATION_VALUE_INVALID"],
    ["an alias too long", [["InitiatorAlias", "ä".repeat(128)]], "NEGOTIATION_VALUE_INVALID"],
  ])("refuse %s", (_title, pairs, expected) => {
    expect(code(() => create().receive(pairs, "operational"))).toBe(expected);
  });

  it("refuse a key sent again in a later exchange of the login", () => {
    const negotiator = create();
    negotiator.receive([["MaxBurstLength", "512"]], "operational");
    expect(code(() => negotiator.receive([["MaxBurstLength", "512"]], "operational"))).toBe("NEGOTIATION_KEY_REPEATED");
  });

  it("allow only Any-Stage keys in the security stage", () => {
    expect(code(() => create().receive([["HeaderDigest", "None"]], "security"))).toBe("NEGOTIATION_KEY_NOT_ALLOWED");
    expect(code(() => create().receive([["InitiatorName", "iqn.2026-01.x:y"]], "security"))).toBeUndefined();
  });

  it("renegotiate in full feature phase only what may be", () => {
    const negotiator = create({ current: { ...DEFAULT_PARAMETERS, maxBurstLength: 4096 } });
    negotiator.receive([["MaxRecvDataSegmentLength", "131072"]], "full-feature");
    expect(negotiator.result()).toMatchObject({ initiatorMaxRecvDataSegmentLength: 131_072, maxBurstLength: 4096 });
    expect(code(() => create().receive([["MaxBurstLength", "512"]], "full-feature"))).toBe(
      "NEGOTIATION_KEY_NOT_ALLOWED",
    );
    expect(code(() => create().receive([["HeaderDigest", "None"]], "full-feature"))).toBe(
      "NEGOTIATION_KEY_NOT_ALLOWED",
    );
  });

  it("keep TargetAddress as often as it comes", () => {
    const negotiator = create({ role: "initiator" });
    negotiator.receive(
      [
        ["TargetAddress", "10.0.0.1:3260,1"],
        ["TargetAddress", "10.0.0.2:3260,1"],
      ],
      "operational",
    );
    expect(negotiator.declared("TargetAddress")).toEqual(["10.0.0.1:3260,1", "10.0.0.2:3260,1"]);
  });
});
