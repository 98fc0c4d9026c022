import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../../src/base/logger.js";
import { Secret } from "../../../src/base/secret.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import type { StorageBackend } from "../../../src/storage/backend.js";
import { EmbeddedBackend } from "../../../src/storage/embedded-backend.js";
import { FileStore } from "../../../src/storage/file-store.js";
import { MemoryStore } from "../../../src/storage/memory-store.js";
import type { VolumeStore } from "../../../src/storage/volume-store.js";
import {
  describeStorageBackend,
  initiator,
  volumeSpec,
  type BackendUnderTest,
} from "../../contract/storage-backend.js";
import { FakeTargetServer } from "./fake-target-server.js";

const MIB = 2 ** 20;

interface Opened {
  readonly backend: EmbeddedBackend;
  readonly target: FakeTargetServer;
}

async function open(store: VolumeStore, seed = 1): Promise<Opened> {
  const target = new FakeTargetServer();
  const dependencies = {
    store,
    target,
    clock: new SystemClock(),
    random: new SeededRandom(seed),
    logger: silentLogger,
  };
  return { backend: await EmbeddedBackend.open({}, dependencies), target };
}

function fileStore(directory: string): FileStore {
  return new FileStore({ directory }, { random: new SeededRandom(7), logger: silentLogger });
}

async function underTest(newStore: () => VolumeStore, cleanup: () => Promise<void>): Promise<BackendUnderTest> {
  let current: StorageBackend = (await open(newStore())).backend;
  return {
    backend: current,
    reopen: async () => {
      await current.close();
      current = (await open(newStore(), 2)).backend;
      return current;
    },
    cleanup: async () => {
      await current.close();
      await cleanup();
    },
  };
}

describeStorageBackend("EmbeddedBackend over a MemoryStore", () => {
  const store = new MemoryStore({ capacityBytes: 2 ** 40 });
  return underTest(
    () => store,
    () => Promise.resolve(),
  );
});

describeStorageBackend("EmbeddedBackend over a FileStore", async () => {
  const directory = await mkdtemp(join(tmpdir(), "hawser-store-"));
  return underTest(
    () => fileStore(directory),
    () => rm(directory, { recursive: true }),
  );
});

describe("EmbeddedBackend", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "hawser-store-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it("exports one target per volume, LUN 0, to nobody until it is granted", async () => {
    const { backend, target } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    expect(target.initiators()).toEqual([]);
    const access = await backend.grant(volume.id, initiator("a"));
    expect(target.initiators()).toEqual([initiator("a").iqn]);
    expect([...target.targets.keys()]).toEqual([access.targetName]);
    expect(access.targetName).toMatch(/^iqn\.2026-11\.dev\.hawser:[0-9a-f]{32}$/);
    expect([...(target.targets.get(access.targetName)?.luns.keys() ?? [])]).toEqual([0]);
    await backend.close();
  });

  it("exports everything again before the target starts", async () => {
    const first = await open(fileStore(directory));
    const volume = await first.backend.create(volumeSpec("v"));
    await first.backend.grant(volume.id, initiator("a"));
    await first.backend.close();
    const second = await open(fileStore(directory));
    expect(second.target.initiators()).toEqual([initiator("a").iqn]);
    expect(second.target.isStarted).toBe(true);
    await second.backend.close();
    expect(second.target.isStarted).toBe(false);
  });

  it("grants for good though the target failed once: the repeated call finishes the work", async () => {
    const { backend, target } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    target.failNext("setAccess");
    await expect(backend.grant(volume.id, initiator("a"))).rejects.toThrow("told to fail");
    await backend.grant(volume.id, initiator("a"));
    expect(target.initiators()).toEqual([initiator("a").iqn]);
    await backend.close();
  });

  it("still has the grant to revoke when ending the sessions failed", async () => {
    const { backend, target } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    await backend.grant(volume.id, initiator("a"));
    target.failNext("setAccess");
    await expect(backend.revoke(volume.id, initiator("a").iqn)).rejects.toThrow("told to fail");
    expect((await backend.get(volume.id))?.grants).toHaveLength(1);
    await backend.revoke(volume.id, initiator("a").iqn);
    expect(target.initiators()).toEqual([]);
    await backend.close();
  });

  it("leaves nothing behind when a new volume cannot be exported", async () => {
    const { backend, target } = await open(fileStore(directory));
    target.failNext("addTarget");
    await expect(backend.create(volumeSpec("v"))).rejects.toThrow("told to fail");
    expect(await readdir(join(directory, "volumes"))).toEqual([]);
    await backend.create(volumeSpec("v"));
    expect((await backend.list(0, "")).volumes).toHaveLength(1);
    await backend.close();
  });

  it("finishes a deletion the target interrupted", async () => {
    const { backend, target } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    target.failNext("removeTarget");
    await expect(backend.delete(volume.id)).rejects.toThrow("told to fail");
    await backend.delete(volume.id);
    expect(target.targets.size).toBe(0);
    expect(await readdir(join(directory, "volumes"))).toEqual([]);
    await backend.close();
  });

  it("tells nodes the advertised portals", async () => {
    const target = new FakeTargetServer();
    const advertisedPortals = [{ host: "192.0.2.7", port: 3260 }];
    const store = new MemoryStore({ capacityBytes: 2 ** 40 });
    const dependencies = { store, target, clock: new SystemClock(), random: new SeededRandom(1), logger: silentLogger };
    const backend = await EmbeddedBackend.open({ advertisedPortals }, dependencies);
    const volume = await backend.create(volumeSpec("v"));
    expect((await backend.grant(volume.id, initiator("a"))).portals).toEqual(advertisedPortals);
    await backend.close();
  });

  it("makes 4096-byte blocks when asked", async () => {
    const { backend, target } = await open(fileStore(directory));
    await backend.create(volumeSpec("v", { parameters: { blockSize: "4096" } }));
    expect([...target.targets.values()][0]?.luns.get(0)?.info.logicalBlockBytes).toBe(4096);
    const odd = backend.create(volumeSpec("w", { parameters: { blockSize: "1000" } }));
    await expect(odd).rejects.toMatchObject({ code: "STORAGE_INVALID" });
    await backend.close();
  });
});

