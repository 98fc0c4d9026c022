import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { reportMeasured } from "../support/file-load.js";
import { HawserHost, HOST_NEEDS, type HawserProcess } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { StaticVolume } from "../support/static-volume.js";
import { Tgtd } from "../support/tgt.js";

const MIB = 1_048_576;
const PORT = 13_420;
const TARGET = "iqn.2026-11.test:leaks";
const CYCLES = 30;
const DISKS = 2;

/** Open files of a process by what they are. */
function openFiles({ pid }: HawserProcess): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\d{3,}/, "N")];
    } catch {
      return [];
    }
  });
}

function residentMib({ pid }: HawserProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1]) / 1024;
}

function threads({ pid }: HawserProcess): number {
  return readdirSync(`/proc/${pid}/task`).length;
}

function children({ pid }: HawserProcess): readonly string[] {
  return readdirSync(`/proc/${pid}/task`)
    .map((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").trim())
    .filter((text) => text !== "");
}

const needs = [...HOST_NEEDS, "tgtd", "tgtadm", "mkfs.ext4", "/dev/fuse"];

describeNeeding(needs, "what volumes leave behind", () => {
  let tgtd: Tgtd;
  let host: HawserHost;

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      ...{ controlPort: PORT, portals: [`127.0.0.1:${PORT}`] },
      targets: [{ name: TARGET, diskBytes: new Array<number>(DISKS).fill(64 * MIB) }],
    });
    host = await HawserHost.start({ logLevel: "info" });
  }, 60_000);

  afterAll(async () => {
    await host.remove();
    await tgtd.stop();
  }, 60_000);

  const volumeOf = (lun: number): StaticVolume =>
    new StaticVolume(host, {
      ...{ volumeId: `leak-${lun}`, fsType: "ext4" },
      attributes: { targetPortal: `127.0.0.1:${PORT}`, targetIQN: TARGET, lun: String(lun) },
    });

  it(`is nothing, after ${CYCLES} cycles of two volumes side by side`, async () => {
    const volumes = Array.from({ length: DISKS }, (_, index) => volumeOf(index + 1));
    const cycle = async (volume: StaticVolume, text: string): Promise<void> => {
      await volume.attach();
      await volume.mount();
      writeFileSync(join(volume.podPath, "file"), text);
      await volume.unmount();
      await volume.detach();
    };
    const all = (text: string): Promise<unknown> => Promise.all(volumes.map((volume) => cycle(volume, text)));
    // The first cycles make file systems and load what is loaded once.
    await all("first");
    await all("second");
    // So that our own connection stands before anything is counted.
    await host.dataplaneClient.list();
    await delay(200);
    const before = host.processes.map((one) => ({ files: openFiles(one), threads: threads(one) }));
    const residentBefore = host.processes.map(residentMib);
    const startMs = Date.now();
    for (let round = 0; round < CYCLES; round += 1) {
      await all(`round ${round}`);
      if (round % 10 === 0) expect(host.leftovers()).toEqual([]);
    }
    const tookMs = (Date.now() - startMs) / CYCLES;

    expect(host.leftovers()).toEqual([]);
    expect(tgtd.admin("--op", "show", "--mode", "conn", "--tid", "1")).toBe("");
    expect(tgtd.admin("--op", "show", "--mode", "target")).not.toMatch(/I_T nexus: \d+/);
    expect(await host.dataplaneClient.list()).toEqual([]);
    const records = readdirSync(join(host.stateDirectory, "volumes"));
    expect(records).toHaveLength(DISKS);
    for (const record of records) {
      const content = JSON.parse(readFileSync(join(host.stateDirectory, "volumes", record), "utf8")) as object;
      expect(content).toMatchObject({ phase: "detached", generation: CYCLES + 2 });
    }
    expect(readdirSync(join(host.stateDirectory, "staged"))).toEqual([]);
    expect(readdirSync(join(host.directory, "run"))).toEqual([]);
    // Connections of the last calls close a moment later.
    await delay(500);
    host.processes.forEach((one, index) => {
      expect({ name: one.name, children: children(one) }).toEqual({ name: one.name, children: [] });
      expect([one.name, ...openFiles(one)].sort()).toEqual([one.name, ...(before[index]?.files ?? [])].sort());
      expect(threads(one)).toBeLessThanOrEqual(before[index]?.threads ?? 0);
    });
    const resident = host.processes.map(
      (one, index) => `${one.name} ${residentBefore[index]?.toFixed(0)} to ${residentMib(one).toFixed(0)} MiB`,
    );
    reportMeasured(
      `${CYCLES} cycles of ${DISKS} volumes, ${tookMs.toFixed(0)} ms each; resident: ${resident.join(", ")}`,
    );
  }, 180_000);

  it("is nothing, after stages that were refused or given up", async () => {
    const before = openFiles(host.dataplane).length;
    const wrongLun = volumeOf(99);
    const silent = new StaticVolume(host, {
      ...{ volumeId: "leak-silent", fsType: "ext4" },
      attributes: { targetPortal: `127.0.0.1:${PORT}`, targetIQN: TARGET, lun: "1" },
    });
    await wrongLun.attach();
    await silent.attach();
    for (let round = 0; round < 3; round += 1) {
      await expect(wrongLun.stage()).rejects.toThrow(/LUN/i);
      // The caller gives up on a target that does not answer.
      tgtd.signal("SIGSTOP");
      await expect(silent.stage(500)).rejects.toMatchObject({ status: "DEADLINE_EXCEEDED" });
      tgtd.signal("SIGCONT");
      // Whatever the given-up call still does ends by itself; then the volume is free again.
      for (let attempt = 0; ; attempt += 1) {
        try {
          await silent.unstage();
          break;
        } catch (error) {
          if (attempt > 100) throw error;
          await delay(100);
        }
      }
    }
    await delay(500);
    expect(host.leftovers()).toEqual([]);
    expect(tgtd.admin("--op", "show", "--mode", "conn", "--tid", "1")).toBe("");
    expect(openFiles(host.dataplane).length).toBeLessThanOrEqual(before);
    mkdirSync(silent.stagingPath, { recursive: true });
    await silent.mount();
    await silent.unmount();
  }, 60_000);
});
