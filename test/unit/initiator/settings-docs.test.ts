import { readFileSync } from "node:fs";
import { DEFAULT_PREFERENCES } from "../../../src/login/negotiate-preferences.js";
import {
  INITIATOR_SETTING_NAMES,
  parseInitiatorSettings,
  VOLUME_SETTING_NAMES,
} from "../../../src/initiator/settings.js";
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

describe("the table of settings in docs/storageclass.md", () => {
  it("has a row for every setting of a volume, and names the one that is not", () => {
    expect([...rows.keys()].sort()).toEqual([...VOLUME_SETTING_NAMES].sort());
    for (const name of INITIATOR_SETTING_NAMES) expect(section).toContain(`\`${name}\``);
  });

  it("says the defaults that hold", () => {
    const { connectTimeoutMs, reconnectLimitMs, asyncLogoutPauseMs, taskTimeoutDeltaMs, nopIntervalMs } =
      DEFAULT_SESSION_TIMERS;
    const holding: Readonly<Record<string, string | number | boolean>> = {
      portalRetryCount: DEFAULT_PORTAL_RETRY_COUNT,
      tcpConnectTimeSeconds: connectTimeoutMs / 1000,
      maxRequestHoldTimeSeconds: reconnectLimitMs / 1000,
      asyncLogoutPauseTimeoutSeconds: asyncLogoutPauseMs / 1000,
      srbTimeoutDeltaSeconds: taskTimeoutDeltaMs / 1000,
      enableNopOut: nopIntervalMs > 0,
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
      const companion = name === "connectionPolicy" ? { connections: "2" } : {};
      expect(parseInitiatorSettings({ ...companion, [name]: text })).toHaveProperty(name);
    }
  });

  it("explains every policy", () => {
    for (const policy of CONNECTION_POLICIES) expect(rows.get("connectionPolicy")?.meaning).toContain(`\`${policy}\``);
  });
});
