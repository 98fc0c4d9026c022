import { readFile, stat } from "node:fs/promises";
import { InvalidArgumentError, Option, type Command } from "commander";
import type { ChapCredentials, DigestChoice, PortalAddress } from "../base/access.js";
import { AppError, errorMessage } from "../base/errors.js";
import type { LogLevel } from "../base/logger.js";
import { parsePortal } from "../base/portal.js";
import { Secret } from "../base/secret.js";
import { parseSize } from "../base/size.js";
import type { OutputFormat } from "./output.js";

/** Turns an AppError of a parser into commander's usage error, so that the flag is named. */
export function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(errorMessage(error));
    }
  };
}

/** For repeatable options. */
export function collecting<T>(parse: (text: string) => T): (text: string, earlier: readonly T[] | undefined) => T[] {
  return (text, earlier) => [...(earlier ?? []), argument(parse)(text)];
}

/** A whole number in a range. */
export function wholeNumber(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(`write a whole number from ${minimum} to ${maximum}`);
    }
    return value;
  };
}

/** Six bytes in hexadecimal, not all zero. */
export function reservationClusterArgument(text: string): string {
  const digits = text.toLowerCase();
  if (/^[0-9a-f]{12}$/.test(digits) && /[1-9a-f]/.test(digits)) return digits;
  throw new InvalidArgumentError("write 12 hexadecimal digits, not all of them zero");
}

export const sizeArgument = argument(parseSize);
export const portalArgument = argument(parsePortal);
export const portalsArgument = collecting(parsePortal);

/** Block sizes as fio writes them: `512`, `4k` and `1m` are powers of two. */
export const blockSizeArgument = argument((text) =>
  parseSize(text.replace(/([km])$/i, (unit) => (/k/i.test(unit) ? "Ki" : "Mi"))),
);

export interface ChapOptions {
  readonly chapUser?: string;
  readonly chapSecretFile?: string;
  readonly mutualUser?: string;
  readonly mutualSecretFile?: string;
}

export interface InitiatorOptions extends ChapOptions {
  readonly initiatorName?: string;
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
}

const digestChoices: readonly DigestChoice[] = ["none", "crc32c", "prefer-crc32c"];

/** The flags of every command that logs in somewhere. */
export function addInitiatorOptions(command: Command): Command {
  return command
    .option("--initiator-name <IQN>", "name to log in with (default: made from the host's name)")
    .option("--chap-user <NAME>", "CHAP user name")
    .option("--chap-secret-file <FILE>", "file that holds the CHAP secret (12 bytes or more)")
    .option("--mutual-user <NAME>", "user name the target must prove (mutual CHAP)")
    .option("--mutual-secret-file <FILE>", "file that holds the target's secret")
    .addOption(new Option("--header-digest <CHOICE>", "header digest").choices(digestChoices).default("none"))
    .addOption(new Option("--data-digest <CHOICE>", "data digest").choices(digestChoices).default("none"));
}

export function addOutputOption(command: Command): Command {
  return command.addOption(
    new Option("-o, --output <FORMAT>", "table or json").choices(["table", "json"]).default("table"),
  );
}

export function addLogOption(command: Command, fallback: LogLevel): Command {
  return command.addOption(
    new Option("--log-level <LEVEL>", "what is logged to standard error")
      .choices(["trace", "debug", "info", "warn", "error"])
      .env("HAWSER_LOG_LEVEL")
      .default(fallback),
  );
}

export interface OutputOptions {
  readonly output: OutputFormat;
}

async function readSecret(flag: string, path: string): Promise<Secret> {
  let text: Buffer;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o004) !== 0) {
      throw new AppError(
        "cli",
        "SECRET_FILE_READABLE",
        `${flag}: ${path} can be read by everybody; run chmod 600 ${path}`,
      );
    }
    text = await readFile(path);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("cli", "SECRET_FILE_UNREADABLE", `${flag}: cannot read ${path}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
  // A trailing newline is an editor's, not the secret's.
  let end = text.length;
  while (end > 0 && (text[end - 1] === 0x0a || text[end - 1] === 0x0d)) end -= 1;
  if (end === 0) throw new AppError("cli", "SECRET_FILE_EMPTY", `${flag}: ${path} is empty`);
  return Secret.from(text.subarray(0, end));
}

/** The CHAP pair the flags ask for, or undefined. Fails when one half of a pair is missing. */
export async function readChap(options: ChapOptions): Promise<ChapCredentials | undefined> {
  const { chapUser, chapSecretFile, mutualUser, mutualSecretFile } = options;
  if ((chapUser === undefined) !== (chapSecretFile === undefined)) {
    throw new AppError("cli", "CHAP_INCOMPLETE", "--chap-user and --chap-secret-file go together");
  }
  if ((mutualUser === undefined) !== (mutualSecretFile === undefined)) {
    throw new AppError("cli", "CHAP_INCOMPLETE", "--mutual-user and --mutual-secret-file go together");
  }
  if (chapUser === undefined || chapSecretFile === undefined) {
    if (mutualUser === undefined) return undefined;
    throw new AppError("cli", "CHAP_INCOMPLETE", "mutual CHAP needs --chap-user and --chap-secret-file too");
  }
  const secret = await readSecret("--chap-secret-file", chapSecretFile);
  if (mutualUser === undefined || mutualSecretFile === undefined) return { user: chapUser, secret };
  return {
    user: chapUser,
    secret,
    mutualUser,
    mutualSecret: await readSecret("--mutual-secret-file", mutualSecretFile),
  };
}

/** The initiator name to use: the flag's, else one made from the host's name (lower case, other characters to `-`). */
export function initiatorNameOf(options: InitiatorOptions, hostName: string): string {
  return options.initiatorName ?? `iqn.2026-11.dev.hawser:${hostName.toLowerCase().replace(/[^a-z0-9.-]/g, "-")}`;
}

/** `--portal` as given: at least one. */
export function requirePortals<Portal extends PortalAddress>(
  portals: readonly Portal[] | undefined,
): readonly [Portal, ...Portal[]] {
  const [first, ...others] = portals ?? [];
  if (first === undefined) throw new AppError("cli", "PORTAL_MISSING", "give at least one --portal HOST[:PORT]");
  return [first, ...others];
}
