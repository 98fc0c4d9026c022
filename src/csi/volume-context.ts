import type { DigestChoice } from "../base/access.js";
import type { AttachRequest } from "../dataplane/api.js";
import { isVolumeSetting, parseDigest, parseVolumeSettings } from "../storage/static-attributes.js";

type TextMap = Readonly<Record<string, string>>;

/**
 * What Kubernetes' provisioner adds with --extra-create-metadata. It says whose volume it is: the controller hands it on
 * in the volume context, so that the node knows where to report. It is no property of the volume, so the backend never
 * sees it: a volume that is asked for again is the same one whoever asks.
 */
const PROVISIONER_METADATA = new Set([
  "csi.storage.k8s.io/pvc/name",
  "csi.storage.k8s.io/pvc/namespace",
  "csi.storage.k8s.io/pv/name",
]);

/** StorageClass parameters that are the initiator's and travel in the volume context. */
const DIGEST_PARAMETERS: ReadonlySet<string> = new Set(["headerDigest", "dataDigest"]);

/** How the initiator is to log in, as far as the volume says. */
export interface LoginOptions {
  readonly headerDigest: DigestChoice;
  readonly dataDigest: DigestChoice;
  readonly settings: NonNullable<AttachRequest["settings"]>;
  /** Login without CHAP credentials shall not even be tried. */
  readonly isChapRequired: boolean;
}

/**
 * Parts StorageClass parameters into the backend's own, the volume's context, and the provisioner's metadata.
 * STORAGE_INVALID for a digest that is none, INITIATOR_SETTING_INVALID for a setting.
 */
export function splitParameters(parameters: TextMap): {
  readonly backend: TextMap;
  readonly context: TextMap;
  readonly metadata: TextMap;
} {
  const backend: Record<string, string> = {};
  const context: Record<string, string> = {};
  const metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(parameters)) {
    if (PROVISIONER_METADATA.has(key)) {
      metadata[key] = value;
    } else if (DIGEST_PARAMETERS.has(key)) {
      parseDigest(key, value);
      context[key] = value;
    } else if (isVolumeSetting(key)) {
      context[key] = value;
    } else {
      backend[key] = value;
    }
  }
  parseVolumeSettings(context);
  return { backend, context, metadata };
}

/**
 * The login options of a volume context: one of ours, or a static volume's attributes. STORAGE_INVALID,
 * INITIATOR_SETTING_INVALID.
 */
export function loginOptions(context: TextMap): LoginOptions {
  return {
    headerDigest: parseDigest("headerDigest", context["headerDigest"]) ?? "none",
    dataDigest: parseDigest("dataDigest", context["dataDigest"]) ?? "none",
    settings: parseVolumeSettings(context),
    isChapRequired: context["sessionCHAPAuth"] === "true",
  };
}
