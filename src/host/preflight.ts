import type { ProcessCapabilities } from "./capabilities.js";

/** May a device node be opened? `refused`: it is there and the kernel forbids it. */
export type DeviceAccess = "ok" | "missing" | "refused";

/** What the decisions below rest on; preflight-facts gathers it. */
export interface HostFacts {
  readonly capabilities: ProcessCapabilities;
  /** Programs that were looked for and not found. */
  readonly missingPrograms: ReadonlySet<string>;
}

export interface NodeFacts extends HostFacts {
  /** The kubelet's folder, when it was named. */
  readonly kubeletFolder?: {
    readonly path: string;
    /** The mount it lies on, as this process sees it. */
    readonly mountPoint: string;
    readonly isShared: boolean;
  };
}

/** A measure against waiting for itself; see launcher. */
export interface ProtectionFact {
  readonly measure: string;
  readonly capability: string;
  /** Why it was refused; empty when it was taken. */
  readonly reason: string;
}

export interface DataplaneFacts extends HostFacts {
  readonly backend: "auto" | "nbd" | "fuse";
  /** `reason` says why the kernel's nbd cannot be used. */
  readonly nbd: { readonly isAvailable: boolean; readonly reason: string };
  readonly fuseDevice: DeviceAccess;
  readonly loopControl: DeviceAccess;
  /** Can the queues of block devices be tuned (sysfs is writable)? */
  readonly isQueueWritable: boolean;
  readonly protections: readonly ProtectionFact[];
  /** Is a missing protection fatal? */
  readonly requireProtections: boolean;
}

/** Something that is missing: what, what it is for, and the remedy. Fatal when nothing works without it. */
export interface Finding {
  readonly isFatal: boolean;
  readonly message: string;
}

/** What each program is for, and who has it; on a node. */
const NODE_PROGRAMS: readonly (readonly [program: string, purpose: string, isFatal: boolean])[] = [
  ["mount", "nothing can be mounted", true],
  ["umount", "nothing can be unmounted", true],
  ["blkid", "nothing tells an empty disk from one with data", true],
  ["dd", "nothing tells an empty disk from one with data", true],
  ["mkfs.ext4", "ext4 volumes cannot be made", false],
  ["e2fsck", "ext4 volumes cannot be checked before they are mounted", false],
  ["resize2fs", "ext4 volumes cannot grow", false],
  ["mkfs.xfs", "xfs volumes cannot be made", false],
  ["xfs_growfs", "xfs volumes cannot grow", false],
  ["mkfs.btrfs", "btrfs volumes cannot be made", false],
  ["btrfs", "btrfs volumes cannot grow", false],
];

const FUSE_PROGRAMS: readonly (readonly [program: string, purpose: string])[] = [
  ["nbdfuse", "FUSE devices cannot be made"],
  ["setpriv", "nbdfuse cannot be started so that it ends with the dataplane"],
];

/** Every program that preflight wants to hear about. */
export const PREFLIGHT_PROGRAMS: readonly string[] = [
  ...NODE_PROGRAMS.map(([program]) => program),
  ...FUSE_PROGRAMS.map(([program]) => program),
];

/** What `hawser node` lacks. */
export function nodeFindings(facts: NodeFacts): readonly Finding[] {
  const findings = [
    ...needCapability(facts, "SYS_ADMIN", "nothing can be mounted", true),
    ...needCapability(facts, "SYS_RESOURCE", "a mounted ext4 cannot grow (xfs and btrfs can)", false),
    ...needCapability(
      facts,
      "DAC_READ_SEARCH",
      "a volume whose root its application closed to others cannot grow",
      false,
    ),
    ...NODE_PROGRAMS.flatMap(([program, purpose, isFatal]) => needProgram(facts, program, purpose, isFatal)),
  ];
  const { kubeletFolder } = facts;
  if (kubeletFolder !== undefined && !kubeletFolder.isShared) {
    findings.push({
      isFatal: true,
      message:
        `mounts below ${kubeletFolder.path} stay in this container: the mount ${kubeletFolder.mountPoint} it lies on ` +
        "is not shared, so pods would write to the node's own disk; give the volume mountPropagation: Bidirectional",
    });
  }
  return findings;
}

