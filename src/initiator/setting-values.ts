import { z } from "zod";
import { AppError } from "../base/errors.js";
import { isIpAddress } from "../base/ip-address.js";
import { MAX_PATH_SOURCES_PER_VOLUME } from "../base/limits.js";

/** Largest weight of a path or a connection. */
const MAX_WEIGHT = 65_535;

/** A whole number written in decimal. */
export function whole(minimum: number, maximum: number) {
  return parsed(`a whole number from ${minimum} to ${maximum}`, (text) => {
    const value = /^-?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    return value >= minimum && value <= maximum ? value : undefined;
  });
}

/** One of a few words. */
export function oneOf<const T extends string>(...values: readonly T[]) {
  return parsed(values.join(", "), (text) => values.find((value) => value === text));
}

export const yesOrNo = parsed("true or false", (text) =>
  text === "true" ? true : text === "false" ? false : undefined,
);

/** An ErrorRecoveryLevel. */
export const level = parsed("0, 1 or 2", (text): 0 | 1 | 2 | undefined =>
  text === "0" ? 0 : text === "1" ? 1 : text === "2" ? 2 : undefined,
);

/** Weights with commas between, at most `mostEntries`. */
export function weights(mostEntries: number) {
  const expected = `numbers from 0 to ${MAX_WEIGHT} with commas between, at most ${mostEntries}`;
  return parsed(expected, (text): readonly number[] | undefined => {
    if (!/^\d{1,5}(?:,\d{1,5})*$/.test(text)) return undefined;
    const list = text.split(",").map(Number);
    return list.length <= mostEntries && list.every((weight) => weight <= MAX_WEIGHT) ? list : undefined;
  });
}

/** Where paths begin: `all`, or interfaces and addresses of the node. */
export const pathSources = parsed(
  `all, or 1 to ${MAX_PATH_SOURCES_PER_VOLUME} names of interfaces and addresses of the node with commas between, ` +
    "each once, IPv6 without brackets",
  (text): readonly string[] | undefined => {
    const list = text.split(",");
    if (list.length > MAX_PATH_SOURCES_PER_VOLUME || new Set(list).size < list.length) return undefined;
    const isGood = text === "all" || list.every((entry) => entry !== "all" && isPathSource(entry));
    return isGood ? list : undefined;
  },
);

/** `problem` completes the sentence that begins with the setting's name. */
export function invalidSetting(name: string, problem: string): AppError {
  return new AppError("initiator", "INITIATOR_SETTING_INVALID", `"${name}" ${problem}`, { details: { name } });
}

/** An address, or a name as Linux lets interfaces have: it would take one that only looks like an address, too. */
function isPathSource(entry: string): boolean {
  if (isIpAddress(entry)) return true;
  const isName = /^[^\s/:[\]]{1,15}$/.test(entry) && entry !== "." && entry !== "..";
  return isName && !/^\d+(?:\.\d+)+$/.test(entry);
}

/** `expected` completes the sentence "write …". */
function parsed<T>(expected: string, parse: (text: string) => T | undefined) {
  return z.string().transform((text, check): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    check.addIssue(expected);
    return z.NEVER;
  });
}
