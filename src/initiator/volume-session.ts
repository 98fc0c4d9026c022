import type { PortalAddress } from "../base/access.js";
import type { SessionOptions } from "../session/session-options.js";
import type { ConnectVolumeRequest } from "./connect-volume.js";
import { planSession } from "./session-plan.js";

/** The options of a session that is to carry a volume, or one path of it, over these portals. */
export function volumeSessionOptions(
  request: ConnectVolumeRequest,
  portals: readonly [PortalAddress, ...PortalAddress[]],
): SessionOptions {
  const { targetName, initiatorName, isid, headerDigest, dataDigest, chap, timers, maxTasks, extensionKeys } = request;
  return {
    portal: portals[0],
    ...{ targetName, initiatorName, isid, headerDigest, dataDigest },
    ...(chap === undefined ? {} : { chap }),
    ...(extensionKeys === undefined ? {} : { extensionKeys }),
    ...planSession({
      portals,
      settings: request.settings ?? {},
      isOneOfSeveralPaths: request.isOneOfSeveralPaths ?? false,
      ...(timers === undefined ? {} : { timers }),
      ...(maxTasks === undefined ? {} : { maxTasks }),
    }),
  };
}
