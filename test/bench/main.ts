/**
 * Hawser beside its rivals on the same target, and sessions of several connections beside one, in alternation:
 * `scripts/bench [--quick] [--write] [--connections]`. `--write` puts the tables into docs/performance.md;
 * `--connections` leaves the rivals out.
 */
import { access, readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { Tgtd } from "../support/tgt.js";
import { connectionsTable } from "./connections.js";
import { runMeasured, startServer, type Server } from "./measured-run.js";
import { TABLE_HEAD, tableRow, type Comparison } from "./statistics.js";

const isQuick = process.argv.includes("--quick");
const seconds = isQuick ? 2 : 5;
const rounds = isQuick ? 3 : 5;
const port = 13_950;
const portal = `127.0.0.1:${port}`;
const target = "iqn.2026-11.test:bench";
const url = `iscsi://${portal}/${target}/1`;
const blockBytes = 512;

interface Sample {
  readonly perSecond: number;
  readonly cpuMicros: number;
}

async function hawserBench(rw: string, bytes: number, depth: number): Promise<Sample> {
  const argv = ["node", "dist/hawserctl.js", "bench", "--portal", portal, "--target", target, "--lun", "1"];
  const shape = [
    "--rw",
    rw,
    "--bs",
    String(bytes),
    "--iodepth",
    String(depth),
    "--runtime",
    String(seconds),
    "-o",
    "json",
  ];
  const { stdout } = await runMeasured([...argv, ...shape], 60_000);
  const result = JSON.parse(stdout) as { iops: number; cpuMicrosPerOperation: number };
  return { perSecond: result.iops, cpuMicros: result.cpuMicrosPerOperation };
}

async function iscsiPerf(rw: string, bytes: number, depth: number): Promise<Sample> {
  const random = rw.startsWith("rand") ? ["-r"] : [];
  const shape = ["-m", String(depth), "-b", String(bytes / blockBytes), "-t", String(seconds)];
  const { stdout, cpuSeconds } = await runMeasured(["iscsi-perf", ...shape, ...random, url], 60_000);
  const averages = [...stdout.matchAll(/iops average (\d+)/g)];
  const perSecond = Number(averages.at(-1)?.[1]);
  return { perSecond, cpuMicros: (cpuSeconds / (perSecond * seconds)) * 1e6 };
}

async function compareInitiators(rw: string, bytes: number, depth: number): Promise<Comparison> {
  const ours: Sample[] = [];
  const rival: Sample[] = [];
  for (let round = 0; round < rounds; round += 1) {
    ours.push(await hawserBench(rw, bytes, depth));
    rival.push(await iscsiPerf(rw, bytes, depth));
  }
  return {
    shape: `initiator, ${rw} ${bytes / 1024}k, QD ${depth}, against iscsi-perf`,
    unit: "IOPS",
    ours: ours.map((sample) => sample.perSecond),
    rival: rival.map((sample) => sample.perSecond),
    oursCpuMicros: ours.map((sample) => sample.cpuMicros),
    rivalCpuMicros: rival.map((sample) => sample.cpuMicros),
  };
}

interface FioShape {
  readonly name: string;
  readonly options: readonly string[];
}

const fioShapes: readonly FioShape[] = [
  { name: "randread 4k QD 32", options: ["--rw=randread", "--bs=4k", "--iodepth=32"] },
  { name: "randwrite 4k QD 32", options: ["--rw=randwrite", "--bs=4k", "--iodepth=32"] },
  { name: "read 256k QD 32", options: ["--rw=read", "--bs=256k", "--iodepth=32"] },
  { name: "write 256k QD 32", options: ["--rw=write", "--bs=256k", "--iodepth=32"] },
  { name: "randread 4k QD 1", options: ["--rw=randread", "--bs=4k", "--iodepth=1"] },
  { name: "randrw 70/30 4k QD 32", options: ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=32"] },
];

/** Operations per second as fio's nbd engine sees them. */
async function fio(socket: string, shape: FioShape): Promise<number> {
  const fixed = [
    "fio",
    "--name=bench",
    "--ioengine=nbd",
    `--uri=nbd+unix:///?socket=${socket}`,
    "--output-format=json",
  ];
  const time = ["--time_based", `--runtime=${seconds}`, "--size=256m"];
  const { stdout } = await runMeasured([...fixed, ...time, ...shape.options], 60_000);
  const report = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    jobs: { read: { iops: number }; write: { iops: number } }[];
  };
  return (report.jobs[0]?.read.iops ?? 0) + (report.jobs[0]?.write.iops ?? 0);
}

const exists = (path: string) => (): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

async function compareExports(directory: string): Promise<readonly Comparison[]> {
  const sockets = { ours: join(directory, "ours.sock"), rival: join(directory, "rival.sock") };
  const servers: Server[] = [];
  try {
    const serve = ["node", "dist/hawserctl.js", "nbd-serve", "--portal", portal, "--target", target, "--lun", "1"];
    servers.push(await startServer([...serve, "--socket", sockets.ours], exists(sockets.ours)));
    const qemu = ["qemu-nbd", "--format=raw", "--shared=4", "--persistent", "--cache=none", "--aio=threads"];
    servers.push(await startServer([...qemu, `--socket=${sockets.rival}`, url], exists(sockets.rival)));
    const comparisons: Comparison[] = [];
    for (const shape of isQuick ? fioShapes.slice(0, 3) : fioShapes) {
      const ours: number[] = [];
      const rival: number[] = [];
      for (let round = 0; round < rounds; round += 1) {
        ours.push(await fio(sockets.ours, shape));
        rival.push(await fio(sockets.rival, shape));
      }
      comparisons.push({ shape: `NBD export, ${shape.name}, against qemu-nbd`, unit: "IOPS", ours, rival });
      process.stderr.write(`${tableRow(comparisons.at(-1) as Comparison)}\n`);
    }
    return comparisons;
  } finally {
    for (const server of servers) await server.stop();
  }
}

/** Puts a table between its two marks in the page. */
async function writeIntoDocs(mark: string, table: string): Promise<void> {
  const path = "docs/performance.md";
  const page = await readFile(path, "utf8");
  const marks = new RegExp(`(<!-- ${mark}:begin -->\\n)[\\s\\S]*(<!-- ${mark}:end -->)`);
  if (!marks.test(page)) throw new Error(`${path} has no place for ${mark}`);
  await writeFile(
    path,
    page.replace(marks, (_, begin: string, end: string) => `${begin}${table}\n${end}`),
  );
}

const machine = `${cpus().length} × ${cpus()[0]?.model ?? "unknown CPU"}, Node.js ${process.versions.node}`;
const pace = `${rounds} rounds of ${seconds} s in alternation. Machine: ${machine}.`;

async function report(mark: string, facts: string, table: string): Promise<void> {
  const text = [facts, "", table].join("\n");
  process.stdout.write(`${text}\n`);
  if (process.argv.includes("--write")) await writeIntoDocs(mark, text);
}

async function compareRivals(): Promise<void> {
  const tgtd = await Tgtd.start({
    controlPort: 950,
    portals: [portal],
    targets: [{ name: target, diskBytes: [256 * 2 ** 20] }],
  });
  try {
    // Written once, so that reads find data and not holes.
    await hawserBench("write", 262_144, 16);
    const comparisons: Comparison[] = [];
    const shapes = [
      ["randread", 4096, 32],
      ["randread", 4096, 1],
      ["read", 262_144, 32],
    ] as const;
    for (const [rw, bytes, depth] of shapes) {
      comparisons.push(await compareInitiators(rw, bytes, depth));
      process.stderr.write(`${tableRow(comparisons.at(-1) as Comparison)}\n`);
    }
    comparisons.push(...(await compareExports(tgtd.directory)));
    const table = [TABLE_HEAD, ...comparisons.map(tableRow)].join("\n");
    await report("bench", `Target: tgtd with a 256 MiB file in memory. ${pace}`, table);
  } finally {
    await tgtd.stop();
  }
}

if (!process.argv.includes("--connections")) await compareRivals();
await report(
  "bench-connections",
  `Targets on the same machine, in processes of their own, with disks of 256 MiB. ${pace}`,
  await connectionsTable({ seconds, rounds, ...(isQuick ? { shapes: 2 } : {}) }),
);
