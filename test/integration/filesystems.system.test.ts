import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, openSync, readFileSync, statSync, symlinkSync, writeFileSync, writeSync, closeSync } from "node:fs";
import { join } from "node:path";
import { blockDeviceNumbers, isDeviceAlive, probeBlockDevice } from "../../src/host/device-probe.js";
import { runCommand, spawnLongRunning } from "../../src/host/exec.js";
import { LinuxFilesystems } from "../../src/host/filesystem.js";
import { decideFormat, FILESYSTEM_TYPES, type FilesystemType } from "../../src/host/format-decision.js";
import { createMountPoint, removeMountPoint } from "../../src/host/mount-point.js";
import { LinuxMounter } from "../../src/host/mounter.js";
import { createLoopDevice, type LoopDevice } from "../support/loop-device.js";
import { describeNeeding, hasProgram } from "../support/needs.js";

const MIB = 1_048_576;
/** XFS refuses less than 300 MiB. */
const SIZE_BYTES = 320 * MIB;
const filesystems = new LinuxFilesystems();
const mounter = new LinuxMounter();
/** The kernel grows a mounted ext4 only for CAP_SYS_RESOURCE (bit 24), which not every container has. */
const canGrowMountedExt4 = ((): boolean => {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> 24n) & 1n) === 1n;
})();
const needs = ["root", "losetup", "blkid", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "xfs_growfs", "/dev/loop-control"];

