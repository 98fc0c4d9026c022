import { createConnection, createServer } from "node:net";

/**
 * Passes bytes between an initiator and a target, the target's so much later: `node delay-proxy-main.js PORT DELAY_MS`.
 * Writes the port it listens on, of 127.0.0.1, on standard output. It has to be a process of its own: a timer of Node
 * waits up to a millisecond too long, so that the last part of each delay is slept through here.
 */
const [targetPort = "0", delayText = "0"] = process.argv.slice(2);
const delayMs = Number(delayText);

const COARSE_MS = 2;
const NAP_MS = 0.1;
const napping = new Int32Array(new SharedArrayBuffer(4));

/** In the order in which they came, which is that in which they are due. */
const due: { readonly atMs: number; readonly pass: () => void }[] = [];
let isWaiting = false;

function wait(): void {
  const [next] = due;
  isWaiting = next !== undefined;
  if (next === undefined) return;
  const leftMs = next.atMs - performance.now();
  if (leftMs <= 0) {
    due.shift();
    next.pass();
    wait();
  } else if (leftMs > COARSE_MS) {
    setTimeout(wait, leftMs - COARSE_MS);
  } else {
    Atomics.wait(napping, 0, 0, Math.min(NAP_MS, leftMs));
    setImmediate(wait);
  }
}

const server = createServer({ noDelay: true }, (initiator) => {
  const target = createConnection({ host: "127.0.0.1", port: Number(targetPort), noDelay: true });
  for (const [one, other] of [
    [initiator, target],
    [target, initiator],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
  initiator.on("data", (chunk) => target.write(chunk));
  target.on("data", (chunk) => {
    due.push({ atMs: performance.now() + delayMs, pass: () => initiator.write(chunk) });
    if (!isWaiting) wait();
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (address !== null && typeof address !== "string") process.stdout.write(`${address.port}\n`);
});
