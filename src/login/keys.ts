/**
 * Every text key of RFC 7143 §12 and §13 and of RFC 7144 §7, as data. Negotiation, validation and documentation
 * read this table; no rule about a key lives anywhere else.
 */

/** Who proposes or declares a key. */
export type KeySenders = "initiator" | "target" | "both";

/**
 * §13: IO during login only, LO during the leading login only, FFPO in full feature phase only, ALL in both;
 * `security` belongs to the SecurityNegotiation stage (§12).
 */
export type KeyUse = "IO" | "LO" | "FFPO" | "ALL" | "security";

/** §13: session-wide or connection-only. */
export type KeyScope = "SW" | "CO";

/** When a key means nothing and is answered `Irrelevant`. */
export type KeyIrrelevance = "discovery" | "discovery-or-no-unsolicited-data";

export type KeyValueType =
  /** Values in the proposer's order of preference; the acceptor takes the first it supports. */
  | { readonly kind: "list"; readonly values: readonly string[] }
  /** The result is the Boolean function of both ends. */
  | { readonly kind: "boolean"; readonly result: "AND" | "OR" }
  /** A number in a range; `declared` holds for the declarer alone. */
  | {
      readonly kind: "number";
      readonly minimum: number;
      readonly maximum: number;
      readonly result: "minimum" | "maximum" | "declared";
    }
  /** Free text of at most so many bytes. */
  | { readonly kind: "text"; readonly maximumBytes: number }
  /** A binary value of at most so many bytes, in hexadecimal or base64. */
  | { readonly kind: "binary"; readonly maximumBytes: number }
  /** Withdrawn by §13.25: always answered `Reject`. */
  | { readonly kind: "obsolete" };

/** One row of the table. */
export interface KeyDefinition {
  readonly name: string;
  /** Where the key is defined. */
  readonly section: string;
  readonly type: KeyValueType;
  /** Declared one-way: no answer but `NotUnderstood` exists. */
  readonly isDeclarative: boolean;
  readonly defaultValue?: string;
  readonly use: KeyUse;
  readonly scope: KeyScope;
  readonly senders: KeySenders;
  /** May appear in the SecurityNegotiation stage as well. */
  readonly isAnyStage: boolean;
  readonly irrelevantWhen?: KeyIrrelevance;
  /** May be declared more than once in one negotiation (§6.3). */
  readonly mayRepeat: boolean;
  /** A peer older than the key may answer `NotUnderstood`, or say nothing; the default then holds. */
  readonly isOptionalForPeer: boolean;
}

type Row = Pick<KeyDefinition, "name" | "section" | "type" | "use" | "scope" | "senders"> & Partial<KeyDefinition>;

function define(row: Row): KeyDefinition {
  return Object.freeze({
    isDeclarative: false,
    isAnyStage: row.use === "security",
    mayRepeat: false,
    isOptionalForPeer: false,
    ...row,
  });
}

const text = (maximumBytes: number): KeyValueType => ({ kind: "text", maximumBytes });
const number = (minimum: number, maximum: number, result: "minimum" | "maximum" | "declared"): KeyValueType => ({
  kind: "number",
  minimum,
  maximum,
  result,
});

/** §13.12: the largest value of the 24-bit DataSegmentLength field. */
const MAX_LENGTH = 0xff_ffff;

