import type { AttachRequest } from "../dataplane/api.js";
import { hasStaticAttributes, parseStaticAttributes } from "../storage/static-attributes.js";
import { CsiError } from "./errors.js";
import type { NodeDependencies } from "./node-dependencies.js";
import { decodePublishContext, hasPublishContext, type PublishedAccess } from "./publish-context.js";
import { chapFromSecrets } from "./stage-secrets.js";
import { isReaderMode, isSingleNodeMode, rejectSecrets, type VolumeUse } from "./validate.js";
import { loginOptions } from "./volume-context.js";

type TextMap = Readonly<Record<string, string>>;

export interface StageContexts {
  readonly volumeId: string;
  readonly publishContext: TextMap;
  readonly volumeContext: TextMap;
  readonly secrets: TextMap;
}

/**
 * What the dataplane needs to attach the volume: the way from the publish context, or, without an attacher, from the
 * attributes of a static volume; CHAP as sealed by the controller, else from the node-stage secret, never from
 * anywhere else.
 */
export function attachRequestOf(
  contexts: StageContexts,
  use: VolumeUse,
  dependencies: Pick<NodeDependencies, "keyPair" | "nodeId">,
): AttachRequest {
  const { volumeId, volumeContext } = contexts;
  rejectSecrets(volumeContext, "volume_context");
  const access = accessOf(contexts, dependencies);
  const { headerDigest, dataDigest, settings, isChapRequired } = loginOptions(volumeContext);
  const chap = access.chap ?? chapFromSecrets(contexts.secrets);
  if (isChapRequired && chap === undefined) {
    throw new CsiError(
      "CSI_INVALID_ARGUMENT",
      `volume ${volumeId} demands CHAP (sessionCHAPAuth), and no credentials were given; ` +
        "name a Secret with chapUser and chapSecret in nodeStageSecretRef",
    );
  }
  return {
    volumeHandle: volumeId,
    portals: access.portals,
    targetName: access.targetName,
    lun: access.lun,
    expectedId: access.deviceId,
    isReadOnly: access.isReadOnly || isReaderMode(use.mode),
    ...(isSingleNodeMode(use.mode) ? {} : { isShared: true }),
    headerDigest,
    dataDigest,
    ...(Object.keys(settings).length === 0 ? {} : { settings }),
    // The controller makes a new user with every grant, so the user names the grant. Secrets from elsewhere name none.
    publicationId: access.chap?.user ?? "",
    ...(chap === undefined ? {} : { chap }),
  };
}

function accessOf(
  { volumeId, publishContext, volumeContext }: StageContexts,
  { keyPair, nodeId }: Pick<NodeDependencies, "keyPair" | "nodeId">,
): PublishedAccess {
  if (hasPublishContext(publishContext)) {
    return decodePublishContext(publishContext, { keyPair, sealing: { volumeHandle: volumeId, nodeId } });
  }
  if (hasStaticAttributes(volumeContext)) {
    const { portals, targetName, lun, deviceId } = parseStaticAttributes(volumeContext);
    return { portals, targetName, lun, deviceId, isReadOnly: false, chap: undefined };
  }
  throw new CsiError(
    "CSI_INVALID_ARGUMENT",
    `nothing says how to reach volume ${volumeId}: publish_context is not one of this driver, and volume_context has ` +
      "no targetPortal and targetIQN",
  );
}
