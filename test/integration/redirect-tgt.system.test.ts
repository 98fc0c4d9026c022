import { type ConnectedVolume, connectVolume } from "../../src/initiator/connect-volume.js";
import { reportMeasured } from "../support/file-load.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, verifyTransfers, volumeRequest } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const PORT = 13_480;
/** tgt sends nobody to the address that he comes from, so the second one is another address of the host. */
const ORIGINAL = `127.0.0.1:${PORT}`;
const OTHER = `127.0.0.2:${PORT + 1}`;
const DISK_BYTES = 1 << 20;

const targetName = (reason: string): string => `iqn.2026-11.test:redirect-${reason.toLowerCase()}`;

describeNeeding(["tgtd", "tgtadm"], "redirects of tgtd over the life of a session", () => {
  const daemons: Tgtd[] = [];
  let volume: ConnectedVolume | undefined;

  afterEach(async () => {
    await volume?.close();
    volume = undefined;
    for (const daemon of daemons.splice(0)) await daemon.stop();
  });

  async function daemon(
    controlPort: number,
    portal: string,
    name: string,
    parameters: Readonly<Record<string, string | number>> = {},
  ): Promise<Tgtd> {
    const targets = [{ name, diskBytes: [DISK_BYTES], parameters }];
    const started = await Tgtd.start({ controlPort, portals: [portal], targets });
    daemons.push(started);
    return started;
  }

  /** Connects through a redirect, takes the redirect back, and has the session log in again. Where did it go? */
  async function portalsOf(reason: "Temporary" | "Permanent"): Promise<readonly string[]> {
    const name = targetName(reason);
    const redirect = { RedirectAddress: "127.0.0.2", RedirectPort: PORT + 1, RedirectReason: reason };
    const original = await daemon(348, ORIGINAL, name, redirect);
    const other = await daemon(349, OTHER, name);
    const request = volumeRequest({ portals: [{ host: "127.0.0.1", port: PORT }], targetName: name, lun: 1 });
    volume = await connectVolume(request, realDependencies());
    const reached = [volume.sessions()[0]?.portal ?? ""];
    await verifyTransfers(volume.device, [4096, 65_536]);
    const back = new Promise<string>((resolve) => {
      volume?.onEvent(({ source, event }) => {
        if (source === "session" && event.kind === "reconnected") {
          resolve(`${event.portal.host}:${event.portal.port}`);
        }
      });
    });
    await original.kill();
    original.targets = [{ name, diskBytes: [DISK_BYTES] }];
    await original.launch();
    await other.kill();
    await other.launch();
    reached.push(await back);
    await verifyTransfers(volume.device, [4096, 65_536]);
    reportMeasured(`${reason.toLowerCase()} redirect: first login ended at ${reached.join(", the next one at ")}`);
    return reached;
  }

  test("a temporary one holds for one login: the next begins at the original portal", async () => {
    expect(await portalsOf("Temporary")).toEqual([OTHER, ORIGINAL]);
  }, 60_000);

  test("a permanent one replaces the original portal, which could be reached again", async () => {
    expect(await portalsOf("Permanent")).toEqual([OTHER, OTHER]);
  }, 60_000);
});
