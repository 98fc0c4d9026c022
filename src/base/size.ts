import { AppError } from "./errors.js";

const factors: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** Bytes from `10Gi`, `512Mi`, `4096`: Kubernetes quantities, whole numbers only. */
export function parseSize(text: string): number {
  const match = /^(\d+)(k|M|G|T|Ki|Mi|Gi|Ti|Pi)?$/.exec(text.trim());
  const bytes = Number(match?.[1]) * (factors[match?.[2] ?? ""] ?? Number.NaN);
  if (match === null || !Number.isSafeInteger(bytes)) {
    throw new AppError(
      "base",
      "SIZE_INVALID",
      `"${text}" is not a size; write for example 512Mi, 10Gi or a number of bytes`,
    );
  }
  return bytes;
}

/** `10 GiB`, `1.5 MiB`: for people. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit] ?? "B"}`;
}
