import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountsOfDevice } from "../../../src/host/device-holders.js";
import * as nbd from "../../../src/host/kernel-nbd.js";
import { parseMountInfo } from "../../../src/host/mountinfo.js";

describe("nbd devices in sysfs", () => {
  let root = "";

  const add = (name: string, attributes: Readonly<Record<string, string>>): void => {
    const folder = join(root, "block", name);
    mkdirSync(join(folder, "queue"), { recursive: true });
    for (const [file, text] of Object.entries(attributes)) writeFileSync(join(folder, file), text);
  };

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "hawser-sys-"));
    add("nbd0", { size: "0\n", dev: "43:0\n" });
    add("nbd10", { pid: "12\n", backend: "c/two\n", dev: "43:320\n", size: "2048\n" });
    add("nbd2", { pid: "11\n", dev: "43:64\n" });
    add("sda", { pid: "1\n", backend: "c/two\n" });
  });

  afterEach(() => rmSync(root, { recursive: true }));

  it("lists the connected ones by number", async () => {
    expect(await nbd.listKernelNbd(root)).toEqual([
      { index: 2, devicePath: "/dev/nbd2", backendId: "", pid: 11 },
      { index: 10, devicePath: "/dev/nbd10", backendId: "c/two", pid: 12 },
    ]);
    expect(await nbd.listKernelNbd(join(root, "nothing"))).toEqual([]);
  });

  it("finds one by its backend id", async () => {
    expect((await nbd.findKernelNbd("c/two", root)).map(({ index }) => index)).toEqual([10]);
    expect(await nbd.findKernelNbd("c/tw", root)).toEqual([]);
  });

  it("reads numbers and sizes, and sets the time-out", async () => {
    expect(await nbd.blockNumbers("nbd10", root)).toEqual({ major: 43, minor: 320 });
    expect(await nbd.blockSizeBytes("nbd10", root)).toBe(1_048_576);
    await expect(nbd.blockNumbers("nbd7", root)).rejects.toMatchObject({ code: "HOST_NO_BLOCK_DEVICE" });
    await nbd.setIoTimeout("nbd10", 1500.4, root);
    expect(readFileSync(join(root, "block/nbd10/queue/io_timeout"), "utf8")).toBe("1500");
    await expect(nbd.setIoTimeout("nbd7", 1, root)).rejects.toMatchObject({ code: "HOST_IO_TIMEOUT_REFUSED" });
  });
});

describe("mounts of a device", () => {
  const device = { devicePath: "/dev/nbd3", major: 43, minor: 96 };

  it("are those by number, by name where numbers are anonymous, and bind mounts of the node", () => {
    const entries = parseMountInfo(
      [
        "25 1 254:0 / / rw - ext4 /dev/vda rw",
        "26 25 43:96 / /mnt/a\\040b rw shared:1 - ext4 /dev/nbd3 rw",
        "27 25 0:55 / /mnt/btrfs rw - btrfs /dev/nbd3 rw",
        "28 25 0:5 /nbd3 /pods/raw rw - devtmpfs udev rw",
        "29 25 0:5 /nbd30 /pods/other rw - devtmpfs udev rw",
        "30 25 43:960 / /mnt/other rw - ext4 /dev/nbd30 rw",
      ].join("\n"),
    );
    expect(mountsOfDevice(entries, device)).toEqual(["/mnt/a b", "/mnt/btrfs", "/pods/raw"]);
  });
});
