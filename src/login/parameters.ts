/** What both ends agreed on (RFC 7143 §13), frozen. Lengths in bytes, times in seconds as the RFC has them. */
export interface NegotiatedParameters {
  readonly headerDigest: "None" | "CRC32C";
  readonly dataDigest: "None" | "CRC32C";
  readonly maxConnections: number;
  readonly initialR2T: boolean;
  readonly immediateData: boolean;
  /** What the initiator declared: the target's Data-In PDUs are no longer. */
  readonly initiatorMaxRecvDataSegmentLength: number;
  /** What the target declared: the initiator's Data-Out and command PDUs carry no more. */
  readonly targetMaxRecvDataSegmentLength: number;
  readonly maxBurstLength: number;
  readonly firstBurstLength: number;
  readonly defaultTime2Wait: number;
  readonly defaultTime2Retain: number;
  readonly maxOutstandingR2T: number;
  readonly dataPduInOrder: boolean;
  readonly dataSequenceInOrder: boolean;
  readonly errorRecoveryLevel: 0 | 1 | 2;
  readonly taskReporting: "RFC3720" | "ResponseFence" | "FastAbort";
  readonly iscsiProtocolLevel: number;
}

/** The RFC's defaults: what holds for a key nobody mentioned. */
export const DEFAULT_PARAMETERS: NegotiatedParameters = Object.freeze({
  headerDigest: "None",
  dataDigest: "None",
  maxConnections: 1,
  initialR2T: true,
  immediateData: true,
  initiatorMaxRecvDataSegmentLength: 8192,
  targetMaxRecvDataSegmentLength: 8192,
  maxBurstLength: 262_144,
  firstBurstLength: 65_536,
  defaultTime2Wait: 2,
  defaultTime2Retain: 20,
  maxOutstandingR2T: 1,
  dataPduInOrder: true,
  dataSequenceInOrder: true,
  errorRecoveryLevel: 0,
  taskReporting: "RFC3720",
  iscsiProtocolLevel: 1,
});
