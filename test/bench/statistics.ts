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
