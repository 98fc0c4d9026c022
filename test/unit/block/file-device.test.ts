import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errorCode } from "../../../src/base/errors.js";
import { FileDevice } from "../../../src/block/file-device.js";
import { localIdentity } from "../../../src/block/local-identity.js";
import { NullDevice } from "../../../src/block/null-device.js";

const MIB = 1_048_576;
let folder = "";
const open: FileDevice[] = [];

async function device(options: Partial<Parameters<typeof FileDevice.open>[0]> = {}): Promise<FileDevice> {
  const opened = await FileDevice.open({ path: join(folder, "disk.img"), sizeBytes: 4 * MIB, ...options });
  open.push(opened);
  return opened;
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return work.then(
    () => undefined,
    (error: unknown) => errorCode(error),
  );
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "hawser-file-device-"));
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
  await rm(folder, { recursive: true, force: true });
});

test("makes a sparse file of the size asked for, and says what it can do", async () => {
  const disk = await device();
  const stats = await stat(join(folder, "disk.img"));
  expect([stats.size, stats.blocks]).toEqual([4 * MIB, 0]);
  expect(disk.info).toMatchObject({
    sizeBytes: 4 * MIB,
    logicalBlockBytes: 512,
    hasVolatileCache: true,
    canUnmap: true,
  });
});

test("what is written is read back, and lies in the file", async () => {
  const disk = await device();
  const data = Buffer.alloc(65_536, "hawser");
  await disk.write(4096, data);
  await disk.write(131_072, data, { fua: true });
  await disk.flush();
  const found = Buffer.alloc(65_536);
  await disk.read(4096, found);
  expect(found.equals(data)).toBe(true);
  expect((await readFile(join(folder, "disk.img"))).subarray(131_072, 196_608).equals(data)).toBe(true);
});

test("unmapped and zeroed ranges read as zeroes; block status tells data from holes", async () => {
  const disk = await device();
  await disk.write(0, Buffer.alloc(MIB, 1));
  await disk.unmap([{ offsetBytes: 65_536, lengthBytes: 65_536 }]);
  await disk.writeZeroes({ offsetBytes: 0, lengthBytes: 4096 });
  await disk.writeZeroes({ offsetBytes: 262_144, lengthBytes: 65_536 }, { mayUnmap: true, fua: true });
  const found = Buffer.alloc(MIB);
  await disk.read(0, found);
  expect([found[0], found[4096], found[65_536], found[131_072], found[262_144], found[327_680]]).toEqual([
    0, 1, 0, 1, 0, 1,
  ]);
  const extents = await disk.blockStatus({ offsetBytes: 0, lengthBytes: 4 * MIB });
  expect(extents.reduce((sum, extent) => sum + extent.lengthBytes, 0)).toBe(4 * MIB);
  expect(extents.find((extent) => extent.offsetBytes === 65_536)).toMatchObject({
    isAllocated: false,
    lengthBytes: 65_536,
  });
  expect(extents.at(-1)).toMatchObject({ offsetBytes: MIB, isAllocated: false, readsZeroes: true });
});

test("a second opener is refused while the first has it, and served after", async () => {
  const first = await device();
  expect(await codeOf(device())).toBe("BLOCK_UNAVAILABLE");
  await first.close();
  expect(await codeOf(device())).toBeUndefined();
});

test("grows, tells its listeners, and never shrinks", async () => {
  const disk = await device();
  const sizes: number[] = [];
  disk.onEvent((event) => {
    if (event.kind === "info-changed") sizes.push(event.info.sizeBytes);
  });
  await disk.resize(8 * MIB);
  expect([disk.info.sizeBytes, sizes]).toEqual([8 * MIB, [8 * MIB]]);
  expect(await codeOf(disk.resize(4 * MIB))).toBe("BLOCK_INVALID_RANGE");
  await disk.close();
  expect(await codeOf(device())).toBe("BLOCK_INVALID_RANGE");
  const again = await FileDevice.open({ path: join(folder, "disk.img") });
  open.push(again);
  expect(again.info.sizeBytes).toBe(8 * MIB);
});

test.each([
  ["outside", 4 * MIB, 512],
  ["across the end", 4 * MIB - 512, 1024],
  ["misaligned", 100, 512],
  ["of half a block", 0, 256],
])("an access %s is refused", async (_, offsetBytes, lengthBytes) => {
  const disk = await device();
  expect(await codeOf(disk.read(offsetBytes, Buffer.alloc(lengthBytes)))).toBe("BLOCK_INVALID_RANGE");
  expect(await codeOf(disk.write(offsetBytes, Buffer.alloc(lengthBytes)))).toBe("BLOCK_INVALID_RANGE");
  expect(await codeOf(disk.unmap([{ offsetBytes, lengthBytes }]))).toBe("BLOCK_INVALID_RANGE");
});

test("a read-only device reads and refuses the rest; a closed one refuses everything", async () => {
  await writeFile(join(folder, "disk.img"), Buffer.alloc(MIB, 3));
  const disk = await FileDevice.open({ path: join(folder, "disk.img"), isReadOnly: true });
  const found = Buffer.alloc(512);
  await disk.read(0, found);
  expect(found[0]).toBe(3);
  expect(await codeOf(disk.write(0, found))).toBe("BLOCK_READ_ONLY");
  expect(await codeOf(disk.unmap([{ offsetBytes: 0, lengthBytes: 512 }]))).toBe("BLOCK_READ_ONLY");
  await disk.close();
  expect(await codeOf(disk.read(0, found))).toBe("BLOCK_CLOSED");
});

test("a file cut short behind our back is an error, not zeroes", async () => {
  const disk = await device();
  await writeFile(join(folder, "disk.img"), Buffer.alloc(512));
  expect(await codeOf(disk.read(MIB, Buffer.alloc(512)))).toBe("BLOCK_IO");
});

test("a local identity is a valid NAA 3h name, the same for the same volume only", () => {
  expect(localIdentity("a").id).toMatch(/^naa\.3[0-9a-f]{15}$/);
  expect(localIdentity("a")).toEqual(localIdentity("a"));
  expect(localIdentity("a").id).not.toBe(localIdentity("b").id);
});

test("the null device gives zeroes and keeps nothing, within its size", async () => {
  const disk = new NullDevice({ sizeBytes: MIB });
  const found = Buffer.alloc(512, 1);
  await disk.write(0, Buffer.alloc(512, 2));
  await disk.read(0, found);
  expect(found.every((byte) => byte === 0)).toBe(true);
  expect(await codeOf(disk.write(MIB, found))).toBe("BLOCK_INVALID_RANGE");
});
