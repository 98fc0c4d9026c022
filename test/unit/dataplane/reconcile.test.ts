import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../../src/base/errors.js";
import { codeOf, DataplaneWorld, until } from "../../support/dataplane-world.js";
import type { VolumeManager } from "../../../src/dataplane/volume-manager.js";

let world: DataplaneWorld;

beforeEach(async () => {
  world = await DataplaneWorld.create();
});
afterEach(() => world.destroy());

/** A dataplane that attached vol-1, somebody using the device, and then the process is gone. */
async function attachedThenCrashed(holders: string[] = ["mounted at /data"]): Promise<void> {
  const manager = await world.start();
  await manager.attach(world.request());
  await manager.markFormatted("vol-1", "ext4");
  world.kernel.only().holders = holders;
  world.crash();
}

async function stateOf(manager: VolumeManager): Promise<string> {
  return (await manager.get("vol-1"))?.state ?? "none";
}

function kinds(manager: VolumeManager): readonly string[] {
  return manager.recentEvents().map(({ kind }) => kind);
}

describe("after a restart in the same boot", () => {
  it("logs in with the same ISID before the kernel's requests are answered", async () => {
    await attachedThenCrashed();
    let openWhenRecovered = 0;
    const binder = world.kernel.binder();
    const next = await world.start({
      binder: {
        ...binder,
        recover: (device, options) => {
          openWhenRecovered = world.array.openSessions().length;
          return binder.recover(device, options);
        },
      },
    });
    await until(world, "attached", async () => (await stateOf(next)) === "attached");
    // The old process never logged out: only reinstatement leaves one session.
    expect(openWhenRecovered).toBe(1);
    const [old, young] = world.array.sessions;
    expect(young?.request.isid).toEqual(old?.request.isid);
    expect(young?.request.expectedId).toBe("naa.1");
    expect(await next.get("vol-1")).toMatchObject({ volume: { generation: 1, wasFormatted: true } });
    expect(kinds(next)).toContain("volume-resumed");
  });

  it("keeps trying while the target is away, says why, and comes back by itself", async () => {
    await attachedThenCrashed();
    world.array.failure = new AppError("transport", "TRANSPORT_REFUSED", "connection refused by 192.0.2.1:3260");
    const next = await world.start();
    await until(world, "a reason", async () => (await next.get("vol-1"))?.reason.includes("refused") === true);
    expect(await stateOf(next)).toBe("reconnecting");
    await world.clock.advance(120_000);
    expect(await stateOf(next)).toBe("reconnecting");
    expect(kinds(next).filter((kind) => kind === "resume-failed")).toHaveLength(1);
    world.array.failure = undefined;
    await until(world, "attached", async () => (await stateOf(next)) === "attached");
  });

  it("never serves another device in the volume's place", async () => {
    await attachedThenCrashed();
    world.array.addLun("iqn.2026-11.dev.hawser:vol-1", "naa.impostor");
    world.array.ignoresExpectedId = true;
    const next = await world.start();
    await until(world, "failed", async () => (await stateOf(next)) === "failed");
    expect((await next.get("vol-1"))?.reason).toContain("naa.impostor");
    expect(world.kernel.only().server).toBeUndefined();
    expect(world.array.openSessions().filter(({ device }) => device.info.identity.id !== "naa.1")).toHaveLength(0);
  });

  it("detaches at once although the target is away, when nobody uses the device", async () => {
    await attachedThenCrashed([]);
    world.array.hold = new Promise(() => undefined);
    const next = await world.start();
    await next.detach("vol-1");
    expect(world.kernel.devices.size).toBe(0);
    expect(await next.get("vol-1")).toBeUndefined();
  });

  it("refuses to detach a device in use, and then goes on bringing it back", async () => {
    await attachedThenCrashed();
    world.array.failure = new AppError("transport", "TRANSPORT_REFUSED", "refused");
    const next = await world.start();
    expect(await codeOf(next.detach("vol-1"))).toBe("DEVICE_BUSY");
    world.array.failure = undefined;
    await until(world, "attached", async () => (await stateOf(next)) === "attached");
  });

  it("says that a volume failed whose kernel device is gone; attaching it again makes a new generation", async () => {
    await attachedThenCrashed();
    world.kernel.devices.clear();
    const next = await world.start();
    await until(world, "failed", async () => (await stateOf(next)) === "failed");
    expect(world.array.sessions).toHaveLength(1);
    expect(await next.attach(world.request())).toMatchObject({ generation: 2, wasFormatted: true });
    expect(await stateOf(next)).toBe("attached");
  });

  it("finishes a stop in good order: the device waits, the session is logged out", async () => {
    const manager = await world.start();
    await manager.attach(world.request());
    await manager.stop();
    expect(world.kernel.calls.at(-1)).toBe("park test/vol-1/naa.1");
    expect(world.array.openSessions()).toHaveLength(0);
    const next = await world.start();
    await until(world, "attached", async () => (await stateOf(next)) === "attached");
  });
});

describe("fuse devices", () => {
  beforeEach(() => (world.kernel.defaultBackend = "fuse"));

  it("are detached at a stop when nobody uses them", async () => {
    const manager = await world.start();
    await manager.attach(world.request());
    await manager.stop();
    expect(world.kernel.devices.size).toBe(0);
    expect(await (await world.start()).list()).toEqual([]);
  });

  it("are cleaned up after a crash when nobody uses them", async () => {
    await attachedThenCrashed([]);
    const next = await world.start();
    await until(world, "gone", async () => (await stateOf(next)) === "none");
    expect(world.kernel.devices.size).toBe(0);
    expect((await next.attach(world.request())).generation).toBe(2);
  });

  it("are reported as failed while mounted, and cleaned up when that ends", async () => {
    await attachedThenCrashed();
    const next = await world.start();
    await until(world, "failed", async () => (await stateOf(next)) === "failed");
    expect((await next.get("vol-1"))?.reason).toContain("mounted at /data");
    world.kernel.only().holders = [];
    await world.clock.advance(6_000);
    await until(world, "gone", async () => (await stateOf(next)) === "none");
    expect(world.kernel.devices.size).toBe(0);
  });
});

