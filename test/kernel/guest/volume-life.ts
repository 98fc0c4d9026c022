import { deepEqual, equal, ok } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { runFio, treeDigest, writeTree } from "../../support/file-load.js";
import { HawserHost } from "../../support/hawser-processes.js";
import { StaticVolume } from "../../support/static-volume.js";

/**
 * The life of volumes on LIO over kernel nbd, run in the guest: `node volume-life.js`. The caller has set up one
 * target per file system, named in $TARGETS as JSON. Writes what it measured to $RESULTS/life.json and fails loudly.
 */
interface GuestTarget {
  readonly fsType: "ext4" | "xfs";
  readonly targetIQN: string;
  readonly portal: string;
  /** Folder of the backstore in configfs, and the file behind it. */
  readonly backstore: string;
  readonly image: string;
  readonly secrets: Readonly<Record<string, string>>;
  readonly grownBytes: number;
}

const MIB = 1_048_576;
const scratch = process.env["SCRATCH"] ?? "/run";
const targets = JSON.parse(process.env["TARGETS"] ?? "[]") as readonly GuestTarget[];
const measured: Record<string, unknown> = {};

function step(text: string): void {
  console.log(`${(process.uptime() * 1000).toFixed(0)} ms: ${text}`);
}

/** LIO has no event for it: the file grows, then the backstore is told. */
function growLun({ backstore, image, grownBytes }: GuestTarget): void {
  truncateSync(image, grownBytes);
  writeFileSync(join(backstore, "control"), `fd_dev_size=${grownBytes}`);
}

function checkImage({ fsType, image }: GuestTarget): void {
  const [program, args] = fsType === "ext4" ? ["e2fsck", ["-f", "-n", image]] : ["xfs_repair", ["-n", "-f", image]];
  execFileSync(program, args, { stdio: "pipe" });
}

function volumeOf(host: HawserHost, target: GuestTarget): StaticVolume {
  const { fsType, targetIQN, portal, secrets } = target;
  return new StaticVolume(host, {
    ...{ volumeId: `life-${fsType}`, fsType, secrets },
    attributes: {
      ...{ targetPortal: portal, targetIQN, lun: "0", sessionCHAPAuth: "true" },
      ...{ headerDigest: "crc32c", dataDigest: "crc32c" },
    },
  });
}

/** Grows the LUN, the device and the mounted file system while fio writes to it. */
async function growUnderLoad(volume: StaticVolume, target: GuestTarget): Promise<void> {
  const before = statfsSync(volume.podPath);
  const load = runFio({ directory: volume.podPath, sizeMib: 16, mode: "write", runtimeSeconds: 6, rateBytes: 4 * MIB });
  await delay(1500);
  growLun(target);
  const startMs = Date.now();
  equal(await volume.expand(target.grownBytes), target.grownBytes);
  const tookMs = Date.now() - startMs;
  // Once more: a repeated call finds nothing to do.
  equal(await volume.expand(target.grownBytes), target.grownBytes);
  const after = statfsSync(volume.podPath);
  const grownBytes = (after.blocks - before.blocks) * after.bsize;
  ok(grownBytes > 200 * MIB, `the file system grew by ${grownBytes} bytes only`);
  const { writtenBytes, longestWaitMs } = await load;
  measured[`${target.fsType} grown online`] = {
    ...{ expandMs: tookMs, fileSystemGrewMib: Math.round(grownBytes / MIB) },
    ...{ writtenMib: Math.round(writtenBytes / MIB), longestWaitMs },
  };
}

/** SIGKILL of the dataplane under load: the kernel keeps the requests for the next process. */
async function killDataplaneUnderLoad(host: HawserHost, volume: StaticVolume): Promise<void> {
  const load = runFio({
    directory: volume.podPath,
    sizeMib: 16,
    mode: "write",
    runtimeSeconds: 16,
    rateBytes: 2 * MIB,
  });
  const recoveredMs: number[] = [];
  for (let round = 0; round < 2; round += 1) {
    await delay(2500);
    const startMs = Date.now();
    await host.dataplane.kill();
    await host.dataplane.start();
    while ((await host.dataplaneClient.get("life-ext4"))?.state !== "attached") await delay(50);
    recoveredMs.push(Date.now() - startMs);
  }
  const { writtenBytes, longestWaitMs } = await load;
  measured["dataplane killed twice under load"] = {
    ...{ recoveredMs, longestWaitMs, writtenMib: Math.round(writtenBytes / MIB) },
  };
}

async function live(host: HawserHost, target: GuestTarget): Promise<void> {
  const { fsType } = target;
  const volume = volumeOf(host, target);
  await volume.attach();
  let startMs = Date.now();
  await volume.mount();
  measured[`${fsType} first mount`] = { tookMs: Date.now() - startMs };
  step(`${fsType} is mounted`);
  const status = await host.dataplaneClient.get(`life-${fsType}`);
  equal(status?.volume?.backend, "nbd");
  deepEqual([status.sessions[0]?.headerDigest, status.sessions[0]?.dataDigest], ["CRC32C", "CRC32C"]);
  const tree = join(volume.podPath, "tree");
  mkdirSync(tree);
  writeTree(tree);
  const digest = treeDigest(tree);
  await growUnderLoad(volume, target);
  step(`${fsType} was grown`);
  if (fsType === "ext4") await killDataplaneUnderLoad(host, volume);
  await volume.unmount();
  await volume.detach();
  deepEqual(host.leftovers(), []);
  checkImage(target);
  step(`${fsType} is unmounted and clean`);
  await volume.attach();
  startMs = Date.now();
  await volume.mount();
  measured[`${fsType} second mount`] = { tookMs: Date.now() - startMs };
  equal(treeDigest(tree), digest);
  const { readBytes } = await runFio({ directory: volume.podPath, sizeMib: 16, mode: "verify" });
  equal(readBytes, 16 * MIB);
  await volume.unmount();
  await volume.detach();
  deepEqual(host.leftovers(), []);
  step(`${fsType} holds what was written`);
}

/** Sessions LIO has, from its own tree. */
function lioSessions(): readonly string[] {
  const root = "/sys/kernel/config/target/iscsi";
  return readdirSync(root)
    .filter((name) => name.startsWith("iqn."))
    .flatMap((name) => {
      const acls = join(root, name, "tpgt_1", "acls");
      return readdirSync(acls).map((initiator) => join(acls, initiator, "info"));
    })
    .filter((path) => existsSync(path))
    .map((path) => execFileSync("cat", [path], { encoding: "utf8" }))
    .filter((text) => !text.includes("No active iSCSI Session"));
}

const host = await HawserHost.start({ parent: scratch, dataplaneArgs: ["--backend", "nbd"] });
step("three processes run");
try {
  for (const target of targets) await live(host, target);
  deepEqual(lioSessions(), []);
  writeFileSync(join(process.env["RESULTS"] ?? scratch, "life.json"), JSON.stringify(measured));
} catch (error) {
  for (const one of host.processes) console.log(`--- log of ${one.name}\n${one.log.slice(-4000)}`);
  throw error;
} finally {
  await host.remove();
}
step("done");
