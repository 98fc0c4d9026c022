/** File systems Hawser makes, checks and grows. */
export type FilesystemType = "ext4" | "xfs" | "btrfs";

export const FILESYSTEM_TYPES: readonly FilesystemType[] = ["ext4", "xfs", "btrfs"];

/** Is `text` the name of a file system Hawser can make? */
export function isFilesystemType(text: string): text is FilesystemType {
  return FILESYSTEM_TYPES.some((fsType) => fsType === text);
}

/** What a probe of a device's content found. `error` never counts as empty. */
export type DeviceSignature =
  | { readonly kind: "empty" }
  | { readonly kind: "filesystem"; readonly fsType: string }
  | { readonly kind: "partition-table"; readonly tableType: string }
  /** Swap, LVM, RAID, LUKS and the like. */
  | { readonly kind: "other"; readonly type: string }
  /** Several signatures that contradict each other. */
  | { readonly kind: "ambivalent" };

export interface FormatFacts {
  readonly signature: DeviceSignature;
  /** Are the first and the last MiB zero? */
  readonly isZeroed: boolean;
  /** Does the volume's record say that it ever got a file system? */
  readonly wasFormatted: boolean;
  readonly requestedFsType: FilesystemType;
  readonly isReadOnly: boolean;
}

export type FormatDecision =
  /** Mount what is there. */
  | { readonly action: "use"; readonly fsType: FilesystemType }
  /** Make a file system. */
  | { readonly action: "format"; readonly fsType: FilesystemType }
  /** Touch nothing; an operator must look. */
  | { readonly action: "refuse"; readonly reason: string };

/**
 * May a file system be made on this device? Only when nothing at all speaks against it: the probe found no signature,
 * both ends are zero, and the volume never had one. Everything in doubt is refused: a volume that does not mount can
 * be repaired, one that was formatted cannot.
 */
export function decideFormat(facts: FormatFacts): FormatDecision {
  const { signature, requestedFsType } = facts;
  switch (signature.kind) {
    case "filesystem":
      return signature.fsType === requestedFsType
        ? { action: "use", fsType: requestedFsType }
        : refuse(`the volume carries ${signature.fsType}, not ${requestedFsType}; ask for the type it has`);
    case "partition-table":
      return refuse(`the volume carries a ${signature.tableType} partition table, not a file system`);
    case "other":
      return refuse(`the volume carries ${signature.type} data, not a file system`);
    case "ambivalent":
      return refuse("the volume carries several signatures that contradict each other; look at it with wipefs");
    case "empty":
      return decideEmpty(facts);
  }
}

function decideEmpty({ isZeroed, wasFormatted, requestedFsType, isReadOnly }: FormatFacts): FormatDecision {
  if (wasFormatted) {
    return refuse("the volume had a file system, and no trace of it can be found now; it is not formatted again");
  }
  if (!isZeroed) {
    return refuse("the volume has no known signature but is not empty: its first or last MiB holds data");
  }
  if (isReadOnly) return refuse("the volume is empty and read-only, so no file system can be made on it");
  return { action: "format", fsType: requestedFsType };
}

function refuse(reason: string): FormatDecision {
  return { action: "refuse", reason };
}
