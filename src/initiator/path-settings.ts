import type { MultipathOptions } from "../multipath/multipath-device.js";
import { DEFAULT_PATH_POLICY } from "../multipath/path-policy.js";
import type { InitiatorSettings } from "./settings.js";

const MS_PER_SECOND = 1_000;

/** As in Microsoft's MPIO. */
const DEFAULT_RETRY_COUNT = 3;
const DEFAULT_RETRY_INTERVAL_SECONDS = 1;
const DEFAULT_VERIFICATION_PERIOD_SECONDS = 30;

/** What settings mean for the device that is made of several paths. */
export function multipathOptions(settings: InitiatorSettings): MultipathOptions {
  const {
    pathPolicy = DEFAULT_PATH_POLICY,
    pdoRemovePeriodSeconds = 0,
    retryCount = DEFAULT_RETRY_COUNT,
    retryIntervalSeconds = DEFAULT_RETRY_INTERVAL_SECONDS,
    pathVerifyEnabled = true,
    pathVerificationPeriodSeconds = DEFAULT_VERIFICATION_PERIOD_SECONDS,
    failbackDelaySeconds = 0,
  } = settings;
  return {
    policy: pathPolicy,
    noPathTimeoutMs: pdoRemovePeriodSeconds * MS_PER_SECOND,
    retryCount,
    retryIntervalMs: retryIntervalSeconds * MS_PER_SECOND,
    verifyIntervalMs: pathVerifyEnabled ? pathVerificationPeriodSeconds * MS_PER_SECOND : 0,
    ...(failbackDelaySeconds < 0 ? {} : { failbackDelayMs: failbackDelaySeconds * MS_PER_SECOND }),
  };
}
