import { closeSync, ftruncateSync, fstatSync, openSync, readSync, rmSync, mkdtempSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostError } from "../../../src/host/errors.js";
import * as ffi from "../../../src/host/ffi.js";

const MIB = 1024 * 1024;

describe("system calls through koffi", () => {
  let folder = "";
  let fd = -1;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hawser-ffi-"));
    fd = openSync(join(folder, "file"), "w+");
  });

  afterEach(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  it("finds data and holes of a sparse file, and its end", async () => {
    ftruncateSync(fd, 4 * MIB);
    writeSync(fd, Buffer.alloc(MIB, 1), 0, MIB, 2 * MIB);
    expect(await ffi.seekData(fd, 0)).toBe(2 * MIB);
    expect(await ffi.seekHole(fd, 2 * MIB)).toBe(3 * MIB);
    expect(await ffi.seekData(fd, 3 * MIB)).toBeUndefined();
    expect(await ffi.seekHole(fd, 5 * MIB)).toBeUndefined();
  });

  it("punches holes that read as zeroes and free space", async () => {
    writeSync(fd, Buffer.alloc(2 * MIB, 7));
    const before = fstatSync(fd).blocks;
    await ffi.punchHole(fd, MIB, MIB);
    expect(fstatSync(fd).blocks).toBeLessThan(before);
    expect(fstatSync(fd).size).toBe(2 * MIB);
    const bytes = Buffer.alloc(2);
    readSync(fd, bytes, 0, 2, MIB - 1);
    expect([...bytes]).toEqual([7, 0]);
  });

  it("works on offsets beyond 4 GiB", async () => {
    ftruncateSync(fd, 9e9);
    writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, 8_589_934_592);
    expect(await ffi.seekData(fd, 0)).toBe(8_589_934_592);
  });

  it("reserves space without growing the file", async () => {
    await ffi.allocate(fd, 0, MIB);
    expect(fstatSync(fd).size).toBe(0);
    expect(fstatSync(fd).blocks * 512).toBeGreaterThanOrEqual(MIB);
  });

  it("names the errno of a refused call, also from the pool", async () => {
    await expect(ffi.punchHole(-1, 0, 4096)).rejects.toMatchObject({
      code: "HOST_EBADF",
      message: "fallocate failed with EBADF",
      details: { errno: "EBADF", call: "fallocate" },
    });
    await expect(ffi.joinNetlinkGroup(fd, 1)).rejects.toMatchObject({ code: "HOST_ENOTSOCK" });
    await expect(ffi.ioctl(fd, 0x4c82, 0)).rejects.toBeInstanceOf(HostError);
  });

  it("makes a pair of connected sockets", async () => {
    const [left, right] = await ffi.socketPair();
    try {
      writeSync(left, Buffer.from("moor"));
      const bytes = Buffer.alloc(8);
      expect(readSync(right, bytes, 0, 8, null)).toBe(4);
      expect(bytes.toString("latin1", 0, 4)).toBe("moor");
    } finally {
      ffi.closeFd(left);
      ffi.closeFd(right);
    }
  });

  it("receives nothing from a silent netlink socket without blocking", async () => {
    const socket = await ffi.openNetlinkGeneric();
    try {
      expect(await ffi.netlinkReceive(socket)).toBeUndefined();
    } finally {
      ffi.closeFd(socket);
    }
  });
});
