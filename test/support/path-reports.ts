/** What one fault did to I/O. Times in milliseconds. */
export interface SeenFault {
  readonly kind: string;
  readonly text: string;
  /** Did requests go over one of the paths it hit? */
  readonly isFelt: boolean;
  readonly tookMs: number;
  /** The longest that one read or write waited. */
  readonly stallMs: number;
  /** The longest it was allowed to. */
  readonly boundMs: number;
  /** From its end until all paths were up again. */
  readonly backMs: number;
}

/** What test/kernel/guest/path-faults.ts writes. */
export interface PathFaultsReport {
  readonly paths: number;
  readonly seed: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly faults: readonly SeenFault[];
  readonly outage?: SeenFault;
  readonly load: { readonly passes: number; readonly writtenBytes: number; readonly verifiedBytes: number };
  /** Reads and writes of the prober. */
  readonly probes: number;
  readonly events: Readonly<Record<string, number>>;
  readonly pathFailures: readonly { readonly id: string; readonly failures: number; readonly errors: number }[];
  /** Is what the device says what the target has? */
  readonly isDataEqual: boolean;
  readonly sessionsLeft: readonly string[];
  readonly kernelErrors: readonly string[];
}

/** How the requests of one phase were spread. */
export interface PolicyPhase {
  readonly policy: string;
  /** For people: what the paths were made to be. */
  readonly conditions: string;
  readonly requests: readonly number[];
}

/** The columns as wide as what is in them. */
export function textTable(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const lines = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines
    .map((line, index) =>
      line
        .map((cell, column) => {
          const isNumber = index > 0 && typeof rows[index - 1]?.[column] === "number";
          return isNumber ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** One line for each kind of fault: the longest stall beside what that fault was allowed, and the one nearest to its bound. */
export function faultTable(
  faults: readonly SeenFault[],
  boundOf: Readonly<Record<string, { readonly bound: string }>>,
): string {
  const kinds = [...new Set(faults.map(({ kind }) => kind))].sort();
  const rows = kinds.map((kind) => {
    const ofKind = faults.filter((fault) => fault.kind === kind);
    const longest = ofKind.reduce((most, fault) => (fault.stallMs > most.stallMs ? fault : most));
    const share = Math.max(...ofKind.map(({ stallMs, boundMs }) => stallMs / boundMs));
    const backMs = Math.max(...ofKind.map((fault) => fault.backMs));
    return [
      ...[
        kind,
        ofKind.length,
        ofKind.filter(({ isFelt }) => isFelt).length,
        longest.stallMs,
        longest.boundMs,
        `${Math.round(share * 100)} %`,
        backMs,
      ],
      boundOf[kind]?.bound ?? "",
    ];
  });
  const head = [
    "fault",
    "times",
    "on a path in use",
    "longest stall, ms",
    "its bound, ms",
    "nearest to bound",
    "all back, ms",
    "bound",
  ];
  return textTable(head, rows);
}
