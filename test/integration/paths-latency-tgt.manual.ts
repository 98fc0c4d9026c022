import { connectVolume, type ConnectedVolume } from "../../src/initiator/connect-volume.js";
import type { PathControl } from "../../src/multipath/status.js";
import { DelayProxy } from "../support/delay-proxy.js";
import { reportMeasured } from "../support/file-load.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, volumeRequest } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const TARGET_PORT = 13_980;
const IQN = "iqn.2026-11.test:latency";
const RUN_MS = 2_000;

/**
 * Where one request costs the machine far less than the difference between the paths. In User-Mode Linux, whose netem
 * test/kernel/path-policies.system.test.ts uses, it costs more than a millisecond by itself.
 */
describeNeeding(["tgtd", "tgtadm"], "paths of 10 ms and of 1 ms", () => {
  let tgtd: Tgtd;
  let slower: DelayProxy;
  let faster: DelayProxy;
  let volume: ConnectedVolume;
  let paths: PathControl;

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      ...{ controlPort: 98, portals: [`127.0.0.1:${TARGET_PORT}`] },
      targets: [{ name: IQN, diskBytes: [16 << 20] }],
    });
    slower = await DelayProxy.start({ targetPort: TARGET_PORT, delayMs: 10 });
    faster = await DelayProxy.start({ targetPort: TARGET_PORT, delayMs: 1 });
    volume = await connectVolume(
      volumeRequest({
        portals: [slower, faster].map(({ port }) => ({ host: "127.0.0.1", port })),
        ...{ targetName: IQN, lun: 1, settings: { multipath: "mpio" } },
      }),
      realDependencies(),
    );
    if (volume.paths === undefined) throw new Error("the volume has no paths");
    ({ paths } = volume);
    while (paths.status().paths.some(({ state }) => state !== "up")) await new Promise(setImmediate);
  }, 60_000);

  afterAll(async () => {
    await volume.close();
    await slower.stop();
    await faster.stop();
    await tgtd.stop();
  });

  const counts = (): readonly number[] => paths.status().paths.map(({ readOperations }) => readOperations);

  /** Reads with so many requests under way all the time; how many more went over the faster path than over the slower. */
  async function ratioAt(depth: number): Promise<number> {
    const before = counts();
    const endMs = performance.now() + RUN_MS;
    await Promise.all(
      Array.from({ length: depth }, async (_, lane) => {
        const target = Buffer.alloc(4096);
        for (let at = lane; performance.now() < endMs; at = (at + depth) % 4096) {
          await volume.device.read(at * 4096, target);
        }
      }),
    );
    const [slow = 0, fast = 0] = counts().map((count, index) => count - (before[index] ?? 0));
    reportMeasured(
      `${paths.status().policy}, ${depth} under way: 10 ms ${slow}, 1 ms ${fast}, ${(fast / slow).toFixed(1)} to 1`,
    );
    expect(slow).toBeGreaterThan(10);
    return fast / slow;
  }

  it.each([2, 4])("least queue depth prefers the faster by 5 to 1, %i requests under way", async (depth) => {
    paths.setPolicy("least-queue-depth");
    expect(await ratioAt(depth)).toBeGreaterThanOrEqual(5);
  });

  it("round robin gives both the same", async () => {
    paths.setPolicy("round-robin");
    expect(Math.abs((await ratioAt(4)) - 1)).toBeLessThanOrEqual(0.02);
  });
});
