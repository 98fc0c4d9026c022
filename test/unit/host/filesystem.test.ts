import { splitDeviceNumber } from "../../../src/host/device-probe.js";
import { HostError } from "../../../src/host/errors.js";
import type { CommandOptions, CommandResult, RunCommand } from "../../../src/host/exec.js";
import { LinuxFilesystems, parseBlkid } from "../../../src/host/filesystem.js";
import { filesystemSizeFromSuperblock } from "../../../src/host/superblock.js";

interface Call {
  readonly file: string;
  readonly args: readonly string[];
}

/** Programs that answer as told; exit codes outside the expected ones fail as the real runner does. */
function fakePrograms(answers: Readonly<Record<string, Partial<CommandResult>>>): { run: RunCommand; calls: Call[] } {
  const calls: Call[] = [];
  const run = (file: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> => {
    calls.push({ file, args });
    const answer = { stdout: "", stdoutBytes: Buffer.alloc(0), stderr: "", exitCode: 0, ...answers[file] };
    if ((options.expectedExitCodes ?? [0]).includes(answer.exitCode)) return Promise.resolve(answer);
    return Promise.reject(new HostError("HOST_COMMAND_FAILED", `${file} ended with exit code ${answer.exitCode}`));
  };
  return { run, calls };
}

const readable = { stdoutBytes: Buffer.alloc(4096) };

describe("parseBlkid", () => {
  it.each<[string, object]>([
    ["", { kind: "empty" }],
    ["DEVNAME=/dev/x\n", { kind: "empty" }],
    ["DEVNAME=/dev/x\nUUID=1\nTYPE=ext4\nUSAGE=filesystem\n", { kind: "filesystem", fsType: "ext4" }],
    ["DEVNAME=/dev/x\nTYPE=swap\nUSAGE=other\n", { kind: "other", type: "swap" }],
    ["TYPE=LVM2_member\nUSAGE=raid\n", { kind: "other", type: "LVM2_member" }],
    ["TYPE=crypto_LUKS\nUSAGE=crypto\n", { kind: "other", type: "crypto_LUKS" }],
    ["DEVNAME=/dev/x\nPTUUID=1\nPTTYPE=gpt\n", { kind: "partition-table", tableType: "gpt" }],
    ["TYPE=xfs\nUSAGE=filesystem\nPTTYPE=dos\n", { kind: "ambivalent" }],
    ["DEVNAME=/dev/x\nUUID=1\n", { kind: "other", type: "unrecognised" }],
  ])("%j", (output, signature) => {
    expect(parseBlkid(output)).toEqual(signature);
  });
});

describe("LinuxFilesystems", () => {
  it("calls a device empty only when it could be read and blkid found nothing", async () => {
    const { run } = fakePrograms({ dd: readable, blkid: { exitCode: 2 } });
    expect(await new LinuxFilesystems({ run }).probeSignature("/dev/x")).toEqual({ kind: "empty" });
    const unreadable = fakePrograms({ dd: { exitCode: 1 }, blkid: { exitCode: 2 } });
    await expect(new LinuxFilesystems(unreadable).probeSignature("/dev/x")).rejects.toMatchObject({
      code: "HOST_DEVICE_UNREADABLE",
    });
    const short = fakePrograms({ dd: { stdoutBytes: Buffer.alloc(512) }, blkid: { exitCode: 2 } });
    await expect(new LinuxFilesystems(short).probeSignature("/dev/x")).rejects.toMatchObject({
      code: "HOST_DEVICE_UNREADABLE",
    });
  });

  it("takes blkid's other exit codes for what they are", async () => {
    const ambivalent = fakePrograms({ dd: readable, blkid: { exitCode: 8 } });
    expect(await new LinuxFilesystems(ambivalent).probeSignature("/dev/x")).toEqual({ kind: "ambivalent" });
    const broken = fakePrograms({ dd: readable, blkid: { exitCode: 4 } });
    await expect(new LinuxFilesystems(broken).probeSignature("/dev/x")).rejects.toMatchObject({
      code: "HOST_COMMAND_FAILED",
    });
  });

  it("makes file systems without any force option", async () => {
    const { run, calls } = fakePrograms({});
    const filesystems = new LinuxFilesystems({ run });
    for (const fsType of ["ext4", "xfs", "btrfs"] as const) {
      await filesystems.makeFilesystem({ devicePath: "/dev/x", fsType });
    }
    expect(calls.map(({ file }) => file)).toEqual(["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"]);
    for (const { args } of calls) expect(args.some((arg) => /^-[fF]|force/.test(arg))).toBe(false);
  });

  it("reads e2fsck's exit codes", async () => {
    const check = (exitCode: number): Promise<string> =>
      new LinuxFilesystems(fakePrograms({ e2fsck: { exitCode } })).checkFilesystem({
        devicePath: "/dev/x",
        fsType: "ext4",
        mode: "repair",
      });
    expect(await check(0)).toBe("clean");
    expect(await check(1)).toBe("repaired");
    await expect(check(4)).rejects.toMatchObject({ code: "HOST_FILESYSTEM_DAMAGED" });
    await expect(check(8)).rejects.toMatchObject({ code: "HOST_FILESYSTEM_DAMAGED" });
  });

  it("runs nothing for file systems that repair themselves at mount", async () => {
    const { run, calls } = fakePrograms({});
    const filesystems = new LinuxFilesystems({ run });
    for (const fsType of ["xfs", "btrfs"] as const) {
      expect(await filesystems.checkFilesystem({ devicePath: "/dev/x", fsType, mode: "repair" })).toBe("left-to-mount");
      expect(await filesystems.growUnmounted({ devicePath: "/dev/x", fsType })).toBe(false);
    }
    expect(calls).toEqual([]);
  });
});

describe("filesystemSizeFromSuperblock", () => {
  it("reads ext4, with and without 64-bit block counts", () => {
    const bytes = Buffer.alloc(4096);
    bytes.writeUInt32LE(80, 1024 + 4);
    bytes.writeUInt32LE(2, 1024 + 0x18);
    bytes.writeUInt16LE(0xef53, 1024 + 0x38);
    bytes.writeUInt32LE(1, 1024 + 0x150);
    expect(filesystemSizeFromSuperblock("ext4", bytes)).toBe(80 * 4096);
    bytes.writeUInt32LE(0x80, 1024 + 0x60);
    expect(filesystemSizeFromSuperblock("ext4", bytes)).toBe((2 ** 32 + 80) * 4096);
  });

  it("reads XFS", () => {
    const bytes = Buffer.alloc(4096);
    bytes.write("XFSB");
    bytes.writeUInt32BE(4096, 4);
    bytes.writeUInt32BE(1, 8);
    bytes.writeUInt32BE(5, 12);
    expect(filesystemSizeFromSuperblock("xfs", bytes)).toBe((2 ** 32 + 5) * 4096);
  });

  it("reads btrfs", () => {
    const bytes = Buffer.alloc(4096);
    bytes.write("_BHRfS_M", 0x40);
    bytes.writeUInt32LE(4096, 0xd1);
    bytes.writeUInt32LE(1, 0xd5);
    expect(filesystemSizeFromSuperblock("btrfs", bytes)).toBe(2 ** 32 + 4096);
  });

  it("finds nothing in zeroes or in too little", () => {
    for (const fsType of ["ext4", "xfs", "btrfs"] as const) {
      expect(filesystemSizeFromSuperblock(fsType, Buffer.alloc(4096))).toBeUndefined();
      expect(filesystemSizeFromSuperblock(fsType, Buffer.alloc(100))).toBeUndefined();
    }
  });
});

describe("splitDeviceNumber", () => {
  // Values as makedev(3) gives them.
  it.each<[number, number, number]>([
    [0x700, 7, 0],
    [0x2b03, 43, 3],
    [0x10_3500, 53, 256],
    [0x1_0305, 259, 5],
    [0xffff_ffff, 4095, 1_048_575],
  ])("%d is %d:%d", (device, major, minor) => {
    expect(splitDeviceNumber(device)).toEqual({ major, minor });
  });
});
