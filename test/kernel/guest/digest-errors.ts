import { writeFileSync } from "node:fs";
import { SystemRandom } from "../../../src/base/system-random.js";
import type { BlockDevice } from "../../../src/block/device.js";
import {
  type ConnectedVolume,
  connectVolume,
  type VolumeSessionStatus,
} from "../../../src/initiator/connect-volume.js";
import { CorruptingProxy } from "../../support/corrupting-proxy.js";
import type { FaultRule } from "../../support/corrupting-proxy-faults.js";
import { realDependencies, volumeRequest } from "../../support/real-volume.js";

/**
 * Faults on the wire between the initiator and LIO, run in the guest: `node digest-errors.js LEVEL TARGET PORT...`.
 * Each phase spoils one kind of PDU while data is written and read back. Writes what each phase has cost to
 * $RESULTS/level-LEVEL.json, phase by phase, and fails at the first wrong byte.
 */
const [levelText = "0", targetName = "", ...ports] = process.argv.slice(2);
const level = Number(levelText) as 0 | 1 | 2;
const random = new SystemRandom();

interface Load {
  readonly sizeBytes: number;
  readonly rounds: number;
  readonly workers: number;
}

interface Phase {
  readonly name: string;
  readonly rule: FaultRule;
  readonly load: Load;
  readonly levels: readonly number[];
}

const small = { sizeBytes: 4096, rounds: 12, workers: 4 };
const large = { sizeBytes: 65_536, rounds: 6, workers: 4 };
/** One after the other: LIO can lose sight of another command when a Data-Out of one was bad. */
const single = { sizeBytes: 131_072, rounds: 12, workers: 1 };

/** What is lost without a trace is not for level 0: it would be found out by the timeout of the task only. */
const FROM_1 = [1, 2];
const ALL = [0, 1, 2];
/** Closes the connection at every level, and at level 1 with it a session of several: see below. */
const NOT_1 = [0, 2];

const phases: readonly Phase[] = [
  { name: "bad Data-In", rule: { kind: "data-in", fault: "flip-data", every: 9 }, load: large, levels: ALL },
  {
    name: "bad digest of Data-In",
    rule: { kind: "data-in", fault: "flip-data-digest", every: 11 },
    load: large,
    levels: ALL,
  },
  { name: "lost Data-In", rule: { kind: "data-in", fault: "drop", every: 13 }, load: large, levels: FROM_1 },
  { name: "lost status", rule: { kind: "scsi-response", fault: "drop", every: 7 }, load: small, levels: FROM_1 },
  {
    name: "bad immediate data",
    rule: { kind: "immediate-data", fault: "flip-data", every: 6 },
    load: small,
    levels: ALL,
  },
  {
    name: "lost command",
    rule: { kind: "scsi-command", fault: "drop", every: 15, most: 3 },
    load: small,
    levels: FROM_1,
  },
  { name: "bad Data-Out", rule: { kind: "data-out", fault: "flip-data", every: 25 }, load: single, levels: ALL },
  {
    name: "lost Data-Out",
    rule: { kind: "data-out", fault: "drop", every: 30, most: 2 },
    load: single,
    levels: FROM_1,
  },
  { name: "lost R2T", rule: { kind: "r2t", fault: "drop", every: 5, most: 2 }, load: single, levels: FROM_1 },
  // The next header is found behind the bad one (§7.8): what it announced counts as lost.
  {
    name: "bad header from the target",
    rule: { kind: "data-in", fault: "flip-header", every: 50, most: 3 },
    load: large,
    levels: ALL,
  },
  {
    name: "bad header to the target",
    rule: { kind: "scsi-command", fault: "flip-header", every: 20, most: 3 },
    load: small,
    levels: NOT_1,
  },
];

/**
 * At level 0 one connection: each fault costs the session. LIO of Linux 6.1 does not always live through the end of a
 * session that has several connections (iscsit_stop_session), so none is ended here.
 */
const connections = level === 0 ? 1 : 4;

