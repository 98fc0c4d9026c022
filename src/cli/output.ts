/** Where a command writes: injected, so that tests read it. */
export interface OutputPort {
  write(text: string): void;
}

export type OutputFormat = "table" | "json";

/** A column of a table: heading and how to show a row's cell. */
export interface Column<Row> {
  readonly heading: string;
  readonly cell: (row: Row) => string | number | boolean;
}

/** Rows as an aligned table, or as a JSON array of the rows themselves. */
export function formatRows<Row>(format: OutputFormat, rows: readonly Row[], columns: readonly Column<Row>[]): string {
  if (format === "json") return `${JSON.stringify(rows, undefined, 2)}\n`;
  const lines = [
    columns.map((column) => column.heading),
    ...rows.map((row) => columns.map((column) => String(column.cell(row)))),
  ];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => (line[index] ?? "").length)));
  const text = lines.map((line) =>
    line
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return `${text.join("\n")}\n`;
}

/** One object as `key: value` lines, or as JSON. */
export function formatRecord(format: OutputFormat, record: Readonly<Record<string, unknown>>): string {
  if (format === "json") return `${JSON.stringify(record, undefined, 2)}\n`;
  const width = Math.max(...Object.keys(record).map((key) => key.length));
  return Object.entries(record)
    .map(([key, value]) => `${key.padEnd(width)}  ${String(value)}\n`)
    .join("");
}
