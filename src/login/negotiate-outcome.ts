import type { NegotiatedParameters } from "./parameters.js";

/** The property of NegotiatedParameters that each negotiated key sets. */
export const parameterOfKey = {
  HeaderDigest: "headerDigest",
  DataDigest: "dataDigest",
  MaxConnections: "maxConnections",
  InitialR2T: "initialR2T",
  ImmediateData: "immediateData",
  MaxBurstLength: "maxBurstLength",
  FirstBurstLength: "firstBurstLength",
  DefaultTime2Wait: "defaultTime2Wait",
  DefaultTime2Retain: "defaultTime2Retain",
  MaxOutstandingR2T: "maxOutstandingR2T",
  DataPDUInOrder: "dataPduInOrder",
  DataSequenceInOrder: "dataSequenceInOrder",
  ErrorRecoveryLevel: "errorRecoveryLevel",
  TaskReporting: "taskReporting",
  iSCSIProtocolLevel: "iscsiProtocolLevel",
} as const satisfies Readonly<Record<string, keyof NegotiatedParameters>>;

/** A key of RFC 7143 §13 or RFC 7144 §7 with a negotiated result. */
export type NegotiatedKey = keyof typeof parameterOfKey;

/** Does this key have a negotiated result? */
export function isNegotiatedKey(name: string): name is NegotiatedKey {
  return Object.hasOwn(parameterOfKey, name);
}

export interface OutcomeSources {
  /** The text a key ended with, or undefined when it keeps its value. */
  readonly outcome: (name: NegotiatedKey) => string | undefined;
  readonly current: NegotiatedParameters;
  readonly isDiscovery: boolean;
  readonly initiatorMaxRecvDataSegmentLength: number;
  readonly targetMaxRecvDataSegmentLength: number;
}

/**
 * The parameters that follow from the agreed texts, frozen, with the integrity rules of §13.14 (FirstBurstLength fits in
 * MaxBurstLength) and §13.19 (one R2T when lost sequences may be asked for again in order) applied: both ends do
 * this alike, so they agree even when the two answers did not fit each other.
 */
export function composeParameters(sources: OutcomeSources): NegotiatedParameters {
  const { outcome, current, isDiscovery } = sources;
  const flag = (name: NegotiatedKey, fallback: boolean): boolean => {
    const value = outcome(name);
    return value === undefined ? fallback : value === "Yes";
  };
  const count = (name: NegotiatedKey, fallback: number): number => Number(outcome(name) ?? fallback);
  const maxBurstLength = count("MaxBurstLength", current.maxBurstLength);
  // §7.4.1 and §13.21: a discovery session has one connection and no recovery.
  const errorRecoveryLevel = isDiscovery ? 0 : levelOf(outcome("ErrorRecoveryLevel"), current.errorRecoveryLevel);
  const dataSequenceInOrder = flag("DataSequenceInOrder", current.dataSequenceInOrder);
  const isSingleR2T = errorRecoveryLevel !== 0 && dataSequenceInOrder;
  return Object.freeze({
    headerDigest: digestOf(outcome("HeaderDigest"), current.headerDigest),
    dataDigest: digestOf(outcome("DataDigest"), current.dataDigest),
    maxConnections: isDiscovery ? 1 : count("MaxConnections", current.maxConnections),
    initialR2T: flag("InitialR2T", current.initialR2T),
    immediateData: flag("ImmediateData", current.immediateData),
    initiatorMaxRecvDataSegmentLength: sources.initiatorMaxRecvDataSegmentLength,
    targetMaxRecvDataSegmentLength: sources.targetMaxRecvDataSegmentLength,
    maxBurstLength,
    firstBurstLength: Math.min(count("FirstBurstLength", current.firstBurstLength), maxBurstLength),
    defaultTime2Wait: count("DefaultTime2Wait", current.defaultTime2Wait),
    defaultTime2Retain: count("DefaultTime2Retain", current.defaultTime2Retain),
    maxOutstandingR2T: isSingleR2T ? 1 : count("MaxOutstandingR2T", current.maxOutstandingR2T),
    dataPduInOrder: flag("DataPDUInOrder", current.dataPduInOrder),
    dataSequenceInOrder,
    errorRecoveryLevel,
    taskReporting: taskReportingOf(outcome("TaskReporting")) ?? current.taskReporting,
    iscsiProtocolLevel: count("iSCSIProtocolLevel", current.iscsiProtocolLevel),
  });
}

function digestOf(text: string | undefined, current: "None" | "CRC32C"): "None" | "CRC32C" {
  if (text === undefined) return current;
  return text === "CRC32C" ? "CRC32C" : "None";
}

function levelOf(text: string | undefined, current: 0 | 1 | 2): 0 | 1 | 2 {
  if (text === undefined) return current;
  const level = Number(text);
  return level === 2 ? 2 : level === 1 ? 1 : 0;
}

function taskReportingOf(text: string | undefined): NegotiatedParameters["taskReporting"] | undefined {
  return text === "RFC3720" || text === "ResponseFence" || text === "FastAbort" ? text : undefined;
}
