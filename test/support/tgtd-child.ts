/**
 * tgtd with one target of one small disk, for tests that put it into a network namespace: `tgtd-child.ts TARGET
 * PORTAL...`. Says when it is ready, and ends with its standard input.
 */
import { once } from "node:events";
import { Tgtd } from "./tgt.js";

const [name = "", ...portals] = process.argv.slice(2);
const tgtd = await Tgtd.start({ controlPort: 7399, portals, targets: [{ name, diskBytes: [1_048_576] }] });
process.stdout.write("tgtd is ready\n");
process.stdin.resume();
await once(process.stdin, "end");
await tgtd.stop();
