import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

/**
 * Writes and reads the same blocks of a device again and again, past the page cache: `node path-prober.js DEVICE OFFSET`.
 * Each lane owns a block of 4 KiB from OFFSET on. Every write carries the next number and is read back at once; once more
 * before the next write, after a pause in which an older write that a lost path still delivered would show.
 *
 * Tells on standard output, a line each: `slow START END` an operation of SLOW_MS or longer, in milliseconds since 1970;
 * `beat START COUNT` ten times a second, START of the oldest operation among the lanes' last that ended, and how many
 * ended since the start; `bad TEXT` an error or wrong data. SIGTERM ends it after the operations under way.
 */
const LANES = 4;
const BLOCK_BYTES = 4096;
const PAUSE_MS = 20;
const BEAT_MS = 100;
const SLOW_MS = 50;

/** Its memory begins at a page, as direct I/O demands; a Buffer's does not. */
declare const WebAssembly: {
  readonly Memory: new (options: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
};

const [device = "", offsetText = "0"] = process.argv.slice(2);
const memory = new WebAssembly.Memory({ initial: 1 }).buffer;
const handle = await open(device, constants.O_RDWR | constants.O_DIRECT);
const lastStartedMs = Array.from({ length: LANES }, () => Date.now());
let operations = 0;
let isStopping = false;

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function timed(lane: number, act: () => Promise<unknown>): Promise<void> {
  const startMs = Date.now();
  await act();
  const endMs = Date.now();
  operations += 1;
  lastStartedMs[lane] = startMs;
  if (endMs - startMs >= SLOW_MS) tell(`slow ${startMs} ${endMs}`);
}

async function work(lane: number): Promise<void> {
  const source = Buffer.from(memory, 2 * lane * BLOCK_BYTES, BLOCK_BYTES);
  const found = Buffer.from(memory, (2 * lane + 1) * BLOCK_BYTES, BLOCK_BYTES);
  const position = Number(offsetText) + lane * BLOCK_BYTES;
  const check = async (when: string): Promise<void> => {
    found.fill(0xee);
    await timed(lane, () => handle.read(found, 0, BLOCK_BYTES, position));
    if (found.equals(source)) return;
    const [wanted, had] = [source, found].map((block) => String(block.readBigUInt64BE(8)));
    tell(`bad lane ${lane} holds write ${had ?? ""} instead of ${wanted ?? ""} ${when}`);
  };
  for (let number = 1n; !isStopping; number += 1n) {
    for (let at = 0; at < BLOCK_BYTES; at += 16) {
      source.writeBigUInt64BE(BigInt(lane), at);
      source.writeBigUInt64BE(number, at + 8);
    }
    try {
      await timed(lane, () => handle.write(source, 0, BLOCK_BYTES, position));
      await check("right after it");
      await delay(PAUSE_MS);
      await check("after a pause");
    } catch (error) {
      tell(`bad lane ${lane}: ${String(error)}`);
      await delay(BEAT_MS);
    }
  }
}

process.on("SIGTERM", () => {
  isStopping = true;
});
const beat = setInterval(() => tell(`beat ${Math.min(...lastStartedMs)} ${operations}`), BEAT_MS);
await Promise.all(Array.from({ length: LANES }, (_, lane) => work(lane)));
clearInterval(beat);
await handle.close();
tell(`beat ${Date.now()} ${operations}`);
