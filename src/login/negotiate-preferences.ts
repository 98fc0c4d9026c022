import type { DigestChoice } from "../base/access.js";
import { DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES } from "../base/limits.js";
import type { NegotiatedParameters } from "./parameters.js";

/** What one side proposes and accepts. Lengths in bytes, times in seconds; lists in order of preference. */
export interface OperationalPreferences {
  readonly headerDigest: readonly ("None" | "CRC32C")[];
  readonly dataDigest: readonly ("None" | "CRC32C")[];
  readonly maxConnections: number;
  readonly initialR2T: boolean;
  readonly immediateData: boolean;
  readonly maxRecvDataSegmentLength: number;
  readonly maxBurstLength: number;
  readonly firstBurstLength: number;
  readonly defaultTime2Wait: number;
  readonly defaultTime2Retain: number;
  readonly maxOutstandingR2T: number;
  readonly dataPduInOrder: boolean;
  readonly dataSequenceInOrder: boolean;
  readonly errorRecoveryLevel: 0 | 1 | 2;
  readonly taskReporting: readonly NegotiatedParameters["taskReporting"][];
  readonly iscsiProtocolLevel: number;
}

/**
 * What we propose when nothing else is asked: unsolicited data, bursts and segments large enough that the headers do
 * not matter. TaskReporting and iSCSIProtocolLevel stay at their defaults, so old peers never see them.
 */
export const DEFAULT_PREFERENCES: OperationalPreferences = Object.freeze<OperationalPreferences>({
  headerDigest: ["None"],
  dataDigest: ["None"],
  maxConnections: 1,
  initialR2T: false,
  immediateData: true,
  maxRecvDataSegmentLength: DEFAULT_MAX_RECV_DATA_SEGMENT_BYTES,
  maxBurstLength: 1_048_576,
  firstBurstLength: 262_144,
  defaultTime2Wait: 2,
  defaultTime2Retain: 20,
  maxOutstandingR2T: 16,
  dataPduInOrder: true,
  dataSequenceInOrder: true,
  errorRecoveryLevel: 0,
  taskReporting: ["RFC3720"],
  iscsiProtocolLevel: 1,
});

/** The digest list that a configured choice stands for. */
export function digestPreference(choice: DigestChoice): readonly ("None" | "CRC32C")[] {
  if (choice === "none") return ["None"];
  return choice === "crc32c" ? ["CRC32C"] : ["CRC32C", "None"];
}