/** §12.1: security keys. SRP and Kerberos are known by name, so that they are never answered NotUnderstood. */
const securityKeys: readonly KeyDefinition[] = [
  define({
    name: "AuthMethod",
    section: "RFC 7143 §12.1",
    type: { kind: "list", values: ["CHAP", "None"] },
    use: "security",
    scope: "CO",
    senders: "both",
  }),
  ...(
    [
      ["CHAP_A", text(255), "§12.1.3"],
      ["CHAP_N", text(255), "§12.1.3"],
      ["CHAP_I", number(0, 255, "declared"), "§12.1.3"],
      ["CHAP_C", { kind: "binary", maximumBytes: 1024 }, "§12.1.3"],
      ["CHAP_R", { kind: "binary", maximumBytes: 1024 }, "§12.1.3"],
      ["SRP_U", text(255), "§12.1.2"],
      ["SRP_GROUP", text(255), "§12.1.2"],
      ["SRP_N", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["SRP_g", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["SRP_s", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["SRP_A", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["SRP_B", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["SRP_M", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["SRP_HM", { kind: "binary", maximumBytes: 1024 }, "§12.1.2"],
      ["KRB_AP_REQ", { kind: "binary", maximumBytes: 65_536 }, "§12.1.1"],
      ["KRB_AP_REP", { kind: "binary", maximumBytes: 65_536 }, "§12.1.1"],
      ["TargetAuth", { kind: "boolean", result: "AND" }, "§12.1.2"],
    ] as const
  ).map(([name, type, section]) =>
    define({
      name,
      section: `RFC 7143 ${section}`,
      type,
      use: "security",
      scope: "CO",
      senders: "both",
      isDeclarative: true,
    }),
  ),
];

/** §13.3 to §13.9, §13.21, §13.26: keys that one side declares. */
const declarativeKeys: readonly KeyDefinition[] = [
  define({
    name: "SendTargets",
    section: "RFC 7143 §13.3",
    type: text(255),
    use: "FFPO",
    scope: "SW",
    senders: "initiator",
  }),
  ...(
    [
      ["TargetName", "§13.4", text(223), "IO", "both", false],
      ["InitiatorName", "§13.5", text(223), "IO", "initiator", false],
      ["TargetAlias", "§13.6", text(255), "ALL", "target", false],
      ["InitiatorAlias", "§13.7", text(255), "ALL", "initiator", true],
      ["TargetAddress", "§13.8", text(255), "ALL", "target", false],
      ["TargetPortalGroupTag", "§13.9", number(0, 65_535, "declared"), "IO", "target", false],
    ] as const
  ).map(([name, section, type, use, senders, isOptionalForPeer]) =>
    define({
      name,
      section: `RFC 7143 ${section}`,
      type,
      use,
      senders,
      scope: "SW",
      isDeclarative: true,
      isAnyStage: true,
      mayRepeat: name === "TargetAddress",
      isOptionalForPeer,
    }),
  ),
  define({
    name: "SessionType",
    section: "RFC 7143 §13.21",
    type: { kind: "list", values: ["Normal", "Discovery"] },
    defaultValue: "Normal",
    use: "LO",
    scope: "SW",
    senders: "initiator",
    isDeclarative: true,
    isAnyStage: true,
  }),
  define({
    name: "MaxRecvDataSegmentLength",
    section: "RFC 7143 §13.12",
    type: number(512, MAX_LENGTH, "declared"),
    defaultValue: "8192",
    use: "ALL",
    scope: "CO",
    senders: "both",
    isDeclarative: true,
  }),
  define({
    name: "X#NodeArchitecture",
    section: "RFC 7143 §13.26",
    type: text(255),
    use: "LO",
    scope: "SW",
    senders: "both",
    isDeclarative: true,
    isOptionalForPeer: true,
  }),
];

const digestKeys = ["HeaderDigest", "DataDigest"].map((name) =>
  define({
    name,
    section: "RFC 7143 §13.1",
    type: { kind: "list", values: ["None", "CRC32C"] },
    defaultValue: "None",
    use: "IO",
    scope: "CO",
    senders: "both",
  }),
);

type SessionRow = readonly [
  name: string,
  section: string,
  type: KeyValueType,
  defaultValue: string,
  irrelevantWhen: KeyIrrelevance | undefined,
];

const sessionRows: readonly SessionRow[] = [
  ["MaxConnections", "RFC 7143 §13.2", number(1, 65_535, "minimum"), "1", "discovery"],
  ["InitialR2T", "RFC 7143 §13.10", { kind: "boolean", result: "OR" }, "Yes", "discovery"],
  ["ImmediateData", "RFC 7143 §13.11", { kind: "boolean", result: "AND" }, "Yes", "discovery"],
  ["MaxBurstLength", "RFC 7143 §13.13", number(512, MAX_LENGTH, "minimum"), "262144", "discovery"],
  [
    "FirstBurstLength",
    "RFC 7143 §13.14",
    number(512, MAX_LENGTH, "minimum"),
    "65536",
    "discovery-or-no-unsolicited-data",
  ],
  ["DefaultTime2Wait", "RFC 7143 §13.15", number(0, 3600, "maximum"), "2", undefined],
  ["DefaultTime2Retain", "RFC 7143 §13.16", number(0, 3600, "minimum"), "20", undefined],
  ["MaxOutstandingR2T", "RFC 7143 §13.17", number(1, 65_535, "minimum"), "1", "discovery"],
  ["DataPDUInOrder", "RFC 7143 §13.18", { kind: "boolean", result: "OR" }, "Yes", "discovery"],
  ["DataSequenceInOrder", "RFC 7143 §13.19", { kind: "boolean", result: "OR" }, "Yes", "discovery"],
  ["ErrorRecoveryLevel", "RFC 7143 §13.20", number(0, 2, "minimum"), "0", undefined],
  [
    "TaskReporting",
    "RFC 7143 §13.23",
    { kind: "list", values: ["RFC3720", "ResponseFence", "FastAbort"] },
    "RFC3720",
    "discovery",
  ],
  ["iSCSIProtocolLevel", "RFC 7144 §7.1.1", number(0, 31, "minimum"), "1", "discovery"],
];

/** §13.2 to §13.24: what the leading login of a session negotiates. */
const sessionKeys = sessionRows.map(([name, section, type, defaultValue, irrelevantWhen]) =>
  define({
    name,
    section,
    type,
    defaultValue,
    use: "LO",
    scope: "SW",
    senders: "both",
    isOptionalForPeer: name === "TaskReporting" || name === "iSCSIProtocolLevel",
    ...(irrelevantWhen === undefined ? {} : { irrelevantWhen }),
  }),
);

const obsoleteKeys = ["IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"].map((name) =>
  define({
    name,
    section: "RFC 7143 §13.25",
    type: { kind: "obsolete" },
    use: "ALL",
    scope: "CO",
    senders: "both",
  }),
);

/** All keys, in the order of the RFC's sections. */
export const KEYS: readonly KeyDefinition[] = Object.freeze([
  ...securityKeys,
  ...digestKeys,
  ...declarativeKeys,
  ...sessionKeys,
  ...obsoleteKeys,
]);

const keysByName: ReadonlyMap<string, KeyDefinition> = new Map(KEYS.map((key) => [key.name, key]));

/** The row of a key, or undefined for one we do not know (answer `NotUnderstood`). Names are case-sensitive (§6.1). */
export function findKey(name: string): KeyDefinition | undefined {
  return keysByName.get(name);
}

/** Answers that are no values (§6.2). */
export const RESERVED_ANSWERS = ["NotUnderstood", "Irrelevant", "Reject"] as const;
export type ReservedAnswer = (typeof RESERVED_ANSWERS)[number];

/** Is this one of the three answers that are no values? */
export function isReservedAnswer(value: string): value is ReservedAnswer {
  return value === "NotUnderstood" || value === "Irrelevant" || value === "Reject";
}
