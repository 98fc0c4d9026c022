import { silentLogger } from "../../../src/base/logger.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { MultipathDevice } from "../../../src/multipath/multipath-device.js";
import { describeBlockDeviceContract } from "../../contract/block-device.js";
import { ScriptedPath } from "../../support/scripted-path.js";
import { VirtualTime } from "../../support/virtual-time.js";

for (const [policy, logicalBlockBytes] of [
  ["round-robin", 512],
  ["least-queue-depth", 4096],
] as const) {
  describeBlockDeviceContract(`MultipathDevice over two paths with ${policy}`, {
    logicalBlockBytes,
    open: async (sizeBytes) => {
      const clock = new VirtualTime();
      const disk = new MemoryDevice({ sizeBytes, logicalBlockBytes, id: "naa.6001405000000001" });
      const device = new MultipathDevice(
        { policy, noPathTimeoutMs: 0, retryCount: 3, retryIntervalMs: 1_000, verifyIntervalMs: 30_000 },
        { clock, random: new SeededRandom(1), logger: silentLogger },
      );
      const paths = ["a", "b"].map((id) => new ScriptedPath({ id, clock, disk }));
      paths.forEach((path, rank) => device.addPath(path, { rank, weight: 0, isStandby: false }));
      for (const path of paths) path.up();
      await device.whenUsable();
      return {
        device,
        resize: async (newSizeBytes) => {
          disk.resize(newSizeBytes);
          paths[0]?.tellInfo();
          await clock.advance(0);
        },
        cleanUp: () => {
          expect(clock.pendingTimers).toBe(0);
          expect(paths.every(({ isClosed }) => isClosed)).toBe(true);
          return disk.close();
        },
      };
    },
  });
}
