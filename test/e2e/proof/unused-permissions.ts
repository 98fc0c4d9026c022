import type { ExplainedPermission } from "./audit.js";

/** Rights of the chart that a run without accidents does not use. Each has its reason, or it is taken out of the chart. */
export const EXPLAINED_PERMISSIONS: readonly ExplainedPermission[] = [
  {
    ...{ apiGroup: "", resource: "events", verb: "patch" },
    reason: "a sidecar that is elected a second time counts its event; nothing in the run takes the lease from it",
  },
];
