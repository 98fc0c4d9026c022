import { isAbsolute, normalize } from "node:path";
import { MAX_CSI_MAP_BYTES, MAX_CSI_STRING_BYTES } from "../base/limits.js";
import { isSecretLikeName } from "../storage/secret-names.js";
import { CsiError } from "./errors.js";
import type { CapabilityMessage, CapacityRangeMessage } from "./requests.js";

export type AccessMode =
  | "SINGLE_NODE_WRITER"
  | "SINGLE_NODE_READER_ONLY"
  | "MULTI_NODE_READER_ONLY"
  | "MULTI_NODE_SINGLE_WRITER"
  | "MULTI_NODE_MULTI_WRITER"
  | "SINGLE_NODE_SINGLE_WRITER"
  | "SINGLE_NODE_MULTI_WRITER";

export type FileSystemType = "ext4" | "xfs" | "btrfs";

/** How a volume is to be used, checked. */
export type VolumeUse =
  | { readonly kind: "block"; readonly mode: AccessMode }
  | {
      readonly kind: "mount";
      readonly mode: AccessMode;
      readonly fsType: FileSystemType;
      readonly mountFlags: readonly string[];
    };

type TextMap = Readonly<Record<string, string>>;

const MODES: ReadonlySet<string> = new Set<AccessMode>([
  "SINGLE_NODE_WRITER",
  "SINGLE_NODE_READER_ONLY",
  "MULTI_NODE_READER_ONLY",
  "MULTI_NODE_SINGLE_WRITER",
  "MULTI_NODE_MULTI_WRITER",
  "SINGLE_NODE_SINGLE_WRITER",
  "SINGLE_NODE_MULTI_WRITER",
]);

const FILE_SYSTEMS: ReadonlySet<string> = new Set<FileSystemType>(["ext4", "xfs", "btrfs"]);

function isAccessMode(mode: unknown): mode is AccessMode {
  return typeof mode === "string" && MODES.has(mode);
}

function isFileSystemType(fsType: string): fsType is FileSystemType {
  return FILE_SYSTEMS.has(fsType);
}

/** The field must be there. `name` is the field's name in the interface. */
export function requireText(value: string, name: string): string {
  if (value === "") throw invalid(`${name} is missing`);
  if (Buffer.byteLength(value) > MAX_CSI_STRING_BYTES) {
    throw invalid(`${name} is longer than ${MAX_CSI_STRING_BYTES} bytes`);
  }
  return value;
}

/** An absolute path with nothing to resolve in it: what is mounted and removed must be what was asked for. */
export function requirePath(value: string, name: string): string {
  requireText(value, name);
  const trimmed = value.length > 1 ? value.replace(/\/+$/, "") : value;
  if (!isAbsolute(value) || normalize(trimmed) !== trimmed || trimmed === "/" || value.includes("\0")) {
    throw invalid(`${name} "${value}" is not a plain absolute path`);
  }
  return trimmed;
}

/** Bounds a map and its contents. */
export function requireSmallMap(map: TextMap, name: string): TextMap {
  const lengthBytes = Object.entries(map).reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (lengthBytes > MAX_CSI_MAP_BYTES) throw invalid(`${name} holds more than ${MAX_CSI_MAP_BYTES} bytes`);
  return map;
}

/** Refuses what looks like a secret where everybody can read it. */
export function rejectSecrets(map: TextMap, name: string): void {
  const culprit = Object.keys(requireSmallMap(map, name)).find((key) => isSecretLikeName(key));
  if (culprit === undefined) return;
  throw invalid(
    `${name} entry "${culprit}" looks like a secret, and anybody may read ${name}; ` +
      "remove it and name a Kubernetes Secret instead: nodeStageSecretRef of a PersistentVolume, " +
      "csi.storage.k8s.io/node-stage-secret-name of a StorageClass",
  );
}

/** `{0, 0}` when the range is missing. */
export function readRange(range: CapacityRangeMessage): { requiredBytes: number; limitBytes: number } {
  const { requiredBytes, limitBytes } = range ?? { requiredBytes: 0, limitBytes: 0 };
  if (requiredBytes < 0 || limitBytes < 0) throw invalid("capacity_range holds a negative number");
  if (!Number.isSafeInteger(requiredBytes) || !Number.isSafeInteger(limitBytes)) {
    throw new CsiError("CSI_OUT_OF_RANGE", "capacity_range is beyond 8 PiB");
  }
  if (limitBytes !== 0 && requiredBytes > limitBytes) {
    throw invalid(`capacity_range: required_bytes ${requiredBytes} is over limit_bytes ${limitBytes}`);
  }
  return { requiredBytes, limitBytes };
}

/** The capability, which must be there, complete and one that block storage can serve. */
export function requireUse(capability: CapabilityMessage | null | undefined): VolumeUse {
  if (capability === null || capability === undefined) throw invalid("volume_capability is missing");
  const use = parseUse(capability);
  const problem = whyUnsupported(use);
  if (problem !== undefined) throw invalid(problem);
  return use;
}

/** The capability as it stands, complete but perhaps not to be served. */
export function parseUse(capability: CapabilityMessage): VolumeUse {
  const mode = capability.accessMode?.mode;
  if (!isAccessMode(mode)) throw invalid(`volume_capability: access_mode ${mode ?? ""} is missing or unknown`);
  const { block, mount } = capability;
  if (mount !== null && mount !== undefined) {
    const fsType = mount.fsType === "" ? "ext4" : mount.fsType;
    if (!isFileSystemType(fsType)) {
      throw invalid(`volume_capability: file system "${fsType}" is not known; known: ${[...FILE_SYSTEMS].join(", ")}`);
    }
    return { kind: "mount", mode, fsType, mountFlags: checkFlags(mount.mountFlags) };
  }
  if (block !== null && block !== undefined) return { kind: "block", mode };
  throw invalid("volume_capability: access_type is missing; say block or mount");
}

/** Why a use cannot be served, or undefined. A local file system must never be mounted for writing on two nodes. */
export function whyUnsupported(use: VolumeUse): string | undefined {
  if (use.kind === "block") return undefined;
  if (use.mode !== "MULTI_NODE_MULTI_WRITER" && use.mode !== "MULTI_NODE_SINGLE_WRITER") return undefined;
  return (
    `access mode ${use.mode} needs a cluster file system, and ${use.fsType} is none: ` +
    "use it with raw block volumes (volumeMode: Block), or one node only"
  );
}

/** Does the mode only ever read? */
export function isReaderMode(mode: AccessMode): boolean {
  return mode === "SINGLE_NODE_READER_ONLY" || mode === "MULTI_NODE_READER_ONLY";
}

/** Is the volume one node's alone? */
export function isSingleNodeMode(mode: AccessMode): boolean {
  return mode.startsWith("SINGLE_NODE_");
}

function checkFlags(flags: readonly string[]): readonly string[] {
  for (const flag of flags) {
    if (flag === "" || flag.startsWith("-") || flag.length > 1024 || /[\x00-\x1f\x7f]/.test(flag)) {
      throw invalid(`volume_capability: mount flag ${JSON.stringify(flag.slice(0, 64))} is none`);
    }
    // SELinux contexts come in quotes, since they may have commas.
    if (flag.includes('"') && !/^[^",]+="[^"]*"$/.test(flag)) {
      throw invalid(`volume_capability: mount flag ${JSON.stringify(flag.slice(0, 64))} has quotes that do not match`);
    }
  }
  return flags;
}

function invalid(message: string): CsiError {
  return new CsiError("CSI_INVALID_ARGUMENT", message);
}
