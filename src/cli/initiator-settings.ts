import { InvalidArgumentError, Option, type Command } from "commander";
import { INITIATOR_SETTING_NAMES, type InitiatorSettings, parseInitiatorSettings } from "../initiator/settings.js";
import { DEFAULT_PATH_POLICY, PATH_POLICIES } from "../multipath/path-policy.js";
import { CONNECTION_POLICIES } from "../session/connection-policy.js";

/** What the flags of addSettingOptions leave in a command's options. */
export interface SettingOptions {
  readonly connections?: string;
  readonly maxConnections?: string;
  readonly policy?: string;
  readonly errorRecoveryLevel?: string;
  readonly multipath?: string;
  readonly pathPolicy?: string;
  readonly pathInterfaces?: string;
  readonly set?: Readonly<Record<string, string>>;
}

/** The flags for everything the initiator lets itself be told about sessions. */
export function addSettingOptions(command: Command): Command {
  return command
    .option("--connections <N>", "connections of the session, over the portals in turn (default: 1)")
    .option("--max-connections <N>", "most connections to ask for (default: as many as --connections)")
    .addOption(
      new Option("--policy <POLICY>", "how commands are spread over connections (default: round-robin)").choices(
        CONNECTION_POLICIES,
      ),
    )
    .addOption(
      new Option("--error-recovery-level <N>", "highest level to ask for (default: 0)").choices(["0", "1", "2"]),
    )
    .addOption(
      new Option(
        "--multipath <MODE>",
        "several sessions (mpio), or several connections in one (mcs) (default: off)",
      ).choices(["off", "mcs", "mpio"]),
    )
    .addOption(
      new Option(
        "--path-policy <POLICY>",
        `with mpio: how requests are spread over paths (default: ${DEFAULT_PATH_POLICY})`,
      ).choices(PATH_POLICIES),
    )
    .option("--path-interfaces <LIST>", "with mpio: all, or interfaces and addresses that paths begin at, by commas")
    .option("--set <NAME=VALUE>", "any other setting of docs/storageclass.md, repeatable", collectSetting);
}

/** The settings that the flags name. Throws AppError INITIATOR_SETTING_INVALID. */
export function settingsOf(options: SettingOptions): InitiatorSettings {
  const { connections, maxConnections, policy, errorRecoveryLevel, multipath, pathPolicy, pathInterfaces, set } =
    options;
  return parseInitiatorSettings({
    ...set,
    ...(connections === undefined ? {} : { connections }),
    ...(maxConnections === undefined ? {} : { maxConnections }),
    ...(policy === undefined ? {} : { connectionPolicy: policy }),
    ...(errorRecoveryLevel === undefined ? {} : { errorRecoveryLevel }),
    ...(multipath === undefined ? {} : { multipath }),
    ...(pathPolicy === undefined ? {} : { pathPolicy }),
    ...(pathInterfaces === undefined ? {} : { pathInterfaces }),
  });
}

function collectSetting(
  text: string,
  earlier: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> {
  const [, name = "", value = ""] = /^([A-Za-z0-9]+)=(.+)$/.exec(text) ?? [];
  if (!INITIATOR_SETTING_NAMES.includes(name)) {
    throw new InvalidArgumentError(`write NAME=VALUE; names: ${INITIATOR_SETTING_NAMES.join(", ")}`);
  }
  return { ...earlier, [name]: value };
}
