import type { BackendCapabilities } from "../storage/backend.js";

/**
 * The version of CSI we speak. Clients built against 1.12 reject capabilities they have never heard of, so what 1.13
 * brought is offered only when asked for.
 */
export type CsiSpecLevel = "1.12" | "1.13";

export const CSI_SPEC_LEVELS: readonly CsiSpecLevel[] = ["1.12", "1.13"];

/** What the controller offers with a backend. */
export function controllerCapabilities(backend: BackendCapabilities): readonly string[] {
  return [
    "PUBLISH_UNPUBLISH_VOLUME",
    "SINGLE_NODE_MULTI_WRITER",
    ...(backend.canCreate ? ["CREATE_DELETE_VOLUME"] : []),
    ...(backend.canExpand ? ["EXPAND_VOLUME"] : []),
    ...(backend.reportsCapacity ? ["GET_CAPACITY"] : []),
    ...(backend.canList ? ["LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES", "GET_VOLUME"] : []),
    // Where grants are not remembered, a second publish with another `readonly` would not be noticed.
    ...(backend.keepsState ? ["PUBLISH_READONLY"] : []),
  ];
}

/** What a node offers. Health needs 1.13. */
export function nodeCapabilities(level: CsiSpecLevel): readonly string[] {
  return [
    "STAGE_UNSTAGE_VOLUME",
    "GET_VOLUME_STATS",
    "EXPAND_VOLUME",
    "SINGLE_NODE_MULTI_WRITER",
    ...(level === "1.13" ? ["GET_VOLUME_HEALTH"] : []),
  ];
}
