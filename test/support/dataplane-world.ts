import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LogFields, Logger } from "../../src/base/logger.js";
import { generateSealingKeyPair } from "../../src/base/sealing.js";
import { SeededRandom } from "../../src/base/seeded-random.js";
import { Secret } from "../../src/base/secret.js";
import type { AttachRequest } from "../../src/dataplane/api.js";
import { ChapVault } from "../../src/dataplane/chap-vault.js";
import type { DeviceBinder, VolumeConnector } from "../../src/dataplane/ports.js";
import { FileRecordStore, type RecordStore } from "../../src/dataplane/record-store.js";
import { VolumeManager } from "../../src/dataplane/volume-manager.js";
import { createIsid } from "../../src/initiator/isid.js";
import { FakeArray } from "./fake-array.js";
import { FakeKernel } from "./fake-kernel.js";
import { VirtualTime } from "./virtual-time.js";

export const CANARY = "canary-secret-0123456789";
export const MUTUAL_CANARY = "canary-mutual-9876543210";

/** Keeps every line as text. */
export class LineLogger implements Logger {
  readonly lines: string[];
  readonly #bindings: LogFields;

  constructor(lines: string[] = [], bindings: LogFields = {}) {
    this.lines = lines;
    this.#bindings = bindings;
  }

  child(bindings: LogFields): Logger {
    return new LineLogger(this.lines, { ...this.#bindings, ...bindings });
  }

  isEnabled(): boolean {
    return true;
  }

  readonly #add = (message: string, fields?: LogFields): void => {
    this.lines.push(`${message} ${JSON.stringify({ ...this.#bindings, ...fields })}`);
  };
  readonly trace = this.#add;
  readonly debug = this.#add;
  readonly info = this.#add;
  readonly warn = this.#add;
  readonly error = this.#add;
}

/** A node: its disk, kernel and array stay while dataplanes come and go. */
export class DataplaneWorld {
  readonly directory: string;
  readonly kernel = new FakeKernel();
  readonly array = new FakeArray();
  readonly clock = new VirtualTime();
  readonly logger = new LineLogger();
  readonly random = new SeededRandom(7);
  bootId = "boot-1";
  readonly #keyPair = generateSealingKeyPair(this.random);
  readonly #managers: VolumeManager[] = [];
  /** Of the dataplanes that run: set when they die. */
  #life = { isDead: false };

  private constructor(directory: string) {
    this.directory = directory;
    this.array.addLun("iqn.2026-11.dev.hawser:vol-1", "naa.1");
  }

  static async create(): Promise<DataplaneWorld> {
    return new DataplaneWorld(await mkdtemp(join(tmpdir(), "hawser-dataplane-")));
  }

  async destroy(): Promise<void> {
    for (const manager of this.#managers) await manager.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  get recordDirectory(): string {
    return join(this.directory, "volumes");
  }

  store(): RecordStore {
    return new FileRecordStore({ directory: this.recordDirectory }, { logger: this.logger });
  }

  /** A new dataplane on this node, started. */
  async start(
    overrides: { records?: RecordStore; connector?: VolumeConnector; binder?: DeviceBinder } = {},
  ): Promise<VolumeManager> {
    const manager = new VolumeManager(
      {
        clusterId: "test",
        initiatorName: "iqn.2026-11.dev.hawser:node-1",
        backend: "auto",
        reservationKey: "0a0b0c0d0e0f0001",
        bootId: this.bootId,
      },
      {
        records: mortal(overrides.records ?? this.store(), this.#life),
        connector: mortal(overrides.connector ?? this.array.connector(), this.#life),
        binder: mortal(overrides.binder ?? this.kernel.binder(), this.#life),
        vault: new ChapVault({ keyPair: this.#keyPair }, { random: this.random }),
        createIsid,
        ...{ clock: this.clock, random: this.random, logger: this.logger },
      },
    );
    this.#managers.push(manager);
    await manager.start();
    return manager;
  }

  /** Kills every dataplane that runs: none has any effect on disk, kernel and array from now on. */
  crash(): void {
    this.#life.isDead = true;
    this.#life = { isDead: false };
    this.kernel.crash();
  }

  request(changes: Partial<AttachRequest> = {}): AttachRequest {
    return {
      volumeHandle: "vol-1",
      portals: [{ host: "192.0.2.1", port: 3260 }],
      targetName: "iqn.2026-11.dev.hawser:vol-1",
      lun: 0,
      expectedId: "",
      isReadOnly: false,
      headerDigest: "crc32c",
      dataDigest: "none",
      publicationId: "",
      chap: {
        user: "chap-user",
        secret: Secret.from(CANARY),
        mutualUser: "target-user",
        mutualSecret: Secret.from(MUTUAL_CANARY),
      },
      ...changes,
    };
  }
}

/** The code a promise rejects with, or `resolved`. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "resolved";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** `port` for a process that may die: after that its calls do nothing and fail, and so do those of what it gave. */
function mortal<T extends object>(port: T, life: { readonly isDead: boolean }): T {
  return new Proxy(port, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      // What is not a promise is looked at, not done: devices and their sessions.
      if (typeof value !== "function" || !["bind", "recover", "connect"].includes(String(name))) {
        return typeof value === "function" ? guarded(value.bind(target) as Call, life) : value;
      }
      const make = guarded(value.bind(target) as Call, life);
      return async (...args: unknown[]) => {
        const made = await make(...args);
        return typeof made === "object" && made !== null ? mortal(made, life) : made;
      };
    },
  });
}

type Call = (...args: unknown[]) => unknown;

function guarded(call: Call, life: { readonly isDead: boolean }): Call {
  return (...args) => (life.isDead ? Promise.reject(new Error("this process is dead")) : call(...args));
}

/** Longest wait for the real disk, under a real load. */
const PATIENCE_MS = 20_000;

/** Lets virtual time pass until something is true; fails when it never comes true. */
export async function until(
  world: DataplaneWorld,
  what: string,
  isTrue: () => boolean | Promise<boolean>,
): Promise<void> {
  const endMs = Date.now() + PATIENCE_MS;
  for (let turn = 0; Date.now() < endMs; turn += 1) {
    if (await isTrue()) return;
    await world.clock.advance(10);
    // The records are on a real disk, which takes real time to sync them.
    if (turn % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`never came true: ${what}`);
}
