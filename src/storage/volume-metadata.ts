import { z } from "zod";
import type { Random } from "../base/random.js";
import { openSealedChap, sealChap } from "../base/sealed-chap.js";
import type { SealingContext, SealingKeyPair } from "../base/sealing.js";
import { StorageError } from "./backend.js";
import type { StoredGrant, StoredVolume } from "./volume-store.js";

/** volume.json as it stands on disk. Strict: a file with fields of a later version is not silently cut. */
const metadataSchema = z.strictObject({
  version: z.literal(1),
  id: z.string().min(1),
  name: z.string().min(1),
  sizeBytes: z.int().positive(),
  logicalBlockBytes: z.union([z.literal(512), z.literal(4096)]),
  parameters: z.record(z.string(), z.string()),
  context: z.record(z.string(), z.string()),
  createdAtMs: z.number(),
  grants: z.array(
    z.strictObject({
      iqn: z.string(),
      holder: z.string(),
      isReadOnly: z.boolean(),
      isExclusive: z.boolean(),
      sealedChap: z.string().optional(),
    }),
  ),
});

/** The text of volume.json; CHAP goes in sealed to the store's own key. */
export function encodeMetadata(
  volume: StoredVolume,
  keyPair: SealingKeyPair,
  dependencies: { readonly random: Random },
): string {
  const grants = volume.grants.map(({ chap, ...grant }) => ({
    ...grant,
    ...(chap === undefined
      ? {}
      : { sealedChap: sealChap(keyPair.publicKey, chap, sealingContext(volume.id, grant.iqn), dependencies) }),
  }));
  return `${JSON.stringify({ version: 1, ...volume, grants }, undefined, 2)}\n`;
}

/** STORAGE_FAILED when the text is no metadata, or its secrets do not open. */
export function decodeMetadata(text: string, keyPair: SealingKeyPair): StoredVolume {
  const { id, name, sizeBytes, logicalBlockBytes, parameters, context, createdAtMs, grants } = parseMetadata(text);
  return {
    id,
    name,
    sizeBytes,
    logicalBlockBytes,
    parameters,
    context,
    createdAtMs,
    grants: grants.map((grant) => decodeGrant(grant, id, keyPair)),
  };
}

type Metadata = z.infer<typeof metadataSchema>;

function parseMetadata(text: string): Metadata {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new StorageError("STORAGE_FAILED", "it is not JSON", { cause: error });
  }
  const result = metadataSchema.safeParse(value);
  if (!result.success) throw new StorageError("STORAGE_FAILED", z.prettifyError(result.error));
  return result.data;
}

function decodeGrant(grant: Metadata["grants"][number], volumeId: string, keyPair: SealingKeyPair): StoredGrant {
  const { sealedChap, ...plain } = grant;
  if (sealedChap === undefined) return plain;
  try {
    return { ...plain, chap: openSealedChap(keyPair, sealedChap, sealingContext(volumeId, grant.iqn)) };
  } catch (error) {
    throw new StorageError(
      "STORAGE_FAILED",
      `the CHAP credentials of volume ${volumeId} for ${grant.iqn} do not open with the key of this store; ` +
        "restore store.key",
      { cause: error },
    );
  }
}

/** A sealed pair opens only for the volume and the initiator it was made for. */
function sealingContext(volumeId: string, iqn: string): SealingContext {
  return { volumeHandle: volumeId, nodeId: `granted to ${iqn}` };
}
