import { readFileSync } from "node:fs";
import { DEFAULT_PREFERENCES } from "../../../src/login/negotiate-preferences.js";
import { multipathOptions } from "../../../src/initiator/path-settings.js";
import { INITIATOR_SETTING_NAMES, parseInitiatorSettings } from "../../../src/initiator/settings.js";
import { DEFAULT_PATH_POLICY, PATH_POLICIES } from "../../../src/multipath/path-policy.js";
import { CONNECTION_POLICIES } from "../../../src/session/connection-policy.js";
import { DEFAULT_PORTAL_RETRY_COUNT } from "../../../src/session/portal-hopping.js";
import { DEFAULT_SESSION_TIMERS } from "../../../src/session/session-options.js";

const page = readFileSync("docs/storageclass.md", "utf8");
const section = page.slice(page.indexOf("## Settings of the initiator"), page.indexOf("## Access modes"));

/** Cells of the table by the setting's name. */
const rows = new Map(
  section
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .flatMap(([, name = "", fallback = "", guide = "", meaning = ""]) =>
      /^`\w+`$/.test(name) ? [[name.slice(1, -1), { fallback, guide, meaning }] as const] : [],
    ),
);

/** What a setting may need beside it. */
const companions: readonly Readonly<Record<string, string>>[] = [{}, { multipath: "mpio" }, { connections: "2" }];

function accepts(texts: Readonly<Record<string, string>>): boolean {
  try {
    parseInitiatorSettings(texts);
    return true;
  } catch {
    return false;
  }
}

describe("the table of settings in docs/storageclass.md", () => {
  it("has a row for every setting", () => {
    expect([...rows.keys()].sort()).toEqual([...INITIATOR_SETTING_NAMES].sort());
  });

  it("says the defaults that hold", () => {
    const { connectTimeoutMs, reconnectLimitMs, asyncLogoutPauseMs, taskTimeoutDeltaMs, nopIntervalMs, nopTimeoutMs } =
      DEFAULT_SESSION_TIMERS;
    const paths = multipathOptions({});
    const holding: Readonly<Record<string, string | number | boolean>> = {
      portalRetryCount: DEFAULT_PORTAL_RETRY_COUNT,
      tcpConnectTimeSeconds: connectTimeoutMs / 1000,
      maxRequestHoldTimeSeconds: reconnectLimitMs / 1000,
      asyncLogoutPauseTimeoutSeconds: asyncLogoutPauseMs / 1000,
      srbTimeoutDeltaSeconds: taskTimeoutDeltaMs / 1000,
      enableNopOut: nopIntervalMs > 0,
      nopOutIntervalSeconds: nopIntervalMs / 1000,
      nopOutTimeoutSeconds: nopTimeoutMs / 1000,
      pathPolicy: DEFAULT_PATH_POLICY,
      retryCount: paths.retryCount,
      retryIntervalSeconds: paths.retryIntervalMs / 1000,
      pathVerifyEnabled: paths.verifyIntervalMs > 0,
      pathVerificationPeriodSeconds: paths.verifyIntervalMs / 1000,
      pdoRemovePeriodSeconds: paths.noPathTimeoutMs / 1000,
      failbackDelaySeconds: (paths.failbackDelayMs ?? -1000) / 1000,
      maxBurstLengthBytes: DEFAULT_PREFERENCES.maxBurstLength,
      firstBurstLengthBytes: DEFAULT_PREFERENCES.firstBurstLength,
      maxRecvDataSegmentLengthBytes: DEFAULT_PREFERENCES.maxRecvDataSegmentLength,
      initialR2T: DEFAULT_PREFERENCES.initialR2T,
      immediateData: DEFAULT_PREFERENCES.immediateData,
      errorRecoveryLevel: DEFAULT_PREFERENCES.errorRecoveryLevel,
    };
    const documented = Object.keys(holding).map((name) => [name, rows.get(name)?.fallback]);
    expect(documented).toEqual(Object.entries(holding).map(([name, value]) => [name, `\`${String(value)}\``]));
    const { reconnectInitialMs, reconnectMaximumMs } = DEFAULT_SESSION_TIMERS;
    expect(rows.get("delayBetweenReconnectSeconds")?.fallback).toBe(
      `grows from ${reconnectInitialMs / 1000} to ${reconnectMaximumMs / 1000}`,
    );
  });

  it("gives defaults, Microsoft's and ours, that can be written", () => {
    const written = [...rows].flatMap(([name, { fallback, guide }]) =>
      [/^`([^`]+)`$/.exec(fallback)?.[1], guide === "" ? undefined : guide].flatMap((text) =>
        text === undefined ? [] : [[name, text] as const],
      ),
    );
    expect(written.length).toBeGreaterThan(25);
    for (const [name, text] of written) {
      const companion = companions.find((texts) => accepts({ ...texts, [name]: text }));
      expect({ name, text, companion }).toMatchObject({ companion: {} });
    }
  });

  it("explains every policy", () => {
    for (const policy of PATH_POLICIES) expect(rows.get("pathPolicy")?.meaning).toContain(`\`${policy}\``);
    for (const policy of CONNECTION_POLICIES) expect(rows.get("connectionPolicy")?.meaning).toContain(`\`${policy}\``);
  });
});
