import { z } from "zod";
import { CsiError } from "./errors.js";

/**
 * The shapes of requests as the interface declares them: after `parse`, handlers work with typed values and never
 * with what came off the wire. Meaning is checked in validate.ts.
 */
const text = z.string();
const textMap = z.record(text, text);
const bytes = z.number();

const capacityRange = z.object({ requiredBytes: bytes, limitBytes: bytes }).nullish();

const capability = z.object({
  block: z.object({}).nullish(),
  mount: z.object({ fsType: text, mountFlags: z.array(text), volumeMountGroup: text }).nullish(),
  // An unknown number of the enumeration arrives as that number.
  accessMode: z.object({ mode: z.union([text, z.number()]) }).nullish(),
});

const contentSource = z.object({ snapshot: z.object({}).nullish(), volume: z.object({}).nullish() }).nullish();

export type CapabilityMessage = z.infer<typeof capability>;
export type CapacityRangeMessage = z.infer<typeof capacityRange>;

export const createVolumeRequest = z.object({
  name: text,
  capacityRange,
  volumeCapabilities: z.array(capability),
  parameters: textMap,
  volumeContentSource: contentSource,
  mutableParameters: textMap,
});
export const deleteVolumeRequest = z.object({ volumeId: text });
export const controllerPublishRequest = z.object({
  volumeId: text,
  nodeId: text,
  volumeCapability: capability.nullish(),
  readonly: z.boolean(),
  volumeContext: textMap,
});
export const controllerUnpublishRequest = z.object({ volumeId: text, nodeId: text });
export const validateCapabilitiesRequest = z.object({
  volumeId: text,
  volumeContext: textMap,
  volumeCapabilities: z.array(capability),
  parameters: textMap,
  mutableParameters: textMap,
});
export const listVolumesRequest = z.object({ maxEntries: z.number(), startingToken: text });
export const getCapacityRequest = z.object({ volumeCapabilities: z.array(capability), parameters: textMap });
export const controllerExpandRequest = z.object({ volumeId: text, capacityRange });
export const controllerGetVolumeRequest = z.object({ volumeId: text });

export const nodeStageRequest = z.object({
  volumeId: text,
  publishContext: textMap,
  stagingTargetPath: text,
  volumeCapability: capability.nullish(),
  secrets: textMap,
  volumeContext: textMap,
});
export const nodeUnstageRequest = z.object({ volumeId: text, stagingTargetPath: text });
export const nodePublishRequest = z.object({
  volumeId: text,
  stagingTargetPath: text,
  targetPath: text,
  volumeCapability: capability.nullish(),
  readonly: z.boolean(),
});
export const nodeUnpublishRequest = z.object({ volumeId: text, targetPath: text });
export const nodeStatsRequest = z.object({ volumeId: text, volumePath: text });
export const nodeExpandRequest = z.object({ volumeId: text, volumePath: text, capacityRange });
export const nodeHealthRequest = z.object({ volumeId: text });

/** The typed request. A mismatch means that the caller and we have different declarations of the interface. */
export function parseRequest<T>(schema: z.ZodType<T>, request: unknown): T {
  const result = schema.safeParse(request);
  if (result.success) return result.data;
  // Only the places are named: a parser's message may quote what it found.
  const places = result.error.issues.map((issue) => issue.path.join(".")).join(", ");
  throw new CsiError("CSI_INVALID_ARGUMENT", `the request is not of the declared shape at: ${places}`);
}
