import { readFioReport, type FioResult } from "../../support/fio-report.js";
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

export interface Load {
  /** Rejects at the first I/O error or wrong byte; then verifies all that was written once more. */
  readonly finished: Promise<FioResult>;
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
  const finish = async (): Promise<FioResult> => {
    const figures = readFioReport(await load.finished);
    // The load overwrote blocks in an order of its own; the same seed makes the same blocks, and each names its place.
    await cluster.kubectl(shell([...fioArgs(options), "--verify_only=1"]), { timeoutMs: 120_000 });
    return figures;
  };
  const finished = finish();
  finished.catch(() => undefined);
  return { finished };
}
