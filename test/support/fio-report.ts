export interface FioResult {
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly runtimeMs: number;
  /** The longest that one write or sync took, as its caller saw it. */
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

/** The first job of fio's JSON report. Throws when it met an I/O error or a wrong byte. */
export function readFioReport(text: string): FioResult {
  // fio may print a line before the JSON.
  const report = JSON.parse(text.slice(text.indexOf("{"))) as FioReport;
  const [job] = report.jobs;
  if (job === undefined) throw new Error("fio reported no job");
  if (job.error !== 0) throw new Error(`fio met error ${job.error}`);
  const waitsNs = [job.write.clat_ns?.max ?? 0, job.sync.lat_ns?.max ?? 0];
  return {
    readBytes: job.read.io_bytes,
    writtenBytes: job.write.io_bytes,
    runtimeMs: job.read.runtime + job.write.runtime,
    longestWaitMs: Math.round(Math.max(...waitsNs) / 1e6),
  };
}
