import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger, type Logger } from "../../../src/base/logger.js";
import { formatNodeId } from "../../../src/base/node-id.js";
import { generateSealingKeyPair, type SealingKeyPair } from "../../../src/base/sealing.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { SystemRandom } from "../../../src/base/system-random.js";
import { createControllerService } from "../../../src/csi/controller.js";
import { createIdentityService } from "../../../src/csi/identity.js";
import { InFlight } from "../../../src/csi/in-flight.js";
import { CsiServer } from "../../../src/csi/server.js";
import type { StorageBackend } from "../../../src/storage/backend.js";
import { EmbeddedBackend } from "../../../src/storage/embedded-backend.js";
import { MemoryStore } from "../../../src/storage/memory-store.js";
import { csiProto, TestCsiClient, type Answer } from "../../support/csi-client.js";
import { FakeTargetServer } from "../storage/fake-target-server.js";

export const GIB = 2 ** 30;
export const random = new SystemRandom();
export const clock = new SystemClock();

export const mountOnce = { mount: { fsType: "ext4" }, accessMode: { mode: "SINGLE_NODE_WRITER" } };
export const blockShared = { block: {}, accessMode: { mode: "MULTI_NODE_MULTI_WRITER" } };
export const mountShared = { mount: {}, accessMode: { mode: "MULTI_NODE_MULTI_WRITER" } };

export interface TestNode {
  readonly keyPair: SealingKeyPair;
  readonly nodeId: string;
}

export function newNode(name: string): TestNode {
  const keyPair = generateSealingKeyPair(random);
  return { keyPair, nodeId: formatNodeId({ iqn: `iqn.2026-11.test:${name}`, publicKey: keyPair.publicKey }) };
}

/** A logger that keeps every line, whatever its level. */
export function collectingLogger(lines: string[]): Logger {
  const collect = (message: string, fields?: object): void => void lines.push(JSON.stringify({ message, fields }));
  const logger: Logger = {
    ...silentLogger,
    trace: collect,
    debug: collect,
    info: collect,
    warn: collect,
    error: collect,
    child: () => logger,
  };
  return logger;
}

/** Identity and Controller on a real socket, over the embedded backend in memory with a target that only remembers. */
export class ControllerFixture {
  readonly directory: string;
  readonly target = new FakeTargetServer();
  readonly lines: string[] = [];
  readonly logger = collectingLogger(this.lines);
  readonly node = newNode("a");
  backend!: StorageBackend;
  client!: TestCsiClient;
  #server!: CsiServer;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(): Promise<ControllerFixture> {
    const fixture = new ControllerFixture(await mkdtemp(join(tmpdir(), "hawser-csi-")));
    const store = new MemoryStore({ capacityBytes: 100 * GIB });
    const { target, logger } = fixture;
    fixture.backend = await EmbeddedBackend.open({}, { store, target, clock, random, logger });
    await fixture.serve(fixture.backend);
    return fixture;
  }

  get socketPath(): string {
    return join(this.directory, "csi.sock");
  }

  async serve(backend: StorageBackend): Promise<void> {
    const services = [
      createControllerService({ backend, inFlight: new InFlight(), random }),
      createIdentityService({ version: "1.2.3" }, { probe: () => backend.probe() }),
    ];
    const { socketPath, logger } = this;
    this.#server = new CsiServer({ socketPath, services }, { proto: csiProto, clock, logger });
    await this.#server.start();
    this.client = new TestCsiClient(socketPath);
  }

  async stopServing(): Promise<void> {
    this.client.close();
    await this.#server.close();
  }

  async close(): Promise<void> {
    await this.stopServing();
    await this.backend.close();
    await rm(this.directory, { recursive: true });
  }

  create(name: string, changes: object = {}): Promise<Answer> {
    return this.client.call("CreateVolume", {
      name,
      volumeCapabilities: [mountOnce],
      capacityRange: { requiredBytes: GIB },
      ...changes,
    });
  }

  async volumeIdOf(name: string): Promise<string> {
    return (await this.create(name)).volume.volumeId;
  }

  publish(volumeId: string, changes: object = {}): Promise<Answer> {
    const { nodeId } = this.node;
    return this.client.call("ControllerPublishVolume", { volumeId, nodeId, volumeCapability: mountOnce, ...changes });
  }

  unpublish(volumeId: string, nodeId = this.node.nodeId): Promise<Answer> {
    return this.client.call("ControllerUnpublishVolume", { volumeId, nodeId });
  }
}