/** Writes fresh bytes to a place of its own, reads them back, and compares. */
async function work(device: BlockDevice, worker: number, { load }: Phase): Promise<void> {
  const areaBytes = load.sizeBytes * load.rounds;
  for (let round = 0; round < load.rounds; round += 1) {
    const offsetBytes = worker * areaBytes + round * load.sizeBytes;
    const written = random.bytes(load.sizeBytes);
    await device.write(offsetBytes, written);
    const read = Buffer.alloc(load.sizeBytes);
    await device.read(offsetBytes, read);
    if (!read.equals(written)) throw new Error(`${load.sizeBytes} bytes at ${offsetBytes} are not what was written`);
  }
}

function statusOf(volume: ConnectedVolume): VolumeSessionStatus {
  const [status] = volume.sessions();
  if (status === undefined) throw new Error("the volume has no session");
  return status;
}

/** What happened between two moments, without the counts that stayed. */
function difference(before: object, after: object): Record<string, number> {
  const earlier = new Map<string, unknown>(Object.entries(before));
  return Object.fromEntries(
    Object.entries(after).flatMap(([name, value]) => {
      const count = Number(value) - Number(earlier.get(name) ?? 0);
      return count === 0 ? [] : [[name, count] as const];
    }),
  );
}

async function waitForConnections(volume: ConnectedVolume, count: number): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (statusOf(volume).connections.length < count) {
    if (Date.now() > deadline)
      throw new Error(`${statusOf(volume).connections.length} connections stand, not ${count}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function runPhase(phase: Phase, proxy: CorruptingProxy, volume: ConnectedVolume): Promise<object> {
  await waitForConnections(volume, connections);
  const before = { status: statusOf(volume), faults: proxy.report.faults };
  // Without recovery inside the session every fault costs a login: two of them show it.
  proxy.setRules([level === 0 ? { ...phase.rule, most: 2 } : phase.rule]);
  const startMs = Date.now();
  const { workers } = phase.load;
  await Promise.all(Array.from({ length: workers }, (_, worker) => work(volume.device, worker, phase)));
  await volume.device.flush();
  proxy.setRules([]);
  const after = statusOf(volume);
  return {
    phase: phase.name,
    faults: difference(before.faults, proxy.report.faults),
    recovery: difference(before.status.recovery, after.recovery),
    reconnects: after.reconnects - before.status.reconnects,
    isSameTsih: after.tsih === before.status.tsih,
    tookMs: Date.now() - startMs,
  };
}

const proxy = await CorruptingProxy.start({
  routes: ports.map((port) => ({
    listen: { host: "127.0.0.1", port: 0 },
    target: { host: "127.0.0.1", port: Number(port) },
  })),
  seed: 7143,
});
const [first, ...others] = proxy.portals;
if (first === undefined) throw new Error("name the ports of the target");
const volume = await connectVolume(
  volumeRequest({
    ...{ portals: [first, ...others], targetName, lun: 0, headerDigest: "crc32c", dataDigest: "crc32c" },
    settings: {
      ...{ connections, maxConnections: 8, connectionPolicy: "round-robin", errorRecoveryLevel: level },
      // Several Data-Ins for a read, and a burst of several for a write.
      ...{ maxRecvDataSegmentLengthBytes: 8192, maxBurstLengthBytes: 65_536, firstBurstLengthBytes: 8192 },
    },
  }),
  realDependencies(),
);
const negotiated = statusOf(volume);
const report: Record<string, unknown> = {
  errorRecoveryLevel: negotiated.errorRecoveryLevel,
  maxConnections: negotiated.maxConnections,
  headerDigest: negotiated.headerDigest,
  dataDigest: negotiated.dataDigest,
};
const done: object[] = [];
try {
  for (const phase of phases.filter(({ levels }) => levels.includes(level))) {
    done.push(await runPhase(phase, proxy, volume));
    writeFileSync(`${process.env["RESULTS"] ?? ""}/level-${level}.json`, JSON.stringify({ ...report, phases: done }));
  }
} finally {
  console.log(JSON.stringify({ level, status: statusOf(volume), proxy: proxy.report, done: done.length }));
}
await volume.close();
await proxy.close();
