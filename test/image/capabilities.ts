/**
 * The capabilities of each process, as the chart lists them and docs/image.md explains them. Tests show that each
 * process works with exactly these, and what it says without one.
 */
export const CAPABILITIES = {
  controller: [],
  dataplane: ["SYS_ADMIN", "SYS_RESOURCE", "IPC_LOCK"],
  node: ["SYS_ADMIN", "SYS_RESOURCE", "DAC_READ_SEARCH"],
  loadModule: ["SYS_MODULE"],
} as const;

/** Numbers of the capabilities in /proc/PID/status, from linux/capability.h. */
export const CAPABILITY_BITS: Readonly<Record<string, bigint>> = {
  DAC_READ_SEARCH: 2n,
  SETPCAP: 8n,
  IPC_LOCK: 14n,
  SYS_MODULE: 16n,
  SYS_ADMIN: 21n,
  SYS_RESOURCE: 24n,
};

export function without(names: readonly string[], missing: string): readonly string[] {
  return names.filter((name) => name !== missing);
}
