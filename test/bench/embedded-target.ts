import { MemoryDevice } from "../../src/block/memory-device.js";
import { parsePortal } from "../../src/base/portal.js";
import { realTargetServer } from "../support/target-server.js";

/** The embedded target as a process: `embedded-target TARGET BYTES PORTAL...`, one disk in memory. SIGTERM ends it. */
const [name = "", bytes = "", ...portals] = process.argv.slice(2);
const device = new MemoryDevice({ sizeBytes: Number(bytes) });
const server = realTargetServer({ portals: portals.map(parsePortal) });
server.addTarget({ name, luns: new Map([[0, device]]), access: { kind: "any" } });
await server.start();
// The target's clock keeps no process alive.
const alive = setInterval(() => undefined, 60_000);
process.on("SIGTERM", () => {
  clearInterval(alive);
  void server.stop();
});
