import { SystemRandom } from "../../src/base/system-random.js";
import type { PortalAddress } from "../../src/base/access.js";
import type { BlockDevice } from "../../src/block/device.js";
import { type ConnectedVolume, connectVolume, type VolumeSessionStatus } from "../../src/initiator/connect-volume.js";
import type { InitiatorSettings } from "../../src/initiator/settings.js";
import { LoginError } from "../../src/login/errors.js";
import { CONNECTION_POLICIES, type ConnectionPolicy } from "../../src/session/connection-policy.js";
import { CorruptingProxy } from "../support/corrupting-proxy.js";
import { reportMeasured } from "../support/file-load.js";
import { ISTGT_TARGET_NAME, Istgt } from "../support/istgt.js";
import { describeNeeding } from "../support/needs.js";
import { MIXED_SIZES_BYTES, realDependencies, verifyTransfers, volumeRequest } from "../support/real-volume.js";

const PORTALS = [13_490, 13_491, 13_492, 13_493].map((port) => ({ host: "127.0.0.1", port }));
const DISK_BYTES = 64 << 20;
const BLOCK_BYTES = 16_384;
const BLOCKS_PER_WORKER = 64;

/** Random writes and reads by several workers, each on blocks of its own, compared with what was written last. */
class Load {
  readonly #device: BlockDevice;
  readonly #random = new SystemRandom();
  readonly #workers: Promise<void>[];
  #isStopped = false;
  operations = 0;