/** What `hawser dataplane` lacks for its backend. */
export function dataplaneFindings(facts: DataplaneFacts): readonly Finding[] {
  return [
    ...needCapability(facts, "SYS_ADMIN", "the kernel gives no block device to this process", true),
    ...backendFindings(facts),
    ...facts.protections.flatMap((protection) => protectionFinding(facts, protection)),
  ];
}

function backendFindings(facts: DataplaneFacts): readonly Finding[] {
  const { backend, nbd } = facts;
  if (backend === "fuse") return fuseFindings(facts);
  if (nbd.isAvailable) return queueFindings(facts);
  const problem = `the nbd interface of the kernel is missing (${nbd.reason})`;
  const remedy =
    "load the nbd module on the node (modprobe nbd), and run the dataplane in the node's network namespace " +
    "(hostNetwork: true), where alone it is seen; or choose --backend fuse (dataplane.device=fuse)";
  if (backend === "nbd") return [{ isFatal: true, message: `${problem}: no device can be made; ${remedy}` }];
  const fuse = fuseFindings(facts);
  if (fuse.every(({ isFatal }) => !isFatal)) return fuse;
  return [{ isFatal: true, message: `${problem}, and FUSE cannot take its place; ${remedy}` }, ...fuse];
}

function queueFindings({ isQueueWritable }: DataplaneFacts): readonly Finding[] {
  if (isQueueWritable) return [];
  const message =
    "/sys/devices/virtual/block is read-only: the kernel repeats requests lost in a crash of the dataplane after 30 s " +
    "and not after --nbd-io-timeout; mount it from the node, writable";
  return [{ isFatal: false, message }];
}

function fuseFindings(facts: DataplaneFacts): readonly Finding[] {
  return [
    ...needDevice("/dev/fuse", facts.fuseDevice, "modprobe fuse"),
    ...needDevice("/dev/loop-control", facts.loopControl, "modprobe loop"),
    ...FUSE_PROGRAMS.flatMap(([program, purpose]) => needProgram(facts, program, purpose, true)),
  ];
}

function needDevice(path: string, access: DeviceAccess, load: string): readonly Finding[] {
  if (access === "ok") return [];
  const remedy =
    access === "missing"
      ? `load its driver on the node (${load}) and mount the node's /dev`
      : "it is there and may not be opened: the device list of the container forbids it; it needs privileged: true";
  return [{ isFatal: true, message: `${path} cannot be used: FUSE devices cannot be made; ${remedy}` }];
}

function protectionFinding(facts: DataplaneFacts, protection: ProtectionFact): readonly Finding[] {
  const { measure, capability, reason } = protection;
  if (reason === "") return [];
  const missing = missingCapability(facts.capabilities, capability);
  const remedy =
    missing === undefined
      ? `CAP_${capability} is there, so it is the kernel or a limit: see the reason`
      : `${missing}; ${grant(capability)}`;
  const message =
    `${measure}: ${reason}: when memory is short, the kernel may wait for the dataplane while the dataplane waits ` +
    `for the kernel; ${remedy}`;
  return [{ isFatal: facts.requireProtections, message }];
}

function needCapability(
  { capabilities }: HostFacts,
  capability: string,
  purpose: string,
  isFatal: boolean,
): readonly Finding[] {
  const missing = missingCapability(capabilities, capability);
  return missing === undefined ? [] : [{ isFatal, message: `${missing}: ${purpose}; ${grant(capability)}` }];
}

/** Says that a capability is missing; undefined when it is there. */
function missingCapability({ effective, bounding }: ProcessCapabilities, capability: string): string | undefined {
  if (effective.has(capability)) return undefined;
  // What is not in the bounding set not even root can get back.
  const where = bounding.has(capability) ? "" : " and is not in the bounding set either";
  return `CAP_${capability} is missing${where}`;
}

function grant(capability: string): string {
  return (
    `add ${capability} to securityContext.capabilities of the container; if it is there, whoever started the ` +
    "container's runtime withholds it"
  );
}

function needProgram(
  { missingPrograms }: HostFacts,
  program: string,
  purpose: string,
  isFatal: boolean,
): readonly Finding[] {
  if (!missingPrograms.has(program)) return [];
  return [{ isFatal, message: `the program ${program} is missing: ${purpose}; install it, the image has it` }];
}
