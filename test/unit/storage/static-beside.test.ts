import { silentLogger } from "../../../src/base/logger.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { EmbeddedBackend } from "../../../src/storage/embedded-backend.js";
import { MemoryStore } from "../../../src/storage/memory-store.js";
import { StaticBackend } from "../../../src/storage/static-backend.js";
import { StaticBeside } from "../../../src/storage/static-beside.js";
import { describeStorageBackend, initiator, volumeSpec } from "../../contract/storage-backend.js";
import { FakeTargetServer } from "./fake-target-server.js";

const arrayVolume = { targetPortal: "192.0.2.1", targetIQN: "iqn.2001-05.com.example:disk", lun: "3" };

async function open(store = new MemoryStore({ capacityBytes: 2 ** 40 })): Promise<StaticBeside> {
  const embedded = await EmbeddedBackend.open(
    {},
    {
      store,
      target: new FakeTargetServer(),
      clock: new SystemClock(),
      random: new SeededRandom(1),
      logger: silentLogger,
    },
  );
  return new StaticBeside(embedded, new StaticBackend({ logger: silentLogger }));
}

describeStorageBackend("StaticBeside over an EmbeddedBackend", async () => {
  const store = new MemoryStore({ capacityBytes: 2 ** 40 });
  let current = await open(store);
  return {
    backend: current,
    reopen: async () => {
      await current.close();
      return (current = await open(store));
    },
    cleanup: () => current.close(),
  };
});

describe("StaticBeside", () => {
  let backend: StaticBeside;
  beforeEach(async () => {
    backend = await open();
  });
  afterEach(() => backend.close());

  it("gives access to the array's LUN that a PersistentVolume describes", async () => {
    expect(await backend.exists("pv-of-an-array", arrayVolume)).toBe(true);
    expect(await backend.grant("pv-of-an-array", initiator("a"), arrayVolume)).toEqual({
      portals: [{ host: "192.0.2.1", port: 3260 }],
      targetName: arrayVolume.targetIQN,
      lun: 3,
      deviceId: "",
    });
  });

  it("refuses attributes that make no sense, by name", async () => {
    const access = backend.grant("pv-of-an-array", initiator("a"), { ...arrayVolume, lun: "many" });
    await expect(access).rejects.toMatchObject({ code: "STORAGE_INVALID", message: expect.stringContaining("lun") });
  });

  it("never sends an own volume's consumer to another target", async () => {
    const { id } = await backend.create(volumeSpec("own"));
    const access = await backend.grant(id, initiator("a"), arrayVolume);
    expect(access.targetName).not.toBe(arrayVolume.targetIQN);
    expect((await backend.get(id))?.grants).toHaveLength(1);
  });

  it("does not know a volume that neither side has", async () => {
    expect(await backend.exists("gone", {})).toBe(false);
    await expect(backend.grant("gone", initiator("a"), {})).rejects.toMatchObject({ code: "STORAGE_NOT_FOUND" });
  });

  it("has nothing to take away or delete of an array's volume", async () => {
    await backend.grant("pv-of-an-array", initiator("a"), arrayVolume);
    await expect(backend.revoke("pv-of-an-array", initiator("a").iqn)).resolves.toBeUndefined();
    await expect(backend.delete("pv-of-an-array")).resolves.toBeUndefined();
  });
});
