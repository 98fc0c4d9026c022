import { createHash } from "node:crypto";
import { z } from "zod";
import {
  MAX_PATH_ID_CHARACTERS,
  MAX_PATHS_PER_VOLUME,
  MAX_PORTALS_PER_VOLUME,
  MAX_VOLUME_HANDLE_BYTES,
} from "../base/limits.js";

/**
 * What a node remembers of a volume, in one file: enough to go on after a crash between any two steps, and no secret
 * in clear.
 *
 * `phase` says how far the last attach or detach came: `attaching` (the caller has no answer yet), `attached`,
 * `detaching`, `detached`. A detached record stays: it holds the identity the device must show again, whether we
 * formatted it, and the ISID, but no secrets.
 */
export const volumeRecordSchema = z.object({
  version: z.literal(1),
  volumeHandle: z.string().min(1).max(MAX_VOLUME_HANDLE_BYTES),
  phase: z.enum(["attaching", "attached", "detaching", "detached"]),
  portals: z
    .array(z.object({ host: z.string().min(1).max(255), port: z.int().min(1).max(65_535) }))
    .min(1)
    .max(MAX_PORTALS_PER_VOLUME),
  targetName: z.string().min(1).max(223),
  lun: z.int().min(0).max(0xff_ffff),
  /** What the caller demanded; may be empty. */
  requestedId: z.string().max(512),
  /** What the device showed at the first attach; empty until then. */
  deviceId: z.string().max(512),
  isReadOnly: z.boolean(),
  /** May other nodes write to it meanwhile? Records of before do not say; then they may not. */
  wasShared: z.boolean().optional(),
  /** What the device had when it was seen last, in bytes; absent until then. */
  sizeBytes: z.int().min(0).optional(),
  headerDigest: z.enum(["none", "crc32c", "prefer-crc32c"]),
  dataDigest: z.enum(["none", "crc32c", "prefer-crc32c"]),
  /** Settings of the initiator in their text form; records of before have none. */
  settings: z.record(z.string().max(64), z.string().max(1_024)).optional(),
  requestedBackend: z.enum(["nbd", "fuse"]).optional(),
  /** How the kernel got it, from the first bind on. */
  backend: z.enum(["nbd", "fuse"]).optional(),
  /** Hexadecimal, six bytes each, one per session. */
  isids: z
    .array(z.string().regex(/^[0-9a-f]{12}$/))
    .min(1)
    .max(32),
  /** With several paths: those that have, or have had, a session since the attach (initiator/path-plan.ts). */
  pathIds: z
    .array(z.string().min(1).max(MAX_PATH_ID_CHARACTERS))
    .max(4 * MAX_PATHS_PER_VOLUME)
    .optional(),
  /** Sealed with the node's own key (base/sealed-chap.ts). */
  sealedChap: z.string().max(16_384).optional(),
  /** The grant of the last attach; empty when there was none. */
  publicationId: z.string().max(256).default(""),
  generation: z.int().min(0),
  /** The boot of the last attach: a device of another boot is gone. */
  bootId: z.string().max(128),
  wasFormatted: z.boolean(),
  /** Empty when never formatted. */
  fsType: z.string().max(64),
  createdAtMs: z.number(),
  updatedAtMs: z.number(),
});

export type VolumeRecord = Readonly<z.infer<typeof volumeRecordSchema>>;

/** What stays of a volume once it is detached: every attach brings its CHAP secrets anew, so none are kept. */
export function detachedRecord(record: VolumeRecord): VolumeRecord {
  const kept: z.infer<typeof volumeRecordSchema> = { ...record, phase: "detached" };
  delete kept.sealedChap;
  delete kept.pathIds;
  return kept;
}

/** Longest readable part of a file name: with hash and ending it stays far below the 255 bytes of most file systems. */
const READABLE_CHARACTERS = 100;

/**
 * The file name of a volume's record: safe for any handle, readable, and never the same for two handles, since it
 * carries a hash of the whole handle.
 */
export function recordFileName(volumeHandle: string): string {
  const readable = volumeHandle.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, READABLE_CHARACTERS);
  const hash = createHash("sha256").update(volumeHandle).digest("hex").slice(0, 24);
  return `${readable}-${hash}.json`;
}
