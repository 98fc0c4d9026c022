import { accessModes } from "./access.js";
import { staticChap } from "./chap.js";
import { controllerKilled, helmTest, nodeKilled, upgrade } from "./faults.js";
import { expansion, pvcLife, rawBlock, statefulSet } from "./life.js";
import { nodeEvents, portalDown } from "./portals.js";
import type { Scenario } from "./scenario.js";

/** In the order they run: what everything else needs first, what changes the release last. */
export const SCENARIOS: readonly Scenario[] = [
  pvcLife,
  nodeEvents,
  helmTest,
  rawBlock,
  accessModes,
  statefulSet,
  expansion,
  portalDown,
  nodeKilled,
  controllerKilled,
  staticChap("embedded"),
  upgrade,
  staticChap("static"),
];
