import { z } from "zod";
import type { ChapCredentials, PortalAddress } from "../base/access.js";
import { MAX_PORTALS_PER_VOLUME } from "../base/limits.js";
import { formatPortal, parsePortal } from "../base/portal.js";
import type { Random } from "../base/random.js";
import { openSealedChap, sealChap } from "../base/sealed-chap.js";
import type { SealingContext, SealingKeyPair } from "../base/sealing.js";
import type { VolumeAccess } from "../storage/backend.js";
import { CsiError } from "./errors.js";

type TextMap = Readonly<Record<string, string>>;

/** How the node reaches the volume, as the controller found out. */
export interface PublishedAccess {
  readonly portals: readonly PortalAddress[];
  readonly targetName: string;
  readonly lun: number;
  readonly deviceId: string;
  readonly isReadOnly: boolean;
  readonly chap: ChapCredentials | undefined;
}

const contextSchema = z.object({
  portals: z.string().transform((text, check): string[] => {
    const list = z.array(z.string()).min(1).max(MAX_PORTALS_PER_VOLUME).safeParse(parseJson(text));
    if (list.success) return list.data;
    check.addIssue("not a list of portals");
    return z.NEVER;
  }),
  targetName: z.string().min(1).max(223),
  lun: z.string().regex(/^\d{1,5}$/),
  deviceId: z.string().optional(),
  readOnly: z.enum(["true", "false"]).optional(),
  chap: z.string().optional(),
});

/**
 * The publish context of a volume. It ends up in the VolumeAttachment, which many may read: CHAP goes in sealed to
 * the node's public key and bound to this volume and node.
 */
export function encodePublishContext(
  access: VolumeAccess,
  options: { readonly isReadOnly: boolean; readonly nodePublicKey: Buffer; readonly sealing: SealingContext },
  dependencies: { readonly random: Random },
): TextMap {
  const { chap } = access;
  return {
    portals: JSON.stringify(access.portals.map(formatPortal)),
    targetName: access.targetName,
    lun: String(access.lun),
    deviceId: access.deviceId,
    readOnly: String(options.isReadOnly),
    ...(chap === undefined ? {} : { chap: sealChap(options.nodePublicKey, chap, options.sealing, dependencies) }),
  };
}

/** Is there a publish context at all? Without an attacher there is none. */
export function hasPublishContext(context: TextMap): boolean {
  return "targetName" in context;
}

/** Reads a publish context and opens its secrets. CSI_INVALID_ARGUMENT names what is wrong, never a value. */
export function decodePublishContext(
  context: TextMap,
  options: { readonly keyPair: SealingKeyPair; readonly sealing: SealingContext },
): PublishedAccess {
  const result = contextSchema.safeParse(context);
  if (!result.success) {
    const places = result.error.issues.map((issue) => issue.path.join(".")).join(", ");
    throw new CsiError(
      "CSI_INVALID_ARGUMENT",
      `publish_context is not one of this driver (${places}); unpublish the volume and publish it again`,
    );
  }
  const { portals, targetName, lun, deviceId, readOnly, chap } = result.data;
  return {
    portals: portals.map(parsePortal),
    targetName,
    lun: Number(lun),
    deviceId: deviceId ?? "",
    isReadOnly: readOnly === "true",
    chap: chap === undefined ? undefined : openSealedChap(options.keyPair, chap, options.sealing),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
