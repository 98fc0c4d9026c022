import { z } from "zod";
import { errorMessage } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { DataplaneApi } from "../dataplane/api.js";
import type { EventReporter } from "./events-reporter.js";
import { findingOfError, findingsOfStaged } from "./events-rules.js";
import { claimOf, podOf, type EventSubjects } from "./events-subjects.js";
import type { EventObject } from "./events.js";
import type { CallContext, CsiService, UnaryMethod } from "./service.js";

export interface NodeEventsDependencies {
  readonly reporter: EventReporter;
  readonly subjects: EventSubjects;
  readonly dataplane: Pick<DataplaneApi, "get">;
  readonly logger: Logger;
}

/** What events need of a request; the service itself checks it in full. */
const requestShape = z.object({
  volumeId: z.string().min(1),
  targetPath: z.string().default(""),
  volumeContext: z.record(z.string(), z.string()).default({}),
});

type EventRequest = z.infer<typeof requestShape>;

interface Steps {
  readonly before?: (request: EventRequest) => void;
  readonly after?: (request: EventRequest) => void | Promise<void>;
  /** The pod the call is for, when it is not known yet. */
  readonly pod?: (request: EventRequest) => EventObject | undefined;
}

/**
 * The Node service with its failures reported, and the users of its volumes remembered. What the service answers, and
 * when, is as without it: nothing here is waited for, and nothing here fails a call.
 */
export function withEvents(service: CsiService, dependencies: NodeEventsDependencies): CsiService {
  const { subjects } = dependencies;
  const steps: Readonly<Record<string, Steps>> = {
    NodeStageVolume: {
      before: ({ volumeId, volumeContext }) => subjects.begin(volumeId, claimOf(volumeContext)),
      after: ({ volumeId }) => tellStaged(volumeId, dependencies),
    },
    NodeUnstageVolume: { after: ({ volumeId }) => subjects.forget(volumeId) },
    NodePublishVolume: {
      after: (request) => tellPublished(request, dependencies),
      pod: ({ volumeContext }) => podOf(volumeContext),
    },
    NodeUnpublishVolume: { after: ({ volumeId, targetPath }) => subjects.unpublished(volumeId, targetPath) },
    NodeExpandVolume: {},
  };
  const methods = Object.entries(service.methods).map(([name, method]): [string, UnaryMethod] => {
    const step = steps[name];
    return [name, step === undefined ? method : watched(method, step, dependencies)];
  });
  return { ...service, methods: Object.fromEntries(methods) };
}

function watched(method: UnaryMethod, steps: Steps, { reporter, logger }: NodeEventsDependencies): UnaryMethod {
  const quietly = (work: () => void | Promise<void>): void => {
    const run = async (): Promise<void> => work();
    run().catch((error: unknown) => logger.debug("an event could not be made", { reason: errorMessage(error) }));
  };
  return async (wire: unknown, context: CallContext) => {
    const request = requestShape.safeParse(wire).data;
    if (request === undefined) return method(wire, context);
    quietly(() => steps.before?.(request));
    try {
      const answer = await method(wire, context);
      quietly(() => steps.after?.(request));
      return answer;
    } catch (error) {
      quietly(() => {
        const finding = findingOfError(request.volumeId, error);
        if (finding !== undefined) reporter.tellVolume(request.volumeId, finding, steps.pod?.(request));
      });
      throw error;
    }
  };
}

/** Once for each staging: repeated calls show the same again. */
async function tellStaged(volumeId: string, dependencies: NodeEventsDependencies): Promise<void> {
  const { reporter, subjects, dataplane } = dependencies;
  if (!subjects.staged(volumeId)) return;
  const volume = (await dataplane.get(volumeId))?.volume;
  if (volume === undefined) return;
  for (const finding of findingsOfStaged(volume)) reporter.tellVolume(volumeId, finding);
}

/** What the volume's staging showed, to a pod that came later. */
async function tellPublished(request: EventRequest, dependencies: NodeEventsDependencies): Promise<void> {
  const { volumeId, targetPath, volumeContext } = request;
  const { reporter, subjects, dataplane } = dependencies;
  const pod = podOf(volumeContext);
  if (pod === undefined || !subjects.published(volumeId, targetPath, pod)) return;
  const volume = (await dataplane.get(volumeId))?.volume;
  if (volume === undefined) return;
  for (const finding of findingsOfStaged(volume)) reporter.tellPod(pod, volumeId, finding);
}