  constructor(device: BlockDevice, workers: number) {
    this.#device = device;
    this.#workers = Array.from({ length: workers }, (_, index) => this.#work(index * BLOCKS_PER_WORKER));
    // Awaited in `stop`; until then a failure is not yet ours to report.
    for (const worker of this.#workers) worker.catch(() => undefined);
  }

  /** Waits until so many more operations have ended. */
  async more(operations: number): Promise<void> {
    const end = this.operations + operations;
    const ended = Promise.race(this.#workers);
    while (this.operations < end) await Promise.race([new Promise((resolve) => setTimeout(resolve, 5)), ended]);
  }

  /** Rejects with the first error or wrong byte. */
  async stop(): Promise<number> {
    this.#isStopped = true;
    await Promise.all(this.#workers);
    return this.operations;
  }

  async #work(firstBlock: number): Promise<void> {
    const written = new Map<number, Buffer>();
    while (!this.#isStopped) {
      const block = firstBlock + (this.#random.uint32() % BLOCKS_PER_WORKER);
      const expected = written.get(block);
      if (expected === undefined || this.#random.fraction() < 0.5) {
        const data = this.#random.bytes(BLOCK_BYTES);
        await this.#device.write(block * BLOCK_BYTES, data);
        written.set(block, data);
      } else await this.#compare(block, expected);
      this.operations += 1;
    }
    for (const [block, expected] of written) await this.#compare(block, expected);
  }

  async #compare(block: number, expected: Buffer): Promise<void> {
    const data = Buffer.alloc(BLOCK_BYTES);
    await this.#device.read(block * BLOCK_BYTES, data);
    if (!data.equals(expected)) throw new Error(`block ${block} does not hold what was written last`);
  }
}

function statusOf(volume: ConnectedVolume): VolumeSessionStatus {
  const [status] = volume.sessions();
  if (status === undefined) throw new Error("the volume has no session");
  return status;
}

const cidsOf = (volume: ConnectedVolume): number[] => statusOf(volume).connections.map(({ cid }) => cid);

describeNeeding(["istgt"], "four connections of a session to istgt", () => {
  let istgt: Istgt;
  const volumes: ConnectedVolume[] = [];

  beforeAll(async () => {
    istgt = await Istgt.start({ controlPort: 13_494, portals: PORTALS, diskBytes: DISK_BYTES });
  });

  afterEach(async () => {
    for (const volume of volumes.splice(0)) await volume.close();
  });

  afterAll(async () => {
    await istgt.stop();
  });

  async function connect(
    settings: InitiatorSettings,
    portals: readonly PortalAddress[] = PORTALS,
  ): Promise<ConnectedVolume> {
    const request = volumeRequest({ portals, targetName: ISTGT_TARGET_NAME, lun: 0, settings });
    const volume = await connectVolume(request, realDependencies());
    volumes.push(volume);
    await until(() => statusOf(volume).connections.length === (settings.connections ?? 1));
    return volume;
  }

  async function until(isDone: () => boolean): Promise<void> {
    while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  /** istgt counts a connection that has logged out until its thread has ended; until then it admits no other (0x0208). */
  async function addOnceCounted(volume: ConnectedVolume): Promise<number> {
    const deadline = Date.now() + 10_000;
    for (;;) {
      try {
        return await volume.addConnection({ portal: PORTALS[0]! });
      } catch (error) {
        if (!(error instanceof LoginError) || Date.now() > deadline) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Bytes received by each connection, in the order of the CIDs, while so many operations end. */
  async function sharesUnder(volume: ConnectedVolume, load: Load, operations: number): Promise<Map<number, number>> {
    const before = new Map(statusOf(volume).connections.map(({ cid, receivedBytes }) => [cid, receivedBytes]));
    await load.more(operations);
    return new Map(
      statusOf(volume).connections.map(({ cid, receivedBytes }) => [cid, receivedBytes - (before.get(cid) ?? 0)]),
    );
  }

  /** Those with more than what pings and the last answers of the policy before bring. */
  const busy = (shares: ReadonlyMap<number, number>): number[] => {
    const total = [...shares.values()].reduce((sum, share) => sum + share, 0);
    return [...shares].filter(([, share]) => share > total / 50).map(([cid]) => cid);
  };

  test("each goes to a portal of its own, and small and large transfers are right", async () => {
    const volume = await connect({ connections: 4, connectionPolicy: "round-robin" });
    const { connections, maxConnections, errorRecoveryLevel } = statusOf(volume);
    reportMeasured(
      `istgt: MaxConnections ${maxConnections}, ErrorRecoveryLevel ${errorRecoveryLevel}, ` +
        connections.map(({ cid, portal }) => `CID ${cid} ${portal}`).join(", "),
    );
    expect(maxConnections).toBe(4);
    expect(errorRecoveryLevel).toBe(0);
    expect(connections.map(({ portal }) => portal).sort()).toEqual(PORTALS.map(({ host, port }) => `${host}:${port}`));
    await verifyTransfers(volume.device, MIXED_SIZES_BYTES);
    expect(statusOf(volume).reconnects).toBe(0);
  }, 60_000);

  test("all five policies, changed while data is written and read back", async () => {
    const volume = await connect({
      ...{ connections: 4, connectionPolicy: "round-robin", standbyConnections: 2, connectionWeights: [9, 3, 1, 3] },
    });
    const cids = cidsOf(volume);
    const [first = -1, second = -1, third = -1] = cids;
    const expected: Readonly<Record<ConnectionPolicy, readonly number[]>> = {
      "fail-over-only": [first],
      "round-robin": cids,
      "round-robin-subset": [first, second],
      "weighted-path": [third],
      "least-queue-depth": cids,
    };
    const load = new Load(volume.device, 16);
    for (const policy of CONNECTION_POLICIES) {
      volume.setConnectionPolicy(policy);
      expect(statusOf(volume).connectionPolicy).toBe(policy);
      await load.more(64);
      const shares = await sharesUnder(volume, load, 600);
      const shown = [...shares].map(([cid, bytes]) => `CID ${cid} ${Math.round(bytes / 1024)} KiB`).join(", ");
      reportMeasured(`istgt, ${policy}: ${shown}`);
      expect({ policy, busy: busy(shares) }).toEqual({ policy, busy: expected[policy] });
    }
    reportMeasured(`istgt: ${await load.stop()} operations over five policies, every byte compared`);
    expect(statusOf(volume)).toMatchObject({ state: "ready", reconnects: 0 });
  }, 120_000);

  test("connections are added and removed while data is written and read back, never the last", async () => {
    const volume = await connect({ connections: 1, maxConnections: 4 });
    const [leading = -1] = cidsOf(volume);
    const load = new Load(volume.device, 12);
    await load.more(100);
    const added: number[] = [];
    for (const portal of PORTALS.slice(1)) {
      added.push(await volume.addConnection({ portal }));
      await load.more(200);
    }
    expect(cidsOf(volume)).toEqual([leading, ...added]);
    expect(busy(await sharesUnder(volume, load, 400))).toEqual([leading, ...added]);
    await expect(volume.addConnection({ portal: PORTALS[0]! })).rejects.toMatchObject({ layer: "session" });
    for (const cid of [added[1]!, leading, added[0]!]) {
      await volume.removeConnection(cid);
      await load.more(200);
    }
    expect(cidsOf(volume)).toEqual([added[2]]);
    await expect(volume.removeConnection(added[2]!)).rejects.toMatchObject({ layer: "session" });
    const again = await addOnceCounted(volume);
    expect(busy(await sharesUnder(volume, load, 400)).sort()).toEqual([added[2]!, again].sort());
    reportMeasured(`istgt: ${await load.stop()} operations while 4 connections came and 3 went, every byte compared`);
    expect(statusOf(volume)).toMatchObject({ state: "ready", reconnects: 0 });
  }, 120_000);

  test("fail-over only: I/O goes on when the first connection is killed, and returns to it", async () => {
    const proxy = await CorruptingProxy.start({
      routes: PORTALS.map((target) => ({ listen: { host: "127.0.0.1", port: 0 }, target })),
    });
    try {
      const volume = await connect({ connections: 4, connectionPolicy: "fail-over-only" }, proxy.portals);
      const [first = -1] = cidsOf(volume);
      const load = new Load(volume.device, 8);
      await load.more(200);
      expect(busy(await sharesUnder(volume, load, 200))).toEqual([first]);
      const startMs = Date.now();
      expect(proxy.killNext()).toBe(true);
      await load.more(400);
      const wentOnMs = Date.now() - startMs;
      await until(() => proxy.report.connections > 4 && cidsOf(volume).length === 4);
      await load.more(50);
      expect(busy(await sharesUnder(volume, load, 400))).toEqual([first]);
      reportMeasured(
        `istgt, fail-over only: 400 operations within ${wentOnMs} ms after the first connection was killed; ` +
          `${await load.stop()} operations, every byte compared`,
      );
    } finally {
      for (const volume of volumes.splice(0)) await volume.close();
      await proxy.close();
    }
  }, 120_000);

  test("I/O goes on over a crash of the target with four connections", async () => {
    const volume = await connect({ connections: 4, connectionPolicy: "least-queue-depth" });
    const load = new Load(volume.device, 8);
    await load.more(200);
    await istgt.kill();
    await istgt.launch();
    await load.more(200);
    await until(() => statusOf(volume).connections.length === 4);
    reportMeasured(`istgt: ${await load.stop()} operations over a crash, every byte compared`);
    expect(statusOf(volume).reconnects).toBe(1);
  }, 120_000);
});