describe("FileStore", () => {
  let directory: string;
  const canary = "canary-secret-0123456789";
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "hawser-store-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  it("keeps a volume as a sparse file of exactly its size", async () => {
    const { backend } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v", { requiredBytes: 64 * MIB }));
    const { size, blocks } = await stat(join(directory, "volumes", volume.id, "disk.img"));
    expect(size).toBe(64 * MIB);
    expect(blocks * 512).toBeLessThan(MIB);
    await backend.close();
  });

  it("writes no secret in clear, and its key for the owner only", async () => {
    const { backend } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    const chap = { user: "u", secret: Secret.from(canary), mutualUser: "m", mutualSecret: Secret.from(`${canary}2`) };
    await backend.grant(volume.id, initiator("a", { chap }));
    const metadata = await readFile(join(directory, "volumes", volume.id, "volume.json"), "utf8");
    expect(metadata).toContain("sealedChap");
    expect(metadata).not.toContain(canary);
    expect(metadata).not.toContain(Buffer.from(canary).toString("base64").slice(0, 24));
    expect((await stat(join(directory, "store.key"))).mode & 0o777).toBe(0o600);
    expect((await stat(join(directory, "volumes", volume.id, "volume.json"))).mode & 0o777).toBe(0o600);
    await backend.close();
  });

  it("finishes what a crash cut short: half a creation goes, half a deletion goes", async () => {
    const { backend } = await open(fileStore(directory));
    const kept = await backend.create(volumeSpec("kept"));
    const lost = await backend.create(volumeSpec("lost"));
    await backend.close();
    await rm(join(directory, "volumes", lost.id, "volume.json"));
    const { mkdir } = await import("node:fs/promises");
    await mkdir(join(directory, "volumes", ".deleting-vol-x"));
    const second = await open(fileStore(directory));
    expect((await second.backend.list(0, "")).volumes.map((volume) => volume.id)).toEqual([kept.id]);
    expect(await readdir(join(directory, "volumes"))).toEqual([kept.id]);
    await second.backend.close();
  });

  it("grows the blocks to the metadata after a crash between the two", async () => {
    const { backend } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    await backend.close();
    const path = join(directory, "volumes", volume.id, "volume.json");
    const metadata = JSON.parse(await readFile(path, "utf8")) as object;
    await writeFile(path, JSON.stringify({ ...metadata, sizeBytes: 16 * MIB }));
    const second = await open(fileStore(directory));
    expect((await stat(join(directory, "volumes", volume.id, "disk.img"))).size).toBe(16 * MIB);
    await second.backend.close();
  });

  it.each([
    ["no JSON", "{"],
    ["another version", '{"version":2}'],
    ["a stranger's id", JSON.stringify({ version: 1, id: "vol-y" })],
  ])("leaves a volume alone whose metadata is %s", async (_what, text) => {
    const { backend } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    await backend.close();
    await writeFile(join(directory, "volumes", volume.id, "volume.json"), text);
    const second = await open(fileStore(directory));
    expect((await second.backend.list(0, "")).volumes).toEqual([]);
    expect(await readdir(join(directory, "volumes", volume.id))).toContain("disk.img");
    await second.backend.close();
  });

  it("does not open sealed secrets with another key, and says what to do", async () => {
    const { backend } = await open(fileStore(directory));
    const volume = await backend.create(volumeSpec("v"));
    await backend.grant(volume.id, initiator("a", { chap: { user: "u", secret: Secret.from(canary) } }));
    await backend.close();
    await writeFile(join(directory, "store.key"), Buffer.alloc(32, 9));
    const errors: unknown[] = [];
    const logger = { ...silentLogger, error: (_message: string, fields?: object) => errors.push(fields) };
    const store = new FileStore({ directory }, { random: new SeededRandom(1), logger });
    expect(await store.open()).toEqual([]);
    expect(JSON.stringify(errors)).toContain("store.key");
    expect(JSON.stringify(errors)).not.toContain(canary);
  });

  it("never leaves its folder, whatever id it is given", async () => {
    const store = fileStore(directory);
    await store.open();
    for (const id of ["../x", "a/b", "", ".deleting-a", "A"]) {
      await expect(store.delete(id)).rejects.toMatchObject({ code: "STORAGE_INVALID" });
    }
  });
});
