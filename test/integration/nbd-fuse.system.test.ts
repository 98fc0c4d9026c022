import { execFile, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { silentLogger } from "../../src/base/logger.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import { bindDevice, discardDevice, listBoundBackends, type BoundDevice } from "../../src/nbd/bind.js";
import { describeNeeding } from "../support/needs.js";

const MIB = 1024 * 1024;
const needs = ["root", "/dev/fuse", "/dev/loop-control", "nbdfuse", "mkfs.ext4", "e2fsck", "fio"];

/** Never synchronously: this process serves the device. */
async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 60_000 });
  return stdout;
}

describeNeeding(needs, "a device through nbdfuse and loop", () => {
  const dependencies = { clock: new SystemClock(), logger: silentLogger };
  let folder = "";
  let mountPoint = "";
  let device: MemoryDevice;
  let bound: BoundDevice | undefined;

  const bind = async (backendId = "test/fuse"): Promise<BoundDevice> => {
    const runtimeDirectory = join(folder, "run");
    bound = await bindDevice(device, { backend: "fuse", backendId, runtimeDirectory }, dependencies);
    return bound;
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hawser-fuse-"));
    mountPoint = join(folder, "mnt");
    mkdirSync(mountPoint);
    device = new MemoryDevice({ sizeBytes: 128 * MIB });
  });

  afterEach(async () => {
    const mounts = readFileSync("/proc/self/mountinfo", "utf8");
    if (mounts.includes(` ${mountPoint} `)) await run("umount", mountPoint);
    await bound?.release();
    bound = undefined;
    rmSync(folder, { recursive: true });
  });

  it("carries a file system: format, mount, verified load, unmount, check", async () => {
    const { devicePath } = await bind();
    await run("mkfs.ext4", "-q", devicePath);
    await run("mount", devicePath, mountPoint);
    await run(
      "fio",
      ...[
        "--name=v",
        "--verify_state_save=0",
        `--directory=${mountPoint}`,
        "--size=16M",
        "--bs=4k",
        "--rw=randwrite",
        "--iodepth=16",
      ],
      ...["--ioengine=libaio", "--direct=1", "--verify=crc32c", "--end_fsync=1"],
    );
    await run("umount", mountPoint);
    await run("e2fsck", "-fn", devicePath);
  }, 120_000);

  it("shows size, block size and direct I/O, and leaves nothing behind", async () => {
    device = new MemoryDevice({ sizeBytes: 64 * MIB, logicalBlockBytes: 4096 });
    const { devicePath, major, minor } = await bind();
    expect(await run("blockdev", "--getsize64", "--getss", devicePath)).toBe(`${64 * MIB}\n4096\n`);
    expect(await run("cat", `/sys/block/${devicePath.slice(5)}/loop/dio`)).toBe("1\n");
    expect(await run("cat", `/sys/block/${devicePath.slice(5)}/dev`)).toBe(`${major}:${minor}\n`);
    expect(await listBoundBackends({ runtimeDirectory: join(folder, "run") })).toContainEqual({
      devicePath,
      backendId: "test/fuse",
    });
    await bound?.release();
    bound = undefined;
    expect(readdirSync(join(folder, "run"))).toEqual([]);
    expect(existsSync(`/sys/block/${devicePath.slice(5)}/loop`)).toBe(false);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(folder);
  }, 60_000);

  it("writes reach the device, and reads come from it", async () => {
    const { devicePath } = await bind();
    const pattern = Buffer.alloc(64 * 1024, "hawser");
    const file = await open(devicePath, "r+");
    await file.write(pattern, 0, pattern.length, 0);
    await file.sync();
    await file.close();
    const read = Buffer.alloc(pattern.length);
    await device.read(0, read);
    expect(read.equals(pattern)).toBe(true);
    await device.write(MIB, pattern);
    const out = await run("dd", `if=${devicePath}`, "iflag=direct", "bs=64k", "skip=16", "count=1", "status=none");
    expect(out).toBe(pattern.toString());
  }, 60_000);

  it("refuses to go while it is mounted or open, naming who", async () => {
    const { devicePath } = await bind();
    const fd = openSync(devicePath, "r");
    const holder = spawn("sleep", ["60"], { stdio: [fd, "ignore"] });
    closeSync(fd);
    await expect(bound?.release()).rejects.toMatchObject({
      code: "DEVICE_BUSY",
      message: expect.stringContaining(`open in process ${holder.pid}`) as string,
    });
    holder.kill();
    await new Promise((resolve) => holder.once("exit", resolve));
  }, 60_000);

  it("grows online", async () => {
    const { devicePath } = await bind();
    await run("mkfs.ext4", "-q", devicePath);
    device.resize(256 * MIB);
    await bound?.resize(256 * MIB);
    expect(await run("blockdev", "--getsize64", devicePath)).toBe(`${256 * MIB}\n`);
    await run("resize2fs", "-f", devicePath);
    await run("e2fsck", "-fn", devicePath);
    const last = Buffer.alloc(4096, 9);
    await device.write(256 * MIB - 4096, last);
    const out = await run("dd", `if=${devicePath}`, "iflag=direct", "bs=4096", "skip=65535", "count=1", "status=none");
    expect(out).toBe(last.toString());
  }, 60_000);

  it("does not bind one id twice, and clears what a dead process left", async () => {
    await bind();
    await expect(
      bindDevice(
        device,
        { backend: "fuse", backendId: "test/fuse", runtimeDirectory: join(folder, "run") },
        dependencies,
      ),
    ).rejects.toMatchObject({ code: "DEVICE_ALREADY_BOUND" });
    // The remains look the same whether the process that made them lives or not.
    expect(await discardDevice({ backendId: "test/fuse", runtimeDirectory: join(folder, "run") }, dependencies)).toBe(
      true,
    );
    expect(await discardDevice({ backendId: "test/fuse", runtimeDirectory: join(folder, "run") }, dependencies)).toBe(
      false,
    );
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(folder);
    // Its device is gone; its server is still ours, and left open it would keep the test run from ending.
    await bound?.release();
    await bind();
  }, 60_000);

  it("says why nbdfuse failed and leaves nothing behind", async () => {
    const runtimeDirectory = join(folder, "x".repeat(100));
    await expect(
      bindDevice(device, { backend: "fuse", backendId: "a", runtimeDirectory }, dependencies),
    ).rejects.toBeInstanceOf(Error);
    expect(readdirSync(runtimeDirectory)).toEqual([]);
  }, 60_000);
});