describeNeeding(needs, "file systems and mounts on loop devices", () => {
  let loop: LoopDevice;
  let mountPoint: string;

  beforeEach(() => {
    loop = createLoopDevice(SIZE_BYTES);
    mountPoint = join(loop.folder, "mnt");
    mkdirSync(mountPoint);
  });

  afterEach(() => loop.remove());

  const decide = async (requestedFsType: FilesystemType, wasFormatted = false): Promise<string> => {
    const signature = await filesystems.probeSignature(loop.path);
    const isZeroed = await filesystems.isZeroed(loop.path);
    return decideFormat({ signature, isZeroed, wasFormatted, requestedFsType, isReadOnly: false }).action;
  };

  const writeAt = (offsetBytes: number, bytes: Buffer): void => {
    const fd = openSync(loop.path, "r+");
    writeSync(fd, bytes, 0, bytes.length, offsetBytes);
    closeSync(fd);
  };

  it.each(FILESYSTEM_TYPES)(
    "%s: decide, make, mount, write, grow while mounted, check, mount again",
    async (fsType) => {
      expect(await decide(fsType)).toBe("format");
      await filesystems.makeFilesystem({ devicePath: loop.path, fsType });
      expect(await decide(fsType, true)).toBe("use");
      expect(await filesystems.probeSignature(loop.path)).toEqual({ kind: "filesystem", fsType });
      expect(await filesystems.needsGrow(loop.path, fsType)).toBe(false);

      const entry = await mounter.mount({ source: loop.path, target: mountPoint, fsType, options: ["noatime"] });
      expect(entry).toMatchObject({ fsType, mountPoint, source: loop.path });
      expect(entry.options).toContain("noatime");
      const again = await mounter.mount({ source: loop.path, target: mountPoint, fsType, options: ["noatime"] });
      expect(again.id).toBe(entry.id);
      expect((await mounter.health(mountPoint)).kind).toBe("healthy");
      const device = await blockDeviceNumbers(loop.path);
      expect(device && (await mounter.mountsOfDevice(device)).map((mount) => mount.mountPoint)).toEqual([mountPoint]);

      const payload = randomBytes(3 * MIB);
      writeFileSync(join(mountPoint, "data"), payload);
      const before = await filesystems.filesystemStats(mountPoint);
      expect(before.totalBytes).toBeGreaterThan(SIZE_BYTES / 2);
      expect(before.usedBytes).toBeGreaterThanOrEqual(fsType === "btrfs" ? 0 : payload.length);
      expect(before.totalInodes === 0).toBe(fsType === "btrfs");

      loop.grow(2 * SIZE_BYTES);
      expect((await probeBlockDevice(loop.path)).sizeBytes).toBe(2 * SIZE_BYTES);
      expect(await filesystems.needsGrow(loop.path, fsType)).toBe(true);
      for (let round = 0; round < 2; round += 1) {
        const growing = filesystems.growFilesystem({ devicePath: loop.path, mountPoint, fsType });
        if (round === 0 && fsType === "ext4" && !canGrowMountedExt4) {
          await expect(growing).rejects.toMatchObject({
            code: "HOST_FILESYSTEM_GROW_FAILED",
            message: expect.stringContaining("SYS_RESOURCE") as string,
          });
          await mounter.unmount(mountPoint);
          expect(await filesystems.growUnmounted({ devicePath: loop.path, fsType })).toBe(true);
          await mounter.mount({ source: loop.path, target: mountPoint, fsType });
        } else {
          await growing;
        }
        const after = await filesystems.filesystemStats(mountPoint);
        expect(after.totalBytes).toBeGreaterThan(before.totalBytes + SIZE_BYTES * 0.9);
      }

      await mounter.unmount(mountPoint);
      await mounter.unmount(mountPoint);
      expect(await mounter.health(mountPoint)).toEqual({ kind: "absent" });
      expect(await filesystems.needsGrow(loop.path, fsType)).toBe(false);
      const repaired = await filesystems.checkFilesystem({ devicePath: loop.path, fsType, mode: "repair" });
      expect(repaired).toBe(fsType === "ext4" ? "clean" : "left-to-mount");
      expect(await filesystems.checkFilesystem({ devicePath: loop.path, fsType, mode: "inspect" })).toBe("clean");

      await mounter.mount({ source: loop.path, target: mountPoint, fsType, options: ["ro"] });
      const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
      expect(digest(readFileSync(join(mountPoint, "data")))).toBe(digest(payload));
      await mounter.unmount(mountPoint);
    },
    60_000,
  );

  it("never formats what is not empty", async () => {
    writeAt(SIZE_BYTES - 512, Buffer.from("x".padEnd(512, "\0")));
    expect(await decide("ext4")).toBe("refuse");
    writeAt(SIZE_BYTES - 512, Buffer.alloc(512));
    expect(await decide("ext4")).toBe("format");
    expect(await decide("ext4", true)).toBe("refuse");
    await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "xfs" });
    expect(await decide("ext4")).toBe("refuse");
    // Even when asked to: no force option is used.
    await expect(filesystems.makeFilesystem({ devicePath: loop.path, fsType: "btrfs" })).rejects.toMatchObject({
      code: "HOST_MKFS_FAILED",
    });
    expect(await decide("xfs", true)).toBe("use");
  });

  it("tells a partition table and swap from empty", async () => {
    // A protective MBR: one entry of type EEh and the signature 55AAh.
    const mbr = Buffer.alloc(512);
    mbr.set([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff, 0x01, 0, 0, 0, 0xff, 0xff, 0x09, 0], 446);
    mbr.set([0x55, 0xaa], 510);
    writeAt(0, mbr);
    expect(await filesystems.probeSignature(loop.path)).toMatchObject({ kind: "partition-table" });
    writeAt(0, Buffer.alloc(512));
    expect(await filesystems.probeSignature(loop.path)).toEqual({ kind: "empty" });
    const swap = Buffer.alloc(4096);
    swap.writeUInt32LE(1, 1024);
    swap.writeUInt32LE(79_999, 1028);
    swap.write("SWAPSPACE2", 4086, "latin1");
    writeAt(0, swap);
    expect(await filesystems.probeSignature(loop.path)).toMatchObject({ kind: "other", type: "swap" });
  });

  it("reports damage that needs a person", async () => {
    await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "ext4" });
    // The group descriptors are behind the superblock's block.
    writeAt(4096, randomBytes(4096));
    const request = { devicePath: loop.path, fsType: "ext4" } as const;
    await expect(filesystems.checkFilesystem({ ...request, mode: "inspect" })).rejects.toMatchObject({
      code: "HOST_FILESYSTEM_DAMAGED",
    });
  });

  it("fails on devices that are not there instead of calling them empty", async () => {
    await expect(filesystems.probeSignature("/dev/no-such-device")).rejects.toMatchObject({
      code: "HOST_DEVICE_UNREADABLE",
    });
    await expect(probeBlockDevice("/dev/null")).rejects.toMatchObject({ code: "HOST_DEVICE_MISSING" });
    await expect(
      mounter.mount({ source: "/dev/no-such-device", target: mountPoint, fsType: "ext4" }),
    ).rejects.toMatchObject({ code: "HOST_MOUNT_FAILED" });
    expect(await isDeviceAlive({ major: 4095, minor: 1 })).toBe(false);
  });

  it("puts nothing on top of a mount, and names what is there", async () => {
    const other = createLoopDevice(64 * MIB);
    try {
      await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "ext4" });
      await filesystems.makeFilesystem({ devicePath: other.path, fsType: "ext4" });
      const mount = { source: loop.path, target: mountPoint, fsType: "ext4" };
      await mounter.mount(mount);
      await expect(mounter.mount({ ...mount, source: other.path })).rejects.toMatchObject({
        code: "HOST_MOUNT_OCCUPIED",
        message: expect.stringContaining(loop.path) as string,
      });
      await expect(mounter.mount({ ...mount, options: ["ro"] })).rejects.toMatchObject({ code: "HOST_MOUNT_OCCUPIED" });
      await expect(mounter.bindMount({ source: other.folder, target: mountPoint })).rejects.toMatchObject({
        code: "HOST_MOUNT_OCCUPIED",
      });
      await expect(removeMountPoint(mountPoint, mounter)).rejects.toMatchObject({ code: "HOST_MOUNT_BUSY" });
      expect((await mounter.list()).filter((entry) => entry.mountPoint === mountPoint)).toHaveLength(1);
    } finally {
      other.remove();
    }
  });

  it("names a busy mount as busy", async () => {
    await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "ext4" });
    await mounter.mount({ source: loop.path, target: mountPoint, fsType: "ext4" });
    const fd = openSync(join(mountPoint, "open"), "w");
    await expect(mounter.unmount(mountPoint)).rejects.toMatchObject({ code: "HOST_MOUNT_BUSY" });
    closeSync(fd);
    await mounter.unmount(mountPoint);
    await removeMountPoint(mountPoint, mounter);
    await removeMountPoint(mountPoint, mounter);
    expect(() => statSync(mountPoint)).toThrow("ENOENT");
  });

  it("binds folders, read-only too, and repeats without stacking", async () => {
    await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "ext4" });
    await mounter.mount({ source: loop.path, target: mountPoint, fsType: "ext4" });
    const pod = join(loop.folder, "pods", "a b", "vol");
    await createMountPoint(pod, "directory");
    await createMountPoint(pod, "directory");
    const request = { source: mountPoint, target: pod, isReadOnly: true, options: ["noexec"] };
    const bound = await mounter.bindMount(request);
    expect((await mounter.bindMount(request)).id).toBe(bound.id);
    expect((await mounter.find(pod))?.options).toEqual(expect.arrayContaining(["ro", "noexec"]));
    expect(() => writeFileSync(join(pod, "x"), "")).toThrow("EROFS");
    writeFileSync(join(mountPoint, "x"), "seen");
    expect(readFileSync(join(pod, "x"), "utf8")).toBe("seen");
    // Read-only for the pod is no sign of a broken file system.
    expect((await mounter.health(pod)).kind).toBe("healthy");
    await mounter.unmount(pod);
    await mounter.bindMount({ source: mountPoint, target: pod });
    await expect(mounter.bindMount(request)).rejects.toMatchObject({ code: "HOST_MOUNT_OCCUPIED" });
    await mounter.remountReadOnly(pod);
    expect(() => writeFileSync(join(pod, "y"), "")).toThrow("EROFS");
    await mounter.unmount(pod);
    await mounter.unmount(mountPoint);
  });

  it("binds a device node onto a file", async () => {
    const target = join(loop.folder, "raw");
    await createMountPoint(target, "file");
    await mounter.bindMount({ source: loop.path, target });
    await mounter.bindMount({ source: loop.path, target });
    await createMountPoint(target, "file");
    expect(await blockDeviceNumbers(target)).toEqual(await blockDeviceNumbers(loop.path));
    expect((await mounter.health(target)).kind).toBe("healthy");
    await mounter.unmount(target);
    await removeMountPoint(target, mounter);
  });

  it("finds a mount behind a symbolic link in its path", async () => {
    await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "ext4" });
    const real = join(loop.folder, "real");
    mkdirSync(join(real, "mnt"), { recursive: true });
    symlinkSync(real, join(loop.folder, "link"));
    const target = join(loop.folder, "link", "mnt");
    const entry = await mounter.mount({ source: loop.path, target, fsType: "ext4" });
    expect(entry.mountPoint).toBe(join(real, "mnt"));
    expect((await mounter.mount({ source: loop.path, target, fsType: "ext4" })).id).toBe(entry.id);
    await mounter.unmount(target);
    expect(await mounter.isMountPoint(join(real, "mnt"))).toBe(false);
  });

  it("sees that the server of a FUSE mount has died, and can still remove the mount", async () => {
    if (!hasProgram("nbdfuse") || !hasProgram("nbdkit")) return;
    writeFileSync(mountPoint + ".file", "");
    const target = mountPoint + ".file";
    const server = await spawnLongRunning("nbdfuse", [target, "--command", "nbdkit", "-s", "memory", "1M"]);
    for (let tries = 0; tries < 200 && !(await mounter.isMountPoint(target)); tries += 1)
      await runCommand("sleep", ["0.05"]);
    expect(await mounter.health(target)).toMatchObject({ kind: "healthy" });
    server.kill("SIGKILL");
    await server.exited;
    expect(await mounter.health(target)).toMatchObject({ kind: "stale", reason: "it answers ENOTCONN" });
    await expect(mounter.bindMount({ source: loop.path, target })).rejects.toMatchObject({
      code: "HOST_MOUNT_OCCUPIED",
    });
    await mounter.unmount(target, { isLazy: true });
    expect(await mounter.health(target)).toEqual({ kind: "absent" });
  });

  it("removes mounts that others have stacked", async () => {
    await filesystems.makeFilesystem({ devicePath: loop.path, fsType: "ext4" });
    await mounter.mount({ source: loop.path, target: mountPoint, fsType: "ext4" });
    const raw = new LinuxMounter({ readMountInfo: () => Promise.resolve("") });
    // A mounter that sees no mounts stacks one; it notices only that its own is not there.
    await expect(raw.mount({ source: loop.path, target: mountPoint, fsType: "ext4" })).rejects.toMatchObject({
      code: "HOST_MOUNT_FAILED",
    });
    await mounter.unmount(mountPoint);
    expect(await mounter.isMountPoint(mountPoint)).toBe(false);
  });
});
