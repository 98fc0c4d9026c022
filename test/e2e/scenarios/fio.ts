import type { Cluster } from "./cluster.js";

export interface LoadOptions {
  readonly namespace: string;
  readonly pod: string;
  /** A folder or a block device in the pod. */
  readonly target: string;
  readonly sizeMib: number;
  readonly seconds: number;
  /** Bytes per second of writes: a steady load that leaves the machine to the rest of the scenario. */
  readonly rate?: string;
}

export interface LoadFigures {
  readonly writtenBytes: number;
  readonly runtimeMs: number;
  /** The longest that one write or sync took, as the pod saw it. */
  readonly longestWaitMs: number;
}

interface FioSide {
  readonly io_bytes: number;
  readonly runtime: number;
  readonly clat_ns?: { readonly max: number };
}

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: FioSide;
    readonly write: FioSide;
    readonly sync: { readonly lat_ns?: { readonly max: number } };
  }[];
}

export interface Load {
  /** Rejects at the first I/O error or wrong byte; then verifies all that was written once more. */
  readonly finished: Promise<LoadFigures>;
}

function fioArgs({ target, sizeMib }: LoadOptions): readonly string[] {
  const place = target.startsWith("/dev/") ? `--filename=${target}` : `--directory=${target}`;
  return [
    ...["fio", "--name=load", place, `--size=${sizeMib}M`, "--rw=randwrite", "--bsrange=4k-64k", "--ioengine=libaio"],
    ...["--iodepth=8", "--direct=1", "--fsync=32", "--end_fsync=1", "--randseed=3720", "--verify=crc32c"],
    ...["--verify_fatal=1", "--verify_state_save=0", "--output-format=json"],
  ];
}

/**
 * Random writes of 4 to 64 KiB with a CRC32C in each, synced now and then, for `seconds`; a second fio then reads all
 * of it back and checks it. `seconds` longer than what the scenario does meanwhile, or nothing is proved.
 */
export function startLoad(cluster: Cluster, options: LoadOptions): Load {
  const { namespace, pod, seconds, rate = "4M" } = options;
  const inPod = ["-n", namespace, "exec", pod, "--"];
  // /tmp: fio writes small files of its own where it stands.
  const shell = (args: readonly string[]): readonly string[] => [...inPod, "env", "-C", "/tmp", ...args];
  const timeoutMs = seconds * 1000 + 120_000;
  const load = cluster.startKubectl(
    shell([...fioArgs(options), "--do_verify=0", "--time_based=1", `--runtime=${seconds}`, `--rate=${rate}`]),
    { timeoutMs },
  );
  const finish = async (): Promise<LoadFigures> => {
    const figures = read(await load.finished);
    // The load overwrote blocks in an order of its own; the same seed makes the same blocks, and each names its place.
    await cluster.kubectl(shell([...fioArgs(options), "--verify_only=1"]), { timeoutMs: 120_000 });
    return figures;
  };
  const finished = finish();
  finished.catch(() => undefined);
  return { finished };
}

function read(text: string): LoadFigures {
  // fio may print a line before the JSON.
  const report = JSON.parse(text.slice(text.indexOf("{"))) as FioReport;
  const job = report.jobs[0];
  if (job === undefined) throw new Error("fio reported no job");
  if (job.error !== 0) throw new Error(`fio met an I/O error: ${job.error}`);
  const waits = [job.read.clat_ns?.max, job.write.clat_ns?.max, job.sync.lat_ns?.max].map((ns) => (ns ?? 0) / 1e6);
  return {
    writtenBytes: job.write.io_bytes,
    runtimeMs: job.write.runtime,
    longestWaitMs: Math.round(Math.max(...waits)),
  };
}
