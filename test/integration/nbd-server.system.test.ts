import { execFile } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { silentLogger } from "../../src/base/logger.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import { NbdServer } from "../../src/nbd/server.js";
import { UnixListener } from "../../src/transport/unix.js";
import { describeNeeding } from "../support/needs.js";

const MIB = 1024 * 1024;
const needs = ["nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "fio"];

async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 100_000, maxBuffer: 8 * MIB });
  return stdout;
}

describeNeeding(needs, "the NBD server and other programs' clients", () => {
  let folder = "";
  let uri = "";
  let server: NbdServer;
  let device: MemoryDevice;

  const serve = async (): Promise<void> => {
    const dependencies = { clock: new SystemClock({ unref: true }), logger: silentLogger };
    const path = join(folder, "socket");
    server = new NbdServer(
      {
        endpoint: { kind: "unix", path },
        exports: new Map([
          ["disk", device],
          ["other", new MemoryDevice({ sizeBytes: MIB, isReadOnly: true })],
        ]),
      },
      { ...dependencies, listener: new UnixListener({}, dependencies) },
    );
    await server.start();
    uri = `nbd+unix:///disk?socket=${path}`;
  };

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "hawser-nbd-"));
    device = new MemoryDevice({ sizeBytes: 64 * MIB, id: "naa.6001405aabbccdd" });
    await serve();
  });

  afterEach(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });

  /** An image with data and zeroes. */
  const makeImage = (): { path: string; bytes: Buffer } => {
    const bytes = Buffer.alloc(64 * MIB);
    for (let offset = 0; offset < bytes.length; offset += 4 * MIB) randomFillSync(bytes, offset, MIB + 512);
    const path = join(folder, "image");
    writeFileSync(path, bytes);
    return { path, bytes };
  };

  const content = async (): Promise<Buffer> => {
    const bytes = Buffer.alloc(64 * MIB);
    for (let offset = 0; offset < bytes.length; offset += MIB) {
      await device.read(offset, bytes.subarray(offset, offset + MIB));
    }
    return bytes;
  };

  it("tells nbdinfo what it is", async () => {
    const info = JSON.parse(await run("nbdinfo", "--json", uri)) as { exports: Record<string, unknown>[] };
    expect(info.exports[0]).toMatchObject({
      "export-name": "disk",
      description: "HAWSER memory naa.6001405aabbccdd",
      "export-size": 64 * MIB,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_multi_conn: true,
      can_df: true,
      can_cache: false,
      can_fast_zero: true,
      contexts: ["base:allocation"],
      block_size_minimum: 512,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    });
    const listed = await run("nbdinfo", "--list", uri.replace("/disk?", "/?"));
    expect(listed).toContain('export="disk"');
    expect(listed).toContain('export="other"');
    await expect(run("nbdinfo", uri.replace("disk", "absent"))).rejects.toThrow(/No such file or directory for export/);
  }, 60_000);

  it("reports allocated and empty blocks to nbdinfo --map", async () => {
    await device.write(MIB, Buffer.alloc(65_536, 1));
    const map = JSON.parse(await run("nbdinfo", "--map", "--json", uri)) as Record<string, unknown>[];
    expect(map.map(({ offset, length, type }) => [offset, length, type])).toEqual([
      [0, MIB, 3],
      [MIB, 65_536, 0],
      [MIB + 65_536, 63 * MIB - 65_536, 3],
    ]);
  }, 60_000);

  it("takes and gives an image by nbdcopy over several connections", async () => {
    const { path, bytes } = makeImage();
    await run("nbdcopy", "--connections=4", "--flush", path, uri);
    expect((await content()).equals(bytes)).toBe(true);
    const copy = join(folder, "copy");
    await run("nbdcopy", uri, copy);
    expect(readFileSync(copy).equals(bytes)).toBe(true);
  }, 120_000);

  it("takes and gives an image by qemu-img", async () => {
    const { path, bytes } = makeImage();
    await run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", path, uri);
    expect((await content()).equals(bytes)).toBe(true);
    const copy = join(folder, "copy");
    await run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, copy);
    expect(readFileSync(copy).equals(bytes)).toBe(true);
    expect(await run("qemu-img", "compare", "-f", "raw", "-F", "raw", path, uri)).toContain("Images are identical");
  }, 120_000);

  it("obeys qemu-io: patterns, FUA, zeroes, discard, flush, and reads past the end", async () => {
    const out = await run(
      "qemu-io",
      ...["-f", "raw", "-d", "unmap", "-c", "write -P 0xab 1M 1M", "-c", "write -f -P 0xcd 2M 64k"],
      ...["-c", "write -z 1088k 64k", "-c", "write -z -u 1216k 64k", "-c", "discard 1344k 64k", "-c", "flush"],
      ...["-c", "read -v -P 0xab 1M 64k", "-c", "read -P 0 1088k 64k", "-c", "read -P 0 1216k 64k"],
      ...["-c", "read -P 0 1344k 64k", "-c", "read -P 0xcd 2M 64k", "-c", "read -P 0xab 1408k 64k", uri],
    );
    expect(out).not.toMatch(/verification failed|failed|error/i);
    const bytes = Buffer.alloc(65_536);
    await device.read(2 * MIB, bytes);
    expect(bytes.every((byte) => byte === 0xcd)).toBe(true);
  }, 60_000);

  it("refuses writes to a read-only export", async () => {
    const other = uri.replace("/disk?", "/other?");
    await expect(run("qemu-io", "-f", "raw", "-c", "write 0 4k", other)).rejects.toThrow(/read-only|permitted|denied/i);
    expect((JSON.parse(await run("nbdinfo", "--json", other)) as { exports: unknown[] }).exports[0]).toMatchObject({
      is_read_only: true,
      can_trim: false,
      can_zero: false,
    });
  }, 60_000);

  it("serves 4096-byte blocks to qemu, which aligns for it", async () => {
    await server.close();
    device = new MemoryDevice({ sizeBytes: 64 * MIB, logicalBlockBytes: 4096 });
    await serve();
    const out = await run("qemu-io", "-f", "raw", "-c", "write -P 7 1000 3000", "-c", "read -P 7 1000 3000", uri);
    expect(out).not.toMatch(/failed/);
  }, 60_000);

  it.each(["randrw", "write"])(
    "verifies under fio, %s",
    async (mode) => {
      await run(
        "fio",
        ...[
          "--name=v",
          "--verify_state_save=0",
          "--ioengine=nbd",
          `--uri=${uri}`,
          `--rw=${mode}`,
          "--bsrange=4k-256k",
          "--iodepth=32",
        ],
        ...["--size=48M", "--verify=crc32c", "--verify_fatal=1", "--randseed=3"],
      );
    },
    120_000,
  );

  it("lets a request under way finish before it closes", async () => {
    const { path, bytes } = makeImage();
    const copying = run("nbdcopy", "--connections=2", path, uri).catch(() => "cut");
    await new Promise((resolve) => setTimeout(resolve, 60));
    await server.close();
    expect(server.connectionCount).toBe(0);
    await copying;
    // Every block is either as before or as written: nothing half.
    const now = await content();
    const zeroes = Buffer.alloc(4096);
    for (let offset = 0; offset < now.length; offset += 4096) {
      const block = now.subarray(offset, offset + 4096);
      const isNew = block.equals(bytes.subarray(offset, offset + 4096));
      if (!isNew && !block.equals(zeroes)) throw new Error(`the block at ${offset} is neither old nor new`);
    }
  }, 60_000);
});
