import { writeFileSync } from "node:fs";
import { silentLogger } from "../../../src/base/logger.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import type { BlockDevice } from "../../../src/block/device.js";
import { FileDevice } from "../../../src/block/file-device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { bindDevice, recoverDevice, type BindOptions } from "../../../src/nbd/bind.js";

/**
 * Serves one kernel nbd device until it is told to end: `node nbd-device.js MODE ID SIZE [FILE]`, MODE `bind` or
 * `recover`. Writes what it bound to $SCRATCH/bound. SIGTERM releases, SIGHUP parks, SIGUSR1 grows to twice the size;
 * each then writes its outcome to $SCRATCH/outcome.
 */
const [mode, backendId = "", size = "0", file] = process.argv.slice(2);
const scratch = process.env["SCRATCH"] ?? "/run";
const dependencies = { clock: new SystemClock(), logger: { ...silentLogger, warn: report, error: report } };
const options: BindOptions = { backend: "nbd", backendId, runtimeDirectory: scratch, ioTimeoutMs: 1000 };

function report(message: string, fields?: unknown): void {
  console.log(message, JSON.stringify(fields));
}

function outcome(text: string): void {
  writeFileSync(`${scratch}/outcome`, `${text}\n`);
}

async function settle(work: () => Promise<void>): Promise<void> {
  await work().then(
    () => outcome("ok"),
    (error: unknown) => outcome(error instanceof Error ? error.message : String(error)),
  );
}

async function openDevice(): Promise<BlockDevice & { resize?(sizeBytes: number): unknown }> {
  if (file === undefined) return new MemoryDevice({ sizeBytes: Number(size) });
  return FileDevice.open({ path: file });
}

const device = await openDevice();
const bound = await (mode === "bind" ? bindDevice : recoverDevice)(device, options, dependencies);
if (bound === undefined) throw new Error("nothing to recover");
writeFileSync(`${scratch}/bound`, `${bound.devicePath} ${bound.major}:${bound.minor}\n`);

process.on("SIGTERM", () => {
  void settle(async () => {
    await bound.release();
    setImmediate(() => process.exit(0));
  });
});
process.on("SIGHUP", () => {
  void settle(async () => {
    await bound.park();
    setImmediate(() => process.exit(0));
  });
});
process.on("SIGUSR1", () => {
  void settle(async () => {
    await device.resize?.(2 * Number(size));
    await bound.resize(2 * Number(size));
  });
});
