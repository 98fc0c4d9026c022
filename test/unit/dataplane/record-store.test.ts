import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../../src/base/logger.js";
import { FileRecordStore } from "../../../src/dataplane/record-store.js";
import { recordFileName, type VolumeRecord } from "../../../src/dataplane/volume-record.js";
import { codeOf } from "../../support/dataplane-world.js";

const record: VolumeRecord = {
  ...{ version: 1, volumeHandle: "vol-1", phase: "attached", portals: [{ host: "h", port: 3260 }] },
  ...{ targetName: "iqn.2026-11.dev.hawser:t", lun: 0, requestedId: "", deviceId: "naa.1", isReadOnly: false },
  ...{ headerDigest: "none", dataDigest: "crc32c", isids: ["800102030405"], generation: 1, bootId: "b" },
  publicationId: "",
  ...{ wasFormatted: false, fsType: "", createdAtMs: 1, updatedAtMs: 2 },
};

let directory: string;
let store: FileRecordStore;

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), "hawser-records-")), "volumes");
  store = new FileRecordStore({ directory }, { logger: silentLogger });
  await store.load();
});
afterEach(() => rm(join(directory, ".."), { recursive: true, force: true }));

describe("record file names", () => {
  it.each([
    "pvc-0b1c",
    "a/b/../../etc/passwd",
    "..",
    "ü€𝄞",
    "x".repeat(1024),
    "csi.example^pool/vol#1",
    "con:portal=1;lun=2",
  ])("are safe for %.30s", (handle) => {
    const name = recordFileName(handle);
    expect(name).toMatch(/^[A-Za-z0-9_-]+\.json$/);
    expect(name.length).toBeLessThanOrEqual(140);
  });

  it("differ for handles that read alike", () => {
    const handles = ["a/b", "a_b", "a b", "A/b", "x".repeat(200), "x".repeat(201)];
    expect(new Set(handles.map(recordFileName)).size).toBe(handles.length);
  });

  it("stay the same in later versions: the hash is SHA-256 of the handle", () => {
    // printf %s vol/1 | sha256sum
    expect(recordFileName("vol/1")).toBe("vol_1-bd393b4bcbb185a91d2dd75f.json");
  });
});

describe("the record store", () => {
  it("gives back what was saved, from files only their owner reads", async () => {
    await store.save(record);
    await store.save({ ...record, generation: 2 });
    await store.save({ ...record, volumeHandle: "vol/2" });
    const { records, damaged } = await store.load();
    expect(records).toEqual([
      { ...record, generation: 2 },
      { ...record, volumeHandle: "vol/2" },
    ]);
    expect(damaged).toEqual([]);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    for (const name of await readdir(directory)) {
      expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
    }
  });

  it("removes a record, and it is no error when there is none", async () => {
    await store.save(record);
    await store.remove("vol-1");
    await store.remove("vol-1");
    expect((await store.load()).records).toEqual([]);
  });

  it("ignores and clears what a crash in the middle of writing left", async () => {
    await store.save(record);
    await writeFile(join(directory, `.writing-abc-${recordFileName("vol-1")}`), "{ half");
    expect((await store.load()).records).toEqual([record]);
    expect(await readdir(directory)).toEqual([recordFileName("vol-1")]);
  });

  it.each([
    ["cut short", (text: string) => text.slice(0, 20)],
    ["empty", () => ""],
    ["another kind of JSON", () => "[1,2]"],
    ["a field missing", (text: string) => text.replace('"targetName"', '"other"')],
    ["a field of another type", (text: string) => text.replace('"lun": 0', '"lun": "0"')],
    ["the record of another volume", (text: string) => text.replace("vol-1", "vol-9")],
    ["too large", (text: string) => text + " ".repeat(300_000)],
  ])("puts aside a file that is %s", async (_title, damage) => {
    await store.save(record);
    await store.save({ ...record, volumeHandle: "vol-2" });
    const path = join(directory, recordFileName("vol-1"));
    const content = damage(await readFile(path, "utf8"));
    await writeFile(path, content);
    const { records, damaged } = await store.load();
    expect(records.map(({ volumeHandle }) => volumeHandle)).toEqual(["vol-2"]);
    expect(damaged).toEqual([
      expect.objectContaining({ fileName: recordFileName("vol-1"), isNewer: false, path: `${path}.damaged` }),
    ]);
    expect(await readFile(`${path}.damaged`, "utf8")).toBe(content);
    // It is still known at the next start, and a second one does not overwrite it.
    await writeFile(path, "again");
    expect((await store.load()).damaged).toHaveLength(2);
    expect(await readFile(`${path}.damaged`, "utf8")).toBe(content);
    expect(await readFile(`${path}.damaged-1`, "utf8")).toBe("again");
  });

  it("reads records with fields it does not know", async () => {
    await store.save(record);
    const path = join(directory, recordFileName("vol-1"));
    await writeFile(path, (await readFile(path, "utf8")).replace("{", '{ "later": true,'));
    expect((await store.load()).records).toEqual([record]);
  });

  it("keeps settings of the initiator, and reads records of before that have none", async () => {
    const settings = { connections: "4", connectionPolicy: "round-robin" };
    await store.save({ ...record, settings });
    expect((await store.load()).records).toEqual([{ ...record, settings }]);
    await store.save(record);
    const path = join(directory, recordFileName("vol-1"));
    expect(await readFile(path, "utf8")).not.toContain("settings");
    expect((await store.load()).records[0]?.settings).toBeUndefined();
  });

  it("refuses to write what it could not read again", async () => {
    expect(await codeOf(store.save({ ...record, isids: ["nonsense"] }))).toBe("STATE_FAILED");
  });

  it("says which directory cannot be used", async () => {
    await symlink("/dev/null", `${directory}-none`);
    const broken = new FileRecordStore({ directory: `${directory}-none` }, { logger: silentLogger });
    await expect(broken.load()).rejects.toMatchObject({
      code: "STATE_FAILED",
      message: expect.stringContaining(`${directory}-none`),
    });
    expect(await codeOf(broken.save(record))).toBe("STATE_FAILED");
  });
});
