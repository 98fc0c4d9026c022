import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { isIoFlusher } from "../../../src/host/ffi.js";
import { becomeIoFlusher, lockProgram, lowerOomScore } from "../../../src/host/launcher.js";

/** Protects itself and reports: what was granted, whether it is the same process, what its threads inherited. */
const before = process.env["FIRST_PID"];
const flusher = await becomeIoFlusher({
  program: process.execPath,
  args: [...process.execArgv, ...process.argv.slice(1)],
  env: { ...process.env, FIRST_PID: String(process.pid) },
});

const PF_MEMALLOC_NOIO = 0x0008_0000;

/** Of every thread of this process: field 9 of its stat holds its flags. */
async function threadsMarked(): Promise<boolean> {
  const threads = await readdir("/proc/self/task");
  const stats = await Promise.all(threads.map((id) => readFile(`/proc/self/task/${id}/stat`, "utf8")));
  return stats.every((stat) => (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[6]) & PF_MEMALLOC_NOIO) !== 0);
}

/** Freeing memory is what a runtime with a locked heap does not survive. */
async function churn(): Promise<void> {
  for (let round = 0; round < 8; round += 1) {
    await new Promise((resolve) => {
      new Worker("new Array(3e5).fill(0).map((x) => ({ x }))", { eval: true }).once("exit", resolve);
    });
  }
}

const report = {
  flusher,
  isFlusher: await isIoFlusher().catch(() => false),
  isSameProcess: before === String(process.pid),
  threadsMarked: await threadsMarked(),
  program: await lockProgram(),
  lockedKib: Number(/VmLck:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]),
  oom: await lowerOomScore(),
  oomScore: readFileSync("/proc/self/oom_score_adj", "utf8").trim(),
  args: process.argv.slice(2),
};
await churn();
console.log(JSON.stringify(report));