describe("after a boot", () => {
  it("has purged what did not survive before the first answer, and kept what must be kept", async () => {
    await attachedThenCrashed();
    world.kernel.boot();
    world.bootId = "boot-2";
    const next = await world.start();
    expect(await next.list()).toEqual([]);
    expect(kinds(next)).toContain("volume-purged");
    expect(world.array.sessions).toHaveLength(1);
    const isid = world.array.last().request.isid;
    expect(await next.attach(world.request())).toMatchObject({ generation: 2, wasFormatted: true, deviceId: "naa.1" });
    expect(world.array.last().request.isid).toEqual(isid);
  });
});

describe("every few seconds", () => {
  it("notices that somebody disconnected a device", async () => {
    const manager = await world.start();
    await manager.attach(world.request());
    world.kernel.devices.clear();
    await world.clock.advance(6_000);
    await until(world, "failed", async () => (await stateOf(manager)) === "failed");
    expect(kinds(manager)).toContain("device-lost");
    expect(world.array.openSessions()).toHaveLength(0);
    expect((await manager.attach(world.request())).generation).toBe(2);
  });

  it("disconnects a device of ours without a record that nobody uses", async () => {
    const manager = await world.start();
    const { device } = await openOther();
    await world.kernel.binder().bind(device, { backend: "nbd", backendId: "test/forgotten/naa.7" });
    await manager.reconcile();
    expect(world.kernel.devices.size).toBe(0);
    expect(kinds(manager)).toEqual(["orphan-removed"]);
    expect(await manager.list()).toEqual([]);
  });

  it("only reports one that is in use, and only once", async () => {
    const manager = await world.start();
    const { device } = await openOther();
    await world.kernel.binder().bind(device, { backend: "nbd", backendId: "test/forgotten/naa.7" });
    world.kernel.only().holders = ["mounted at /mnt"];
    await manager.reconcile();
    await manager.reconcile();
    expect(world.kernel.devices.size).toBe(1);
    expect(kinds(manager)).toEqual(["orphan-in-use"]);
  });

  it("leaves the devices of others alone", async () => {
    const manager = await world.start();
    const { device } = await openOther();
    for (const backendId of ["other-cluster/vol/naa.7", "rbd-cookie", "a/b/c/d", "%/x/y"]) {
      await world.kernel.binder().bind(device, { backend: "nbd", backendId });
    }
    await manager.reconcile();
    expect(world.kernel.devices.size).toBe(4);
    expect(kinds(manager)).toEqual([]);
  });
});

describe("damaged records", () => {
  it("are put aside, reported and never deleted; their devices stay, others work", async () => {
    world.array.addLun("iqn.2026-11.dev.hawser:vol-2", "naa.2");
    const manager = await world.start();
    await manager.attach(world.request());
    await manager.attach(world.request({ volumeHandle: "vol-2", targetName: "iqn.2026-11.dev.hawser:vol-2" }));
    await manager.stop();
    const name = (await readdir(world.recordDirectory)).find((file) => file.startsWith("vol-1")) ?? "";
    const content = await readFile(join(world.recordDirectory, name), "utf8");
    await writeFile(join(world.recordDirectory, name), content.slice(0, 40));

    const next = await world.start();
    await until(world, "vol-2", async () => (await next.get("vol-2"))?.state === "attached");
    expect(await readFile(join(world.recordDirectory, `${name}.damaged`), "utf8")).toBe(content.slice(0, 40));
    expect(kinds(next)).toContain("record-damaged");
    await next.reconcile();
    expect(kinds(next)).toContain("orphan-kept");
    expect(world.kernel.devices.has("test/vol-1/naa.1")).toBe(true);

    // What was lost is taken for the worst: it may hold a file system, and any old mount is older than this attach.
    world.kernel.devices.get("test/vol-1/naa.1")!.holders = ["mounted at /data"];
    const attached = await next.attach(world.request());
    expect(attached.wasFormatted).toBe(true);
    expect(attached.generation).toBeGreaterThan(1_000_000_000);
    expect(world.kernel.calls.at(-1)).toBe("recover test/vol-1/naa.1");
  });

  it("of a newer version are left as they are, and their volume is not touched", async () => {
    const manager = await world.start();
    await manager.attach(world.request());
    await manager.stop();
    const [name = ""] = await readdir(world.recordDirectory);
    const path = join(world.recordDirectory, name);
    const newer = JSON.stringify({ ...(JSON.parse(await readFile(path, "utf8")) as object), version: 2 });
    await writeFile(path, newer);
    const next = await world.start();
    expect(await codeOf(next.attach(world.request()))).toBe("RECORD_NEWER");
    await next.reconcile();
    expect(await readFile(path, "utf8")).toBe(newer);
    expect(world.kernel.devices.size).toBe(1);
  });
});

async function openOther(): ReturnType<ReturnType<DataplaneWorld["array"]["connector"]>["connect"]> {
  world.array.addLun("iqn.2026-11.dev.hawser:other", "naa.7");
  return world.array.connector().connect({
    ...{ portals: [], targetName: "iqn.2026-11.dev.hawser:other", lun: 0, expectedId: "" },
    ...{ initiatorName: "iqn.2026-11.dev.hawser:x", isid: Buffer.from("800000000001", "hex") },
    ...{ headerDigest: "none", dataDigest: "none" },
  });
}
