import { z } from "zod";
import {
  MAX_BLOCK_REQUEST_BYTES,
  MAX_CONNECTIONS_PER_SESSION,
  MAX_DATA_SEGMENT_BYTES,
  MAX_PATHS_PER_VOLUME,
  MAX_TASKS_PER_SESSION,
} from "../base/limits.js";
import { PATH_POLICIES } from "../multipath/path-policy.js";
import { CONNECTION_POLICIES } from "../session/connection-policy.js";
import { invalidSetting, level, oneOf, pathSources, weights, whole, yesOrNo } from "./setting-values.js";
import { checkTogether } from "./settings-together.js";

/** Longest time a setting may name, in seconds: a day. */
const MAX_SECONDS = 86_400;
const MAX_ATTEMPTS = 1_000_000;

/** Smallest segment and burst, RFC 7143 §13.12. */
const MIN_SEGMENT_BYTES = 512;

/** Every setting by its name, as text gives it. The same names stand in StorageClasses, records and on the socket. */
const shape = {
  multipath: oneOf("off", "mcs", "mpio"),
  connections: whole(1, MAX_CONNECTIONS_PER_SESSION),
  maxConnections: whole(1, MAX_CONNECTIONS_PER_SESSION),
  connectionPolicy: oneOf(...CONNECTION_POLICIES),
  standbyConnections: whole(0, MAX_CONNECTIONS_PER_SESSION),
  connectionWeights: weights(MAX_CONNECTIONS_PER_SESSION),
  errorRecoveryLevel: level,
  pathPolicy: oneOf(...PATH_POLICIES),
  pathInterfaces: pathSources,
  standbyPaths: whole(0, 64),
  pathWeights: weights(MAX_PATHS_PER_VOLUME),
  retryCount: whole(0, 100),
  retryIntervalSeconds: whole(0, 300),
  pathVerifyEnabled: yesOrNo,
  pathVerificationPeriodSeconds: whole(1, MAX_SECONDS),
  pdoRemovePeriodSeconds: whole(0, MAX_SECONDS),
  failbackDelaySeconds: whole(-1, MAX_SECONDS),
  portalHopping: oneOf("pinned", "listed", "advertised"),
  portalRetryCount: whole(0, 100),
  tcpConnectTimeSeconds: whole(1, 300),
  networkReadyRetryCount: whole(0, 1_000),
  delayBetweenReconnectSeconds: whole(1, 300),
  maxConnectionRetries: whole(-1, MAX_ATTEMPTS),
  maxRequestHoldTimeSeconds: whole(0, MAX_SECONDS),
  linkDownTimeSeconds: whole(0, MAX_SECONDS),
  asyncLogoutPauseTimeoutSeconds: whole(0, 3_600),
  srbTimeoutDeltaSeconds: whole(0, 3_600),
  enableNopOut: yesOrNo,
  nopOutIntervalSeconds: whole(1, 300),
  nopOutTimeoutSeconds: whole(1, 300),
  fencing: oneOf("off", "auto", "required"),
  maxPendingRequests: whole(1, MAX_TASKS_PER_SESSION),
  maxTransferLengthBytes: whole(4_096, MAX_BLOCK_REQUEST_BYTES),
  maxBurstLengthBytes: whole(MIN_SEGMENT_BYTES, MAX_DATA_SEGMENT_BYTES),
  firstBurstLengthBytes: whole(MIN_SEGMENT_BYTES, MAX_DATA_SEGMENT_BYTES),
  maxRecvDataSegmentLengthBytes: whole(MIN_SEGMENT_BYTES, MAX_DATA_SEGMENT_BYTES),
  initialR2T: yesOrNo,
  immediateData: yesOrNo,
} as const;

const schema = z.strictObject(shape).partial();

export type InitiatorSettingName = keyof typeof shape;

/**
 * How the initiator treats one volume, where it differs from the defaults (docs/storageclass.md): the options of
 * Microsoft's initiator under their names, in the units that the names end with.
 */
export type InitiatorSettings = Readonly<z.infer<typeof schema>>;

/** Settings as text by name: the form in which they are kept and sent. */
export type InitiatorSettingTexts = Readonly<Record<string, string>>;

/** StorageClasses and volume attributes may name all of them. */
export const INITIATOR_SETTING_NAMES: readonly string[] = Object.freeze(Object.keys(shape));

/**
 * Reads settings and how they go together. Throws AppError INITIATOR_SETTING_INVALID that names the setting and says
 * what to write.
 */
export function parseInitiatorSettings(texts: InitiatorSettingTexts): InitiatorSettings {
  const result = schema.safeParse(texts);
  if (!result.success) {
    const [issue] = result.error.issues;
    const name = issue?.code === "unrecognized_keys" ? (issue.keys[0] ?? "") : String(issue?.path[0] ?? "");
    if (issue?.code === "unrecognized_keys") {
      throw invalidSetting(name, `is not known; known: ${INITIATOR_SETTING_NAMES.join(", ")}`);
    }
    throw invalidSetting(name, `is "${(texts[name] ?? "").slice(0, 40)}"; write ${issue?.message ?? "something else"}`);
  }
  checkTogether(result.data);
  return result.data;
}

/**
 * The settings of a record or of a message that another version may have written: what this one does not know, or does
 * not take, is left out.
 */
export function recallInitiatorSettings(texts: InitiatorSettingTexts): InitiatorSettings {
  const known = Object.entries(texts).filter(([name, text]) => schema.safeParse({ [name]: text }).success);
  return schema.parse(Object.fromEntries(known));
}

/** The text form of settings: what parseInitiatorSettings reads. */
export function formatInitiatorSettings(settings: InitiatorSettings): Record<string, string> {
  return Object.fromEntries(
    Object.entries(settings).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
  );
}
