import type { BlockDevice } from "../../src/block/device.js";
import { FileDevice } from "../../src/block/file-device.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import { realTargetServer } from "./target-server.js";

/** What `target-main` serves, as JSON in its argument. */
export interface ServedDisk {
  readonly targetName: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: 512 | 4096;
  /** A sparse file there; absent: in memory, with physical blocks of the same size. */
  readonly path?: string;
  readonly offersAtomicWrites: boolean;
}

/** `target-main JSON`: our target with one disk, outside of jest, which halves its speed. Prints its port; ends when killed. */
const disk = JSON.parse(process.argv[2] ?? "{}") as ServedDisk;
const { targetName, sizeBytes, logicalBlockBytes, path, offersAtomicWrites } = disk;
const device: BlockDevice =
  path === undefined
    ? new MemoryDevice({ sizeBytes, logicalBlockBytes, physicalBlockBytes: logicalBlockBytes })
    : await FileDevice.open({ path, sizeBytes, logicalBlockBytes });
const server = realTargetServer({ portals: [{ host: "127.0.0.1", port: 0 }], offersAtomicWrites });
await server.start();
server.addTarget({ name: targetName, luns: new Map([[0, device]]), access: { kind: "any" } });
process.stdout.write(`${server.portals[0]?.port ?? 0}\n`);
