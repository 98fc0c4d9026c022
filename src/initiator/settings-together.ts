import { invalidSetting } from "./setting-values.js";
import type { InitiatorSettingName, InitiatorSettings } from "./settings.js";

/** Settings that only a volume of several sessions has a use for. */
const OF_PATHS: readonly InitiatorSettingName[] = [
  "pathPolicy",
  "pathInterfaces",
  "standbyPaths",
  "pathWeights",
  "retryCount",
  "retryIntervalSeconds",
  "pathVerifyEnabled",
  "pathVerificationPeriodSeconds",
  "linkDownTimeSeconds",
  "pdoRemovePeriodSeconds",
  "failbackDelaySeconds",
];

const LAYERING = "several sessions and several connections in one session are alternatives, layering is not supported";

/** Throws AppError INITIATOR_SETTING_INVALID, naming one of them, for settings that contradict each other or are useless. */
export function checkTogether(settings: InitiatorSettings): void {
  const { firstBurstLengthBytes: first, maxBurstLengthBytes: most } = settings;
  if (first !== undefined && most !== undefined && first > most) {
    throw invalidSetting("firstBurstLengthBytes", `is ${first} and must not be more than maxBurstLengthBytes, ${most}`);
  }
  if (settings.multipath === "mpio") checkPaths(settings);
  else checkNoPaths(settings);
  checkConnections(settings);
  checkNops(settings);
  if (settings.maxConnectionRetries === 0) {
    throw invalidSetting(
      "maxConnectionRetries",
      "is 0, which would end the volume with its first outage; write 1 or more, or -1 for ever",
    );
  }
}

function checkPaths(settings: InitiatorSettings): void {
  const { connections = 1, maxConnections = 1, standbyConnections = 0 } = settings;
  const layered = [
    connections > 1 ? "connections" : undefined,
    maxConnections > 1 ? "maxConnections" : undefined,
    settings.connectionPolicy === undefined ? undefined : "connectionPolicy",
    standbyConnections > 0 ? "standbyConnections" : undefined,
    settings.connectionWeights === undefined ? undefined : "connectionWeights",
    settings.errorRecoveryLevel === 2 ? "errorRecoveryLevel" : undefined,
  ].find((name) => name !== undefined);
  if (layered !== undefined) {
    const level = layered === "errorRecoveryLevel" ? " with level 2 (write 0 or 1)" : "";
    throw invalidSetting(
      layered,
      `does not go together with multipath mpio${level}: ${LAYERING}; remove it, or write multipath mcs`,
    );
  }
  if (settings.portalHopping === "pinned") {
    throw invalidSetting("portalHopping", "is pinned, but with multipath mpio each path keeps to its portal anyway");
  }
  if (settings.maxRequestHoldTimeSeconds !== undefined) {
    throw invalidSetting(
      "maxRequestHoldTimeSeconds",
      "is for a volume of one session; with multipath mpio write pdoRemovePeriodSeconds, which is its equivalent",
    );
  }
  if (settings.maxConnectionRetries !== undefined && settings.maxConnectionRetries >= 0) {
    throw invalidSetting(
      "maxConnectionRetries",
      "would give a path up for good; with multipath mpio each is looked for for ever: remove it, or write " +
        "pdoRemovePeriodSeconds to have requests fail without a path",
    );
  }
  if (settings.pathVerifyEnabled === false && settings.pathVerificationPeriodSeconds !== undefined) {
    throw invalidSetting("pathVerificationPeriodSeconds", "is useless while pathVerifyEnabled is false; remove one");
  }
}

function checkNoPaths(settings: InitiatorSettings): void {
  const useless = OF_PATHS.find((name) => settings[name] !== undefined);
  if (useless !== undefined) {
    throw invalidSetting(useless, "is for a volume with several sessions: write multipath mpio too, or remove it");
  }
  if (settings.multipath !== "off") return;
  const several = (["connections", "maxConnections"] as const).find((name) => (settings[name] ?? 1) > 1);
  if (several !== undefined) {
    throw invalidSetting(several, `is ${settings[several]}, but multipath is off; write multipath mcs, or remove one`);
  }
}

function checkConnections(settings: InitiatorSettings): void {
  // Without a number, MC/S has a connection for each portal, and how many those are is not known here.
  const planned = settings.connections ?? (settings.multipath === "mcs" ? undefined : 1);
  const most = settings.maxConnections ?? planned;
  const { standbyConnections = 0, connectionWeights } = settings;
  if (planned !== undefined && most !== undefined && most < planned) {
    throw invalidSetting("maxConnections", `is ${most}, but ${planned} connections are wanted; write as many or more`);
  }
  if (settings.connectionPolicy !== undefined && most === 1) {
    throw invalidSetting("connectionPolicy", "chooses among connections, and there is one: write connections too");
  }
  if (planned === undefined) return;
  if (standbyConnections >= planned && standbyConnections > 0) {
    throw invalidSetting("standbyConnections", `leaves none of ${planned} connections active; write fewer`);
  }
  if (connectionWeights !== undefined && connectionWeights.length !== planned) {
    throw invalidSetting(
      "connectionWeights",
      `has ${connectionWeights.length} weights for ${planned} connections; write one for each`,
    );
  }
}

function checkNops(settings: InitiatorSettings): void {
  if (settings.enableNopOut !== false) return;
  const useless = (["nopOutIntervalSeconds", "nopOutTimeoutSeconds"] as const).find(
    (name) => settings[name] !== undefined,
  );
  if (useless !== undefined) throw invalidSetting(useless, "is useless while enableNopOut is false; remove one");
}
