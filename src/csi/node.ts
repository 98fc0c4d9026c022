import { nodeCapabilities, type CsiSpecLevel } from "./capabilities.js";
import { expandVolume } from "./expand.js";
import type { NodeDependencies } from "./node-dependencies.js";
import { Publishing } from "./publish.js";
import type { CsiService } from "./service.js";
import { Staging } from "./stage.js";
import { volumeHealth, volumeStats } from "./stats.js";

export interface NodeServiceOptions {
  readonly specLevel: CsiSpecLevel;
  /** Volumes this node takes; 0: no limit of ours. */
  readonly maxVolumes: number;
}

/**
 * The Node service. It keeps nothing in memory that matters: what is attached the dataplane knows, what is mounted
 * the kernel, the little between the two is in StageRecords.
 */
export function createNodeService(options: NodeServiceOptions, dependencies: NodeDependencies): CsiService {
  const staging = new Staging(dependencies);
  const publishing = new Publishing(dependencies);
  return {
    name: "Node",
    methods: {
      NodeStageVolume: (request, context) => staging.stage(request, context),
      NodeUnstageVolume: (request, context) => staging.unstage(request, context),
      NodePublishVolume: (request, context) => publishing.publish(request, context),
      NodeUnpublishVolume: (request, context) => publishing.unpublish(request, context),
      NodeExpandVolume: (request, context) => expandVolume(request, context, dependencies),
      NodeGetVolumeStats: (request) => volumeStats(request, dependencies),
      NodeGetCapabilities: () =>
        Promise.resolve({ capabilities: nodeCapabilities(options.specLevel).map((type) => ({ rpc: { type } })) }),
      NodeGetInfo: () => Promise.resolve({ nodeId: dependencies.nodeId, maxVolumesPerNode: options.maxVolumes }),
      ...(options.specLevel === "1.13"
        ? { NodeGetVolumeHealth: (request: unknown) => volumeHealth(request, dependencies) }
        : {}),
    },
  };
}
