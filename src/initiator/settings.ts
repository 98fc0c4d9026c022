import { z } from "zod";
import { AppError } from "../base/errors.js";
import {
  MAX_BLOCK_REQUEST_BYTES,
  MAX_CONNECTIONS_PER_SESSION,
  MAX_DATA_SEGMENT_BYTES,
  MAX_TASKS_PER_SESSION,
} from "../base/limits.js";
import { CONNECTION_POLICIES } from "../session/connection-policy.js";

/** Longest time a setting may name, in seconds: a day. */
const MAX_SECONDS = 86_400;
const MAX_ATTEMPTS = 1_000_000;
const MAX_WEIGHT = 65_535;

/** Smallest segment and burst, RFC 7143 §13.12. */
const MIN_SEGMENT_BYTES = 512;

/** A whole number written in decimal. */
function whole(minimum: number, maximum: number) {
  return parsed(`a whole number from ${minimum} to ${maximum}`, (text) => {
    const value = /^-?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    return value >= minimum && value <= maximum ? value : undefined;
  });
}

function oneOf<const T extends string>(...values: readonly T[]) {
  return parsed(values.join(", "), (text) => values.find((value) => value === text));
}

const yesOrNo = parsed("true or false", (text) => (text === "true" ? true : text === "false" ? false : undefined));

const level = parsed("0, 1 or 2", (text): 0 | 1 | 2 | undefined =>
  text === "0" ? 0 : text === "1" ? 1 : text === "2" ? 2 : undefined,
);

/** `expected` completes the sentence "write …". */
function parsed<T>(expected: string, parse: (text: string) => T | undefined) {
  return z.string().transform((text, check): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    check.addIssue(expected);
    return z.NEVER;
  });
}

/** A number for each connection, the leading one first. */
const weights = parsed(`numbers from 0 to ${MAX_WEIGHT} with commas between`, (text): readonly number[] | undefined => {
  if (!/^\d{1,5}(?:,\d{1,5})*$/.test(text)) return undefined;
  const list = text.split(",").map(Number);
  const isGood = list.length <= MAX_CONNECTIONS_PER_SESSION && list.every((weight) => weight <= MAX_WEIGHT);
  return isGood ? list : undefined;
});

/** Every setting by its name, as text gives it. The same names stand in StorageClasses, records and on the socket. */
const shape = {
  connections: whole(1, MAX_CONNECTIONS_PER_SESSION),
  maxConnections: whole(1, MAX_CONNECTIONS_PER_SESSION),
  connectionPolicy: oneOf(...CONNECTION_POLICIES),
  standbyConnections: whole(0, MAX_CONNECTIONS_PER_SESSION),
  connectionWeights: weights,
  errorRecoveryLevel: level,
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

export const INITIATOR_SETTING_NAMES: readonly string[] = Object.freeze(Object.keys(shape));

/** Settings that a volume of one session has no use for: they are refused where a volume is described. */
const NOT_OF_A_VOLUME: ReadonlySet<string> = new Set<InitiatorSettingName>(["linkDownTimeSeconds"]);

/** The settings that StorageClasses and volume attributes may name. */
export const VOLUME_SETTING_NAMES: readonly string[] = Object.freeze(
  INITIATOR_SETTING_NAMES.filter((name) => !NOT_OF_A_VOLUME.has(name)),
);

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
      throw invalid(name, `is not known; known: ${INITIATOR_SETTING_NAMES.join(", ")}`);
    }
    throw invalid(name, `is "${(texts[name] ?? "").slice(0, 40)}"; write ${issue?.message ?? "something else"}`);
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

function checkTogether(settings: InitiatorSettings): void {
  const { firstBurstLengthBytes: first, maxBurstLengthBytes: most } = settings;
  if (first !== undefined && most !== undefined && first > most) {
    throw invalid("firstBurstLengthBytes", `is ${first} and must not be more than maxBurstLengthBytes, ${most}`);
  }
  const { connections = 1, maxConnections = connections, standbyConnections = 0, connectionWeights } = settings;
  if (maxConnections < connections) {
    throw invalid(
      "maxConnections",
      `is ${maxConnections}, but ${connections} connections are wanted; write as many or more`,
    );
  }
  if (settings.connectionPolicy !== undefined && maxConnections === 1) {
    throw invalid("connectionPolicy", "chooses among connections, and there is one: write connections too");
  }
  if (standbyConnections >= connections && standbyConnections > 0) {
    throw invalid("standbyConnections", `leaves none of ${connections} connections active; write fewer`);
  }
  if (connectionWeights !== undefined && connectionWeights.length !== connections) {
    throw invalid(
      "connectionWeights",
      `has ${connectionWeights.length} weights for ${connections} connections; write one for each`,
    );
  }
  if (settings.maxConnectionRetries === 0) {
    throw invalid(
      "maxConnectionRetries",
      "is 0, which would end the volume with its first outage; write 1 or more, or -1 for ever",
    );
  }
}

function invalid(name: string, problem: string): AppError {
  return new AppError("initiator", "INITIATOR_SETTING_INVALID", `"${name}" ${problem}`, { details: { name } });
}
