import { createConnection } from "node:net";
import { ISTGT_TARGET_NAME, Istgt } from "../support/istgt.js";
import { hasProgram } from "../support/needs.js";
import { runMeasured, startServer } from "./measured-run.js";
import { type VariantSamples, VARIANT_TABLE_HEAD, variantRow } from "./statistics.js";

/** What is measured beside one connection without digests. */
interface Variant {
  readonly name: string;
  readonly connections: number;
  readonly flags: readonly string[];
}

const DIGESTS = ["--header-digest", "crc32c", "--data-digest", "crc32c"];
const BASE: Variant = { name: "1 connection", connections: 1, flags: [] };
const VARIANTS: readonly Variant[] = [
  BASE,
  { name: "2 connections", connections: 2, flags: [] },
  { name: "4 connections", connections: 4, flags: [] },
  { name: "1 connection, both digests", connections: 1, flags: DIGESTS },
  { name: "4 connections, both digests", connections: 4, flags: DIGESTS },
];

const SHAPES = [
  { name: "randread 4k QD 32", flags: ["--rw", "randread", "--bs", "4k", "--iodepth", "32"] },
  { name: "read 256k QD 32", flags: ["--rw", "read", "--bs", "256k", "--iodepth", "32"] },
  { name: "write 256k QD 32", flags: ["--rw", "write", "--bs", "256k", "--iodepth", "32"] },
] as const;

const DISK_BYTES = 256 * 2 ** 20;
const PORTS = [13_960, 13_961, 13_962, 13_963];
const EMBEDDED_NAME = "iqn.2026-11.test:embedded-bench";

export interface BenchLength {
  readonly seconds: number;
  readonly rounds: number;
  readonly shapes?: number;
}

interface Sample {
  readonly perSecond: number;
  readonly cpuMicros: number;
}

async function measure(target: string, shape: readonly string[], variant: Variant, seconds: number): Promise<Sample> {
  const portals = PORTS.flatMap((port) => ["--portal", `127.0.0.1:${port}`]);
  const argv = ["node", "dist/hawserctl.js", "bench", ...portals, "--target", target, "--lun", "0"];
  const session = ["--connections", String(variant.connections), ...variant.flags];
  const run = [...argv, ...session, ...shape, "--runtime", String(seconds), "-o", "json"];
  const { stdout } = await runMeasured(run, 60_000);
  const result = JSON.parse(stdout) as { iops: number; cpuMicrosPerOperation: number; connections: number };
  // A figure for four connections that was reached with one would be worth nothing.
  if (result.connections !== variant.connections) {
    throw new Error(`${variant.name}: ${result.connections} connections stood`);
  }
  return { perSecond: result.iops, cpuMicros: result.cpuMicrosPerOperation };
}

async function compareVariants(
  label: string,
  target: string,
  length: BenchLength,
  onRow: (row: string) => void,
): Promise<void> {
  for (const shape of SHAPES.slice(0, length.shapes)) {
    const samples = VARIANTS.map(() => [] as Sample[]);
    for (let round = 0; round < length.rounds; round += 1) {
      for (const [index, variant] of VARIANTS.entries()) {
        samples[index]?.push(await measure(target, shape.flags, variant, length.seconds));
      }
    }
    const of = (index: number): VariantSamples => ({
      perSecond: (samples[index] ?? []).map((sample) => sample.perSecond),
      cpuMicros: (samples[index] ?? []).map((sample) => sample.cpuMicros),
    });
    VARIANTS.forEach((variant, index) => onRow(variantRow(`${label}, ${shape.name}`, variant.name, of(index), of(0))));
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: "127.0.0.1", port });
    const settle = (isThere: boolean) => (): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once("connect", settle(true)).once("error", settle(false));
  });
}

/**
 * A table of throughput with 1, 2 and 4 connections of a session and with digests, each as a ratio to one connection
 * without: against istgt where it is installed, and against the embedded target in a process of its own.
 */
export async function connectionsTable(length: BenchLength): Promise<string> {
  const rows: string[] = [];
  const onRow = (row: string): void => {
    rows.push(row);
    process.stderr.write(`${row}\n`);
  };
  const portal = (port: number): string => `127.0.0.1:${port}`;
  const tsx = ["node", "--import", "tsx", "test/bench/embedded-target.ts"];
  const first = PORTS[0] ?? 0;
  const embedded = await startServer([...tsx, EMBEDDED_NAME, String(DISK_BYTES), ...PORTS.map(portal)], () =>
    answers(first),
  );
  try {
    await compareVariants("embedded target", EMBEDDED_NAME, length, onRow);
  } finally {
    await embedded.stop();
  }
  if (hasProgram("istgt")) {
    const portals = PORTS.map((port) => ({ host: "127.0.0.1", port }));
    const istgt = await Istgt.start({ controlPort: 13_964, portals, diskBytes: DISK_BYTES });
    try {
      await compareVariants("istgt", ISTGT_TARGET_NAME, length, onRow);
    } finally {
      await istgt.stop();
    }
  }
  return [VARIANT_TABLE_HEAD, ...rows].join("\n");
}
