import { execFile, execFileSync } from "node:child_process";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { DataplaneEvent } from "../../src/dataplane/api.js";
import { reportMeasured, runFio } from "../support/file-load.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { StaticVolume } from "../support/static-volume.js";
import { Tgtd, type TgtTarget } from "../support/tgt.js";

const run = promisify(execFile);
const MIB = 1_048_576;
const PORT = 13_405;
const DISK_BYTES = 256 * MIB;
const account = { user: "u", secret: "one-way-secret-1", mutualUser: "m", mutualSecret: "other-way-secret-2" };
const CHAPPED = "iqn.2026-11.test:faults-chap";
const OPEN = "iqn.2026-11.test:faults-open";
const OTHER = "iqn.2026-11.test:faults-other";
const TARGETS: readonly TgtTarget[] = [
  { name: CHAPPED, diskBytes: [DISK_BYTES], account },
  { name: OPEN, diskBytes: [DISK_BYTES] },
  { name: OTHER, diskBytes: [DISK_BYTES] },
];

const needs = [...HOST_NEEDS, "tgtd", "tgtadm", "mkfs.ext4", "e2fsck", "/dev/fuse"];

describeNeeding(needs, "volumes when things go wrong", () => {
  let tgtd: Tgtd;
  let host: HawserHost;
  let count = 0;

  beforeAll(async () => {
    tgtd = await Tgtd.start({ controlPort: PORT, portals: [`127.0.0.1:${PORT}`], targets: TARGETS });
    host = await HawserHost.start();
  }, 60_000);

  afterAll(async () => {
    await host.remove();
    await tgtd.stop();
  }, 60_000);

  /** A volume nobody has heard of yet, on a disk that is empty again. */
  const freshVolume = (
    options: { targetIQN?: string; secrets?: Record<string, string>; naa?: string; volumeId?: string } = {},
  ): StaticVolume => {
    const { targetIQN = OPEN, secrets, naa, volumeId = `fault-${(count += 1)}` } = options;
    const attributes = {
      targetPortal: `127.0.0.1:${PORT}`,
      targetIQN,
      lun: "1",
      ...(naa === undefined ? {} : { naa }),
    };
    return new StaticVolume(host, {
      ...{ volumeId, fsType: "ext4", attributes },
      ...(secrets === undefined ? {} : { secrets }),
    });
  };

  const emptyDisk = (targetIndex: number): void => {
    truncateSync(tgtd.diskPath(targetIndex, 1), 0);
    truncateSync(tgtd.diskPath(targetIndex, 1), DISK_BYTES);
  };

  const killNode = async (): Promise<void> => {
    await host.node.kill();
    await host.node.start();
  };

  it("goes on when the node process is killed between calls and under load", async () => {
    emptyDisk(1);
    const volume = freshVolume();
    await volume.attach();
    await volume.stage();
    await killNode();
    await volume.publish();
    const load = runFio({
      directory: volume.podPath,
      sizeMib: 32,
      mode: "write",
      runtimeSeconds: 8,
      rateBytes: 8 * MIB,
    });
    for (let round = 0; round < 3; round += 1) {
      await delay(1500);
      await killNode();
      // A kubelet that saw its call fail makes it again.
      await volume.mount();
      await expect(volume.unstage()).rejects.toMatchObject({ status: "FAILED_PRECONDITION" });
    }
    const { longestWaitMs, writtenBytes } = await load;
    expect((await volume.sessions())[0]).toMatchObject({ reconnects: 0 });
    await volume.unpublish();
    await killNode();
    await volume.unpublish();
    await volume.unstage();
    await volume.unstage();
    await volume.detach();
    expect(host.leftovers()).toEqual([]);
    execFileSync("e2fsck", ["-f", "-n", tgtd.diskPath(1, 1)], { stdio: "pipe" });
    await volume.attach();
    await volume.mount();
    await runFio({ directory: volume.podPath, sizeMib: 32, mode: "verify" });
    await volume.unmount();
    reportMeasured(
      `node killed 3 times under load: ${(writtenBytes / MIB).toFixed(0)} MiB, longest wait ${longestWaitMs} ms`,
    );
  }, 120_000);

  it("finishes a stage that was cut short anywhere", async () => {
    const outcomes: string[] = [];
    for (const afterMs of [5, 30, 60, 90, 130, 180, 250]) {
      emptyDisk(1);
      const volume = freshVolume();
      await volume.attach();
      const cut = volume.stage().then(
        () => "finished",
        () => "cut",
      );
      await delay(afterMs);
      await killNode();
      outcomes.push(`${afterMs} ms ${await cut}`);
      await volume.mount();
      writeFileSync(join(volume.podPath, "file"), "kept");
      await volume.unmount();
      await volume.mount();
      expect(readFileSync(join(volume.podPath, "file"), "utf8")).toBe("kept");
      await volume.unmount();
      expect(host.leftovers()).toEqual([]);
      execFileSync("e2fsck", ["-f", "-n", tgtd.diskPath(1, 1)], { stdio: "pipe" });
    }
    expect(outcomes.some((outcome) => outcome.endsWith("cut"))).toBe(true);
    reportMeasured(`node killed during NodeStageVolume after ${outcomes.join(", ")}`);
  }, 120_000);

  it("waits for a target that crashed, and loses nothing", async () => {
    emptyDisk(0);
    const secrets = { chapUser: "u", chapSecret: account.secret, mutualUser: "m", mutualSecret: account.mutualSecret };
    const volume = freshVolume({ targetIQN: CHAPPED, secrets });
    await volume.attach();
    await volume.mount();
    const load = runFio({
      ...{ directory: volume.podPath, sizeMib: 32, mode: "write", runtimeSeconds: 12, rateBytes: 8 * MIB },
    });
    for (let round = 0; round < 2; round += 1) {
      await delay(2000);
      await tgtd.kill();
      await delay(1500);
      await tgtd.launch();
    }
    const { longestWaitMs, writtenBytes } = await load;
    expect((await volume.sessions())[0]?.reconnects).toBeGreaterThanOrEqual(2);
    await runFio({ directory: volume.podPath, sizeMib: 32, mode: "verify" });
    await volume.unmount();
    execFileSync("e2fsck", ["-f", "-n", tgtd.diskPath(0, 1)], { stdio: "pipe" });
    expect(host.leftovers()).toEqual([]);
    reportMeasured(
      `tgtd killed twice for 1.5 s under load: ${(writtenBytes / MIB).toFixed(0)} MiB, longest wait ${longestWaitMs} ms`,
    );
  }, 120_000);

  it("names a wrong CHAP secret, either way, and quickly", async () => {
    const right = { chapUser: "u", chapSecret: account.secret, mutualUser: "m", mutualSecret: account.mutualSecret };
    const volumeId = "fault-chap";
    const wrong: readonly Record<string, string>[] = [
      { ...right, chapSecret: "not-this-secret" },
      { ...right, mutualSecret: "not-that-secret" },
      {},
    ];
    const messages: string[] = [];
    for (const secrets of wrong) {
      const volume = freshVolume({ targetIQN: CHAPPED, secrets, volumeId });
      await volume.attach();
      const startMs = Date.now();
      const refused = (await volume.stage().catch((error: unknown) => error)) as { status: string; message: string };
      const tookMs = Date.now() - startMs;
      expect(refused.status).toBe("UNAUTHENTICATED");
      expect(tookMs).toBeLessThan(3000);
      messages.push(`${tookMs} ms: ${refused.message}`);
      expect(host.leftovers()).toEqual([]);
    }
    for (const message of messages) expect(message).toMatch(/CHAP/);
    const volume = freshVolume({ targetIQN: CHAPPED, secrets: right, volumeId });
    await volume.attach();
    await volume.mount();
    await volume.unmount();
    messages.forEach((message) => reportMeasured(`refused in ${message}`));
  }, 60_000);

  it("refuses a device that is not the volume's", async () => {
    emptyDisk(1);
    const first = freshVolume({ volumeId: "fault-known" });
    await first.attach();
    await first.mount();
    const naa = (await host.dataplaneClient.get("fault-known"))?.volume?.deviceId ?? "";
    expect(naa).toMatch(/^naa\./);
    await first.unmount();
    const wrong = freshVolume({ naa: naa.replace(/.$/, (digit) => (digit === "0" ? "1" : "0")) });
    await wrong.attach();
    await expect(wrong.stage()).rejects.toMatchObject({
      status: "FAILED_PRECONDITION",
      message: expect.stringContaining(naa) as string,
    });
    const right = freshVolume({ naa });
    await right.attach();
    await right.mount();
    await right.unmount();
    expect(host.leftovers()).toEqual([]);
  }, 60_000);

  it("writes nothing to another LUN that took the volume's place", async () => {
    emptyDisk(1);
    emptyDisk(2);
    const volume = freshVolume({ volumeId: "fault-swapped" });
    await volume.attach();
    await volume.mount();
    const events: DataplaneEvent[] = [];
    const watching = new AbortController();
    const watched = (async () => {
      for await (const event of host.dataplaneClient.watch(watching.signal)) events.push(event);
    })();
    // The third target becomes the second: its disk appears under the volume's name and portal.
    await tgtd.kill();
    tgtd.targets = TARGETS.map((target, index) =>
      index === 1 ? { ...target, name: OTHER } : index === 2 ? { ...target, name: OPEN } : target,
    );
    await tgtd.launch();
    const args = ["if=/dev/urandom", `of=${join(volume.podPath, "f")}`, "bs=64k", "count=16", "conv=fsync"];
    await expect(run("dd", args, { timeout: 30_000 })).rejects.toThrow(/Input\/output error|Read-only/);
    // The session tries again meanwhile, in case the array is put right.
    await delay(1500);
    expect(await host.dataplaneClient.get("fault-swapped")).toMatchObject({
      state: "failed",
      reason: expect.stringContaining("identity") as string,
    });
    const answer = (await host.call("node", "NodeGetVolumeHealth", { volumeId: "fault-swapped" })) as object;
    expect(answer).toMatchObject({ volumeHealth: { healthStatuses: [{ status: "INACCESSIBLE", reason: "Failed" }] } });
    const other = readFileSync(tgtd.diskPath(2, 1));
    expect(other.equals(Buffer.alloc(other.length))).toBe(true);
    await volume.unmount();
    await expect(volume.stage()).rejects.toMatchObject({ status: "FAILED_PRECONDITION" });
    watching.abort();
    await watched;
    expect(events.map((event) => event.kind)).toContain("identity-changed");
    await tgtd.kill();
    tgtd.targets = TARGETS;
    await tgtd.launch();
    await volume.mount();
    await volume.unmount();
    expect(host.leftovers()).toEqual([]);
  }, 90_000);
});
