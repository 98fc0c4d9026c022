import { AppError } from "../../../src/base/errors.js";
import type { DeviceBinder, VolumeConnector } from "../../../src/dataplane/ports.js";
import type { RecordStore } from "../../../src/dataplane/record-store.js";
import type { VolumeManager } from "../../../src/dataplane/volume-manager.js";
import type { BoundDevice } from "../../../src/nbd/bind.js";
import { codeOf, DataplaneWorld, until } from "../../support/dataplane-world.js";

/**
 * Every effect of a dataplane on the world passes here: the Nth one fails, or ends the process before or after it was
 * done. A dead process has no effect any more.
 */
class Saboteur {
  readonly #at: number;
  readonly #mode: "fail" | "die-before" | "die-after";
  #count = 0;
  #isDead = false;

  constructor(mode: "fail" | "die-before" | "die-after", at: number) {
    this.#mode = mode;
    this.#at = at;
  }

  get hasStruck(): boolean {
    return this.#count >= this.#at;
  }

  async step<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isDead) throw new AppError("base", "DEAD", "this process is dead");
    this.#count += 1;
    if (this.#count !== this.#at) return work();
    if (this.#mode === "fail") throw new AppError("base", "SABOTAGE", "this step fails");
    if (this.#mode === "die-after") await work();
    this.#isDead = true;
    throw new AppError("base", "DEAD", "this process is dead");
  }

  records(inner: RecordStore): RecordStore {
    return {
      load: () => inner.load(),
      save: (record) => this.step(() => inner.save(record)),
      remove: (handle) => this.step(() => inner.remove(handle)),
    };
  }

  connector(inner: VolumeConnector): VolumeConnector {
    return {
      connect: async (request, signal) => {
        const connected = await this.step(() => inner.connect(request, signal));
        return { ...connected, close: () => this.step(() => connected.close()) };
      },
    };
  }

  binder(inner: DeviceBinder): DeviceBinder {
    const wrap = (bound: BoundDevice): BoundDevice => ({
      ...bound,
      release: () => this.step(() => bound.release()),
      park: () => this.step(() => bound.park()),
    });
    return {
      bind: async (device, options) => wrap(await this.step(() => inner.bind(device, options))),
      recover: async (device, options) => {
        const bound = await this.step(() => inner.recover(device, options));
        return bound === undefined ? undefined : wrap(bound);
      },
      list: () => inner.list(),
      discard: (options) => this.step(() => inner.discard(options)),
    };
  }
}

async function startSabotaged(world: DataplaneWorld, saboteur: Saboteur): Promise<VolumeManager> {
  return world.start({
    records: saboteur.records(world.store()),
    connector: saboteur.connector(world.array.connector()),
    binder: saboteur.binder(world.kernel.binder()),
  });
}

/** More steps than any of the scenarios has. */
const MAX_STEPS = 40;

/** Runs `scenario` in a new world with sabotage at step 1, 2, 3 … until no step is left to strike; returns how many. */
async function sweep(
  mode: "fail" | "die-before" | "die-after",
  scenario: (world: DataplaneWorld, saboteur: Saboteur) => Promise<void>,
): Promise<number> {
  for (let at = 1; at <= MAX_STEPS; at += 1) {
    const world = await DataplaneWorld.create();
    const saboteur = new Saboteur(mode, at);
    try {
      await scenario(world, saboteur);
    } catch (error) {
      throw new Error(`${mode} at step ${at}`, { cause: error });
    } finally {
      await world.destroy();
    }
    if (!saboteur.hasStruck) return at - 1;
  }
  throw new Error("the scenario has no end");
}

/** The volume is served by exactly one session and one device, and its data arrives. */
async function expectServed(world: DataplaneWorld, manager: VolumeManager): Promise<void> {
  expect((await manager.get("vol-1"))?.state).toBe("attached");
  expect(world.array.openSessions()).toHaveLength(1);
  const device = world.kernel.only();
  const pattern = Buffer.alloc(512, 0x5a);
  await device.server!.write(1024, pattern);
  const read = Buffer.alloc(512);
  await world.array.luns.get("iqn.2026-11.dev.hawser:vol-1")!.read(1024, read);
  expect(read).toEqual(pattern);
  expect(new Set(world.array.sessions.map(({ request }) => request.isid.toString("hex"))).size).toBe(1);
}

async function expectNothingLeft(world: DataplaneWorld, manager: VolumeManager): Promise<void> {
  expect(await manager.list()).toEqual([]);
  expect(world.kernel.devices.size).toBe(0);
  expect(world.array.openSessions()).toHaveLength(0);
}

describe.each(["nbd", "fuse"] as const)("with %s devices", (backend) => {
  describe.each(["die-before", "die-after"] as const)("a process that dies (%s) at any step", (mode) => {
    it("of an attach: the next one finishes attach and detach", async () => {
      const steps = await sweep(mode, async (world, saboteur) => {
        world.kernel.defaultBackend = backend;
        const first = await startSabotaged(world, saboteur);
        await first.attach(world.request()).catch(() => undefined);
        world.crash();

        const second = await world.start();
        const attached = await second.attach(world.request());
        expect(attached.generation).toBeGreaterThan(0);
        await expectServed(world, second);
        await second.detach("vol-1");
        await expectNothingLeft(world, second);
      });
      expect(steps).toBeGreaterThanOrEqual(6);
    });

    it("of an attach that is never repeated: a detach leaves nothing", async () => {
      await sweep(mode, async (world, saboteur) => {
        world.kernel.defaultBackend = backend;
        const first = await startSabotaged(world, saboteur);
        await first.attach(world.request()).catch(() => undefined);
        world.crash();
        // Sessions of a dead process end with its sockets.
        for (const session of world.array.sessions) session.isOpen = false;

        const second = await world.start();
        await second.detach("vol-1");
        await expectNothingLeft(world, second);
      });
    });

    it("of a detach: the next one finishes it", async () => {
      const steps = await sweep(mode, async (world, saboteur) => {
        world.kernel.defaultBackend = backend;
        const before = await world.start();
        await before.attach(world.request());
        await before.stop();
        if (backend === "fuse") await (await world.start()).attach(world.request()).then(() => world.crash());

        const first = await startSabotaged(world, saboteur);
        await first.attach(world.request()).catch(() => undefined);
        await first.detach("vol-1").catch(() => undefined);
        world.crash();
        for (const session of world.array.sessions) session.isOpen = false;

        const second = await world.start();
        await second.detach("vol-1");
        await expectNothingLeft(world, second);
      });
      expect(steps).toBeGreaterThanOrEqual(5);
    });
  });

  it("a failure at any step of an attach is undone, and the attach can be repeated", async () => {
    const steps = await sweep("fail", async (world, saboteur) => {
      world.kernel.defaultBackend = backend;
      const manager = await startSabotaged(world, saboteur);
      const code = await codeOf(manager.attach(world.request()));
      if (saboteur.hasStruck && code !== "resolved") {
        expect(code).toBe("SABOTAGE");
        await expectNothingLeft(world, manager);
      }
      await manager.attach(world.request());
      await expectServed(world, manager);
    });
    expect(steps).toBeGreaterThanOrEqual(6);
  });

  it("a failure at any step of a detach leaves it repeatable", async () => {
    const steps = await sweep("fail", async (world, saboteur) => {
      world.kernel.defaultBackend = backend;
      const manager = await startSabotaged(world, saboteur);
      await manager.attach(world.request()).catch(() => manager.attach(world.request()));
      await manager.detach("vol-1").catch(() => manager.detach("vol-1"));
      expect(world.kernel.devices.size).toBe(0);
      expect(await manager.list()).toEqual([]);
    });
    expect(steps).toBeGreaterThanOrEqual(9);
  });
});

describe("a volume in use while its process dies at any step of coming back", () => {
  it("is served again by the one after, with the same device, generation and ISID", async () => {
    const steps = await sweep("die-after", async (world, saboteur) => {
      const before = await world.start();
      const { devicePath, generation } = await before.attach(world.request());
      world.kernel.only().holders = ["mounted at /data"];
      world.crash();

      const dying = await startSabotaged(world, saboteur);
      await until(world, "sabotage or recovery", async () => {
        return saboteur.hasStruck || (await dying.get("vol-1"))?.state === "attached";
      });
      world.crash();

      const after = await world.start();
      await until(world, "recovery", async () => (await after.get("vol-1"))?.state === "attached");
      await expectServed(world, after);
      expect((await after.get("vol-1"))?.volume).toMatchObject({ devicePath, generation });
      expect(await codeOf(after.detach("vol-1"))).toBe("DEVICE_BUSY");
    });
    expect(steps).toBeGreaterThanOrEqual(2);
  });
});
