import type { NegotiatorOptions, OperationalPreferences } from "../../../src/login/negotiate.js";
import { DEFAULT_PREFERENCES, digestPreference, NegotiationError, Negotiator } from "../../../src/login/negotiate.js";

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

function code(act: () => unknown): string | undefined {
  try {
    act();
  } catch (error) {
    if (error instanceof NegotiationError) return error.code;
    throw error;
  }
  return undefined;
}

/** An initiator that made its offers, answered with `pairs` for some keys and its own values for all others. */
function answered(pairs: Readonly<Record<string, string>>, changes: Changes = {}): Negotiator {
  const negotiator = create({ role: "initiator", ...changes });
  const offers = negotiator.offers().filter(([name]) => name !== "MaxRecvDataSegmentLength");
  negotiator.receive(
    offers.map(([name, value]) => [name, pairs[name] ?? value.split(",")[0] ?? ""] as const),
    "operational",
  );
  return negotiator;
}

describe("a proposer", () => {
  it("offers every key of the session once, and TaskReporting and iSCSIProtocolLevel only when they differ", () => {
    const negotiator = create({ role: "initiator" });
    const names = negotiator.offers().map(([name]) => name);
    expect(names.sort()).toEqual(
      [
        ...["MaxRecvDataSegmentLength", "HeaderDigest", "DataDigest", "MaxConnections", "InitialR2T", "ImmediateData"],
        ...["MaxBurstLength", "FirstBurstLength", "DefaultTime2Wait", "DefaultTime2Retain", "MaxOutstandingR2T"],
        ...["DataPDUInOrder", "DataSequenceInOrder", "ErrorRecoveryLevel"],
      ].sort(),
    );
    expect(negotiator.offers()).toEqual([]);
    const modern = create({
      role: "initiator",
      preferences: { taskReporting: ["ResponseFence", "RFC3720"], iscsiProtocolLevel: 2 },
    });
    expect(Object.fromEntries(modern.offers())).toMatchObject({
      TaskReporting: "ResponseFence,RFC3720",
      iSCSIProtocolLevel: "2",
    });
  });

  it("offers next to nothing in discovery, and no digest", () => {
    expect(create({ role: "initiator", sessionType: "Discovery" }).offers()).toEqual([
      ["MaxRecvDataSegmentLength", "262144"],
    ]);
  });

  it("offers only connection keys when it joins a session", () => {
    const names = create({ role: "initiator", isLeading: false })
      .offers()
      .map(([name]) => name);
    expect(names).toEqual(["MaxRecvDataSegmentLength", "HeaderDigest", "DataDigest"]);
  });

  it("a target only declares", () => {
    expect(create({ role: "target" }).offers()).toEqual([["MaxRecvDataSegmentLength", "262144"]]);
  });

  it("takes the answers as the result", () => {
    const negotiator = answered(
      {
        MaxBurstLength: "65536",
        FirstBurstLength: "32768",
        InitialR2T: "Yes",
        DefaultTime2Wait: "7",
        HeaderDigest: "CRC32C",
      },
      { preferences: { headerDigest: digestPreference("prefer-crc32c") } },
    );
    negotiator.receive([["MaxRecvDataSegmentLength", "0x20000"]], "operational");
    expect(negotiator.result()).toMatchObject({
      maxBurstLength: 65_536,
      firstBurstLength: 32_768,
      initialR2T: true,
      defaultTime2Wait: 7,
      headerDigest: "CRC32C",
      initiatorMaxRecvDataSegmentLength: 262_144,
      targetMaxRecvDataSegmentLength: 131_072,
    });
    expect(Object.isFrozen(negotiator.result())).toBe(true);
  });

  it.each([
    ["MaxBurstLength", "1048577"],
    ["MaxBurstLength", "511"],
    ["MaxBurstLength", "many"],
    ["DefaultTime2Wait", "1"],
    ["HeaderDigest", "CRC32C"],
    ["HeaderDigest", "None,CRC32C"],
    ["DataPDUInOrder", "No"],
    ["InitialR2T", "Maybe"],
  ])("refuses the answer %s=%s", (key, value) => {
    expect(code(() => answered({ [key]: value }))).toBe("NEGOTIATION_VALUE_NOT_OFFERED");
  });

  it("refuses ImmediateData=Yes after it said No", () => {
    expect(code(() => answered({ ImmediateData: "Yes" }, { preferences: { immediateData: false } }))).toBe(
      "NEGOTIATION_VALUE_NOT_OFFERED",
    );
  });

  it("takes Reject and Irrelevant as: the value stays", () => {
    expect(answered({ MaxBurstLength: "Reject", MaxOutstandingR2T: "Irrelevant" }).result()).toMatchObject({
      maxBurstLength: 262_144,
      maxOutstandingR2T: 1,
    });
  });

  it("takes NotUnderstood for young keys only", () => {
    const preferences = { taskReporting: ["FastAbort", "ResponseFence", "RFC3720"] } as const;
    expect(answered({ TaskReporting: "NotUnderstood" }, { preferences }).result().taskReporting).toBe("RFC3720");
    expect(code(() => answered({ MaxBurstLength: "NotUnderstood" }))).toBe("NEGOTIATION_NOT_UNDERSTOOD");
    const silent = create({ role: "initiator" });
    silent.noteDeclared("InitiatorAlias");
    expect(code(() => silent.receive([["InitiatorAlias", "NotUnderstood"]], "security"))).toBeUndefined();
    silent.noteDeclared("InitiatorName");
    expect(code(() => silent.receive([["InitiatorName", "NotUnderstood"]], "security"))).toBe(
      "NEGOTIATION_NOT_UNDERSTOOD",
    );
  });

  it("says what a digest that was demanded and refused means", () => {
    const demanded = { preferences: { dataDigest: digestPreference("crc32c") } };
    expect(code(() => answered({ DataDigest: "None" }, demanded).result())).toBe("NEGOTIATION_UNACCEPTABLE");
    expect(code(() => answered({ DataDigest: "Reject" }, demanded).result())).toBe("NEGOTIATION_UNACCEPTABLE");
  });

  it("needs no answer where its proposal decided alone (§6.2.2), and one everywhere else", () => {
    const preferences = { immediateData: false, dataPduInOrder: true, initialR2T: true };
    const negotiator = create({ role: "initiator", preferences });
    const optional = new Set(["ImmediateData", "DataPDUInOrder", "DataSequenceInOrder", "InitialR2T"]);
    const offers = negotiator.offers().filter(([name]) => name !== "MaxRecvDataSegmentLength");
    const [first, ...others] = offers.filter(([name]) => !optional.has(name));
    negotiator.receive(others, "operational");
    expect(negotiator.isComplete).toBe(false);
    expect(code(() => negotiator.result())).toBe("NEGOTIATION_INCOMPLETE");
    negotiator.receive([first!], "operational");
    expect(negotiator.isComplete).toBe(true);
    expect(negotiator.result()).toMatchObject({ immediateData: false, initialR2T: true, dataPduInOrder: true });
  });

  it("holds the integrity rules even when two answers do not fit each other", () => {
    expect(answered({ FirstBurstLength: "262144", MaxBurstLength: "4096" }).result().firstBurstLength).toBe(4096);
    const recovery = { preferences: { errorRecoveryLevel: 2, dataSequenceInOrder: false } } as const;
    expect(answered({ DataSequenceInOrder: "Yes", MaxOutstandingR2T: "16" }, recovery).result().maxOutstandingR2T).toBe(
      1,
    );
  });

  it("answers what the target proposes of its own", () => {
    const negotiator = answered({});
    expect(
      negotiator.receive(
        [
          ["IFMarker", "No"],
          ["X-com.example.b", "1"],
        ],
        "operational",
      ).answers,
    ).toEqual([
      ["IFMarker", "Reject"],
      ["X-com.example.b", "NotUnderstood"],
    ]);
  });
});
