import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reportMeasured, runFio, treeDigest, writeTree } from "../support/file-load.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { StaticVolume } from "../support/static-volume.js";
import { Tgtd, type TgtAccount } from "../support/tgt.js";

const MIB = 1_048_576;
const PORT = 13_400;
const SECRETS = { user: "node", secret: "one-way-secret-1" };
const MUTUAL = { ...SECRETS, mutualUser: "array", mutualSecret: "other-way-secret-2" };

interface Case {
  readonly fsType: "ext4" | "xfs" | "btrfs";
  readonly digest: "none" | "crc32c";
  readonly account: TgtAccount;
  /** How the file system's own checker looks at it without changing anything. */
  readonly check: readonly [string, ...string[]];
  /** Mounting a copy that must not be written to. */
  readonly mountOptions: string;
}

const CASES: readonly Case[] = [
  { fsType: "ext4", digest: "none", account: SECRETS, check: ["e2fsck", "-f", "-n"], mountOptions: "ro,noload" },
  {
    ...{ fsType: "xfs", digest: "crc32c", account: MUTUAL },
    ...{ check: ["xfs_repair", "-n"], mountOptions: "ro,norecovery" },
  },
  {
    ...{ fsType: "btrfs", digest: "crc32c", account: MUTUAL },
    ...{ check: ["btrfs", "check", "--readonly"], mountOptions: "ro" },
  },
  // Mutual CHAP without digests, and digests with one-way CHAP, on the quickest file system.
  { fsType: "ext4", digest: "none", account: MUTUAL, check: ["e2fsck", "-f", "-n"], mountOptions: "ro,noload" },
  { fsType: "ext4", digest: "crc32c", account: SECRETS, check: ["e2fsck", "-f", "-n"], mountOptions: "ro,noload" },
];

const targetName = (index: number): string => `iqn.2026-11.test:life-${index}`;

/** The array's own copy of the LUN, read by the kernel without any of our code: checked, mounted, its tree's digest. */
function inspectIndependently(imagePath: string, { check, mountOptions, fsType }: Case): string {
  const folder = mkdtempSync(join(tmpdir(), "hawser-inspect-"));
  const device = execFileSync("losetup", ["-r", "-f", "--show", imagePath], { encoding: "utf8" }).trim();
  try {
    execFileSync(check[0], [...check.slice(1), device], { stdio: "pipe" });
    execFileSync("mount", ["-t", fsType, "-o", mountOptions, device, folder]);
    try {
      return treeDigest(join(folder, "tree"));
    } finally {
      execFileSync("umount", [folder]);
    }
  } finally {
    execFileSync("losetup", ["-d", device]);
    rmSync(folder, { recursive: true });
  }
}

const needs = [...HOST_NEEDS, "tgtd", "tgtadm", "mkfs.xfs", "xfs_repair", "mkfs.btrfs", "e2fsck", "/dev/fuse"];

describeNeeding(needs, "the life of a volume on tgtd", () => {
  let tgtd: Tgtd;
  let host: HawserHost;

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      controlPort: PORT,
      portals: [`127.0.0.1:${PORT}`],
      targets: CASES.map(({ account, digest }, index) => ({
        name: targetName(index),
        // tgtd answers None unless told otherwise.
        ...(digest === "none" ? {} : { parameters: { HeaderDigest: "CRC32C", DataDigest: "CRC32C" } }),
        // XFS takes no less than 300 MiB.
        diskBytes: [512 * MIB],
        // An account has one secret in all of tgtd, so every target gets users of its own.
        account: {
          ...account,
          user: `${account.user}-${index}`,
          ...(account.mutualUser === undefined ? {} : { mutualUser: `${account.mutualUser}-${index}` }),
        },
      })),
    });
    host = await HawserHost.start();
  }, 60_000);

  afterAll(async () => {
    await host.remove();
    await tgtd.stop();
  }, 60_000);

  const volumeOf = (index: number, { account, digest, fsType }: Case): StaticVolume =>
    new StaticVolume(host, {
      volumeId: `life-${index}`,
      fsType,
      attributes: {
        ...{ targetPortal: `127.0.0.1:${PORT}`, targetIQN: targetName(index), lun: "1", sessionCHAPAuth: "true" },
        ...(digest === "none" ? {} : { headerDigest: digest, dataDigest: digest }),
      },
      secrets: {
        ...{ chapUser: `${account.user}-${index}`, chapSecret: account.secret },
        ...(account.mutualUser === undefined || account.mutualSecret === undefined
          ? {}
          : { mutualUser: `${account.mutualUser}-${index}`, mutualSecret: account.mutualSecret }),
      },
    });

  it.each(CASES.map((one, index) => ({ ...one, index, chap: one.account === MUTUAL ? "mutual" : "one-way" })))(
    "$fsType with $chap CHAP and digests $digest: write, detach, check, attach again, verify",
    async ({ index, chap, ...life }) => {
      const sizeMib = index < 3 ? 96 : 32;
      const volume = volumeOf(index, life);
      await volume.attach();
      await volume.mount();

      const [session] = await volume.sessions();
      const digestInUse = life.digest === "none" ? "None" : "CRC32C";
      expect(session).toMatchObject({ headerDigest: digestInUse, dataDigest: digestInUse, reconnects: 0 });
      const written = await runFio({ directory: volume.podPath, sizeMib, mode: "write" });
      const tree = join(volume.podPath, "tree");
      mkdirSync(tree);
      writeTree(tree);
      const digest = treeDigest(tree);
      expect(written.writtenBytes).toBe(sizeMib * MIB);
      await volume.unmount();
      await volume.detach();
      expect(host.leftovers()).toEqual([]);
      expect(tgtd.admin("--op", "show", "--mode", "conn", "--tid", String(index + 1))).toBe("");

      expect(inspectIndependently(tgtd.diskPath(index, 1), life)).toBe(digest);

      await volume.attach();
      await volume.mount();
      expect(treeDigest(tree)).toBe(digest);
      const verified = await runFio({ directory: volume.podPath, sizeMib, mode: "verify" });
      expect(verified.readBytes).toBe(sizeMib * MIB);
      await volume.unmount();
      await volume.detach();
      expect(host.leftovers()).toEqual([]);
      const rate = (bytes: number, ms: number): string => `${((bytes / MIB / ms) * 1000).toFixed(0)} MiB/s`;
      reportMeasured(
        `${life.fsType}, ${chap} CHAP, digests ${life.digest}: ${sizeMib} MiB written at ` +
          `${rate(written.writtenBytes, written.runtimeMs)}, verified at ${rate(verified.readBytes, verified.runtimeMs)}`,
      );
    },
    120_000,
  );

  it("stops cleanly when told to", async () => {
    for (const one of [host.node, host.controller, host.dataplane]) expect(await one.stop()).toBe(0);
    // That a FUSE device does not survive its process is said at every attach; nothing else is worth a warning.
    const lines = host.processes.flatMap((one) => one.log.trim().split("\n"));
    // What this host lacks is said once at the start; nothing else may be worth a warning.
    const aboutTheHost = /using fuse and loop|this host lacks something/;
    const warnings = lines.filter((line) => /"level":(40|50|60)/.test(line) && !aboutTheHost.test(line));
    expect(warnings).toEqual([]);
  }, 60_000);
});
