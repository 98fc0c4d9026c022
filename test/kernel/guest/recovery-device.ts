import { renameSync, writeFileSync } from "node:fs";
import { silentLogger } from "../../../src/base/logger.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { parsePortal } from "../../../src/base/portal.js";
import { connectVolume } from "../../../src/initiator/connect-volume.js";
import { bindDevice } from "../../../src/nbd/bind.js";
import { realDependencies, volumeRequest } from "../../support/real-volume.js";

/**
 * Gives the kernel an nbd device over a session of several connections: `node recovery-device.js TARGET PORTAL...`,
 * one connection to each portal, at error recovery level 2. Writes its device to $SCRATCH/bound, and its sessions and
 * the events of their connections to $RESULTS/session.json every second. SIGTERM releases the device and ends it.
 */
const [targetName = "", ...portalTexts] = process.argv.slice(2);
const scratch = process.env["SCRATCH"] ?? "/run";
const [first, ...others] = portalTexts.map(parsePortal);
if (first === undefined) throw new Error("name the portals");

const volume = await connectVolume(
  volumeRequest({
    ...{ portals: [first, ...others], targetName, lun: 0, headerDigest: "crc32c", dataDigest: "crc32c" },
    settings: {
      connections: portalTexts.length,
      maxConnections: 8,
      connectionPolicy: "round-robin",
      errorRecoveryLevel: 2,
    },
  }),
  realDependencies(),
);
const events = new Map<string, number>();
volume.onEvent(({ event }) => {
  events.set(event.kind, (events.get(event.kind) ?? 0) + 1);
});

function report(): void {
  const path = `${process.env["RESULTS"] ?? scratch}/session.json`;
  writeFileSync(`${path}.new`, JSON.stringify({ sessions: volume.sessions(), events: Object.fromEntries(events) }));
  renameSync(`${path}.new`, path);
}

const bound = await bindDevice(
  volume.device,
  { backend: "nbd", backendId: "recovery/volume", runtimeDirectory: scratch },
  { clock: new SystemClock(), logger: silentLogger },
);
const reporting = setInterval(report, 1000);
report();
writeFileSync(`${scratch}/bound`, bound.devicePath);

process.on("SIGTERM", () => {
  void (async (): Promise<void> => {
    clearInterval(reporting);
    report();
    await bound.release();
    await volume.close();
    process.exit(0);
  })();
});
