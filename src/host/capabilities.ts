import { HostError } from "./errors.js";

/** Names of the capabilities by their number (linux/capability.h), as Kubernetes writes them. */
const NAMES: readonly string[] = [
  "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service",
  "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin",
  "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override",
  "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore",
].flatMap((line) => line.toUpperCase().split(" "));

/** What a process may do, and what it or its children could ever get. */
export interface ProcessCapabilities {
  readonly effective: ReadonlySet<string>;
  readonly bounding: ReadonlySet<string>;
}

/**
 * Reads the text of /proc/self/status (proc(5)). Names have no `CAP_` before them; numbers of newer kernels are left
 * out. HostError HOST_STATUS_INVALID when a line is missing.
 */
export function parseCapabilities(status: string): ProcessCapabilities {
  return { effective: readSet(status, "CapEff"), bounding: readSet(status, "CapBnd") };
}

function readSet(status: string, field: string): ReadonlySet<string> {
  const hex = new RegExp(`^${field}:\\s*([0-9a-f]{1,16})$`, "m").exec(status)?.[1];
  if (hex === undefined) throw new HostError("HOST_STATUS_INVALID", `/proc/self/status has no line ${field}`);
  const bits = BigInt(`0x${hex}`);
  return new Set(NAMES.filter((_, index) => ((bits >> BigInt(index)) & 1n) === 1n));
}
