/** The middle value; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  const high = sorted[Math.floor(middle)] ?? Number.NaN;
  return (low + high) / 2;
}

export interface Comparison {
  readonly shape: string;
  readonly unit: string;
  readonly ours: readonly number[];
  readonly rival: readonly number[];
  readonly oursCpuMicros?: readonly number[];
  readonly rivalCpuMicros?: readonly number[];
}

const show = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(2));

/** One row of the table: medians, the median of the rounds' ratios with its spread, CPU per operation. */
export function tableRow(comparison: Comparison): string {
  const { ours, rival, oursCpuMicros, rivalCpuMicros } = comparison;
  const ratios = ours.map((value, round) => value / (rival[round] ?? Number.NaN));
  const spread = `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}`;
  const cpu =
    oursCpuMicros === undefined || rivalCpuMicros === undefined
      ? "-"
      : `${median(oursCpuMicros).toFixed(1)} / ${median(rivalCpuMicros).toFixed(1)}`;
  const cells = [
    comparison.shape,
    comparison.unit,
    show(median(ours)),
    show(median(rival)),
    median(ratios).toFixed(2),
    spread,
    cpu,
  ];
  return `| ${cells.join(" | ")} |`;
}

export const TABLE_HEAD = [
  "| shape | unit | Hawser | rival | ratio (median) | spread | CPU µs per operation, Hawser / rival |",
  "|---|---|---|---|---|---|---|",
].join("\n");

/** The rounds of one variant, in their order. */
export interface VariantSamples {
  readonly perSecond: readonly number[];
  readonly cpuMicros: readonly number[];
}

/** One row of the table of variants: its median, the median of the rounds' ratios to `base` with its spread, and CPU. */
export function variantRow(shape: string, variant: string, samples: VariantSamples, base: VariantSamples): string {
  const ratios = samples.perSecond.map((value, round) => value / (base.perSecond[round] ?? Number.NaN));
  const spread = `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}`;
  const rate = show(median(samples.perSecond));
  const cells = [shape, variant, rate, median(ratios).toFixed(2), spread, median(samples.cpuMicros).toFixed(1)];
  return `| ${cells.join(" | ")} |`;
}

export const VARIANT_TABLE_HEAD = [
  "| target, shape | session | IOPS | ratio to 1 connection (median) | spread | CPU µs per operation |",
  "|---|---|---|---|---|---|",
].join("\n");
