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
        bootId: this.bootId,
      },
      {
        records: overrides.records ?? this.store(),
        connector: overrides.connector ?? this.array.connector(),
        binder: overrides.binder ?? this.kernel.binder(),
        vault: new ChapVault({ keyPair: this.#keyPair }, { random: this.random }),
        createIsid,
        ...{ clock: this.clock, random: this.random, logger: this.logger },
      },
    );
    this.#managers.push(manager);
    await manager.start();
    return manager;
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

/** Lets virtual time pass until something is true; fails when it never comes true. */
export async function until(
  world: DataplaneWorld,
  what: string,
  isTrue: () => boolean | Promise<boolean>,
): Promise<void> {
  for (let turn = 0; turn < 3_000; turn += 1) {
    if (await isTrue()) return;
    await world.clock.advance(10);
  }
  throw new Error(`never came true: ${what}`);
}
