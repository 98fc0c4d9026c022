import { access } from "node:fs/promises";
import { errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { withEvents } from "../csi/events-node.js";
import { EventRecorder } from "../csi/events-recorder.js";
import { EventReporter } from "../csi/events-reporter.js";
import type { Finding } from "../csi/events-rules.js";
import { EventSubjects } from "../csi/events-subjects.js";
import { ConditionEvents } from "../csi/events-watch.js";
import { DRIVER_NAME } from "../csi/identity.js";
import { KubernetesEvents } from "../csi/k8s-adapter.js";
import type { CsiService } from "../csi/service.js";
import type { DataplaneApi } from "../dataplane/api.js";
import { kubernetesAccess } from "./kubernetes-access.js";
import { corePorts, type Runtime } from "./runtime.js";

export interface NodeEventsOptions {
  /** Whether events are wanted at all. */
  readonly isWanted: boolean;
  /** The Kubernetes name of this node. */
  readonly nodeName: string;
  readonly stateDirectory: string;
  /** Where the pod's service account is mounted; another only in tests. */
  readonly accountFolder?: string;
}

/** Kubernetes events of the node service. Without an API server it is there all the same, and does nothing. */
export interface NodeEvents {
  /** To be given to the node service. */
  readonly notice: (volumeHandle: string, finding: Finding) => void;
  /** The service with its calls watched. */
  wrap(service: CsiService): CsiService;
  stop(): Promise<void>;
}

const NO_EVENTS: NodeEvents = {
  notice: () => undefined,
  wrap: (service) => service,
  stop: () => Promise.resolve(),
};

/**
 * Begins to report events, if they are wanted and the pod has access to an API server; a warning says when it has not.
 * Does not fail.
 */
export async function startNodeEvents(
  options: NodeEventsOptions,
  dependencies: { readonly runtime: Runtime; readonly dataplane: DataplaneApi; readonly logger: Logger },
): Promise<NodeEvents> {
  if (!options.isWanted) return NO_EVENTS;
  const { runtime, dataplane, logger } = dependencies;
  const path = kubernetesAccess(runtime.environment, options.accountFolder);
  const missing = path === undefined ? "KUBERNETES_SERVICE_HOST is not set" : await whyNoAccount(path.tokenFile);
  if (path === undefined || missing !== undefined) {
    logger.warn("no Kubernetes events are reported; run in a pod with a service account token, or without --events", {
      reason: missing,
    });
    return NO_EVENTS;
  }
  const { nodeName, stateDirectory } = options;
  const ports = corePorts(runtime, logger);
  const api = new KubernetesEvents(
    { ...path, reportingController: DRIVER_NAME, reportingInstance: nodeName },
    { clock: runtime.clock },
  );
  const recorder = new EventRecorder({}, { ...ports, api });
  const subjects = new EventSubjects({ stateDirectory }, { logger });
  await subjects.load();
  const reporter = new EventReporter({ nodeName }, { sink: recorder, subjects });
  const stopping = new AbortController();
  const watching = new ConditionEvents({}, { ...ports, dataplane, reporter }).run(stopping.signal);
  return {
    notice: (volumeHandle, finding) => reporter.tellVolume(volumeHandle, finding),
    wrap: (service) => withEvents(service, { reporter, subjects, dataplane, logger }),
    stop: async () => {
      stopping.abort();
      await watching;
      await recorder.close();
      await subjects.idle();
    },
  };
}

async function whyNoAccount(tokenFile: string): Promise<string | undefined> {
  try {
    await access(tokenFile);
    return undefined;
  } catch (error) {
    return errorMessage(error);
  }
}
