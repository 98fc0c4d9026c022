import type { Mutant } from "../mutants/mutants.js";

/** Mistakes that a multipath layer can make; the worlds of several paths must find each. */
export const PATH_MUTANTS: readonly Mutant[] = [
  {
    name: "a write goes to another path before the old one is fenced",
    file: "src/session/evacuation.ts",
    search: "({ task, attempts }) => task.dataOut === undefined || attempts === 0,",
    replacement: "() => true,",
  },
  {
    name: "another portal group is taken for the same one",
    file: "src/initiator/path-fence.ts",
    search: "const isSameNexus = portalGroupTag !== undefined && portalGroupTag === request.portalGroupTag;",
    replacement: "const isSameNexus = portalGroupTag !== undefined;",
  },
  {
    name: "the fence is not waited for",
    file: "src/session/evacuation.ts",
    search: "    const isFenced = await this.#options.fence(signal);\n",
    replacement: "    void this.#options.fence(signal);\n    const isFenced = true as boolean;\n",
  },
  {
    name: "a path has another ISID in every process",
    file: "src/initiator/path-plan.ts",
    search: '  const hash = createHash("sha256").update(volumeIsid).update(id).digest();\n',
    replacement:
      '  const hash = createHash("sha256").update(volumeIsid).update(id).update(String((globalThis.isids = (globalThis.isids ?? 0) + 1))).digest();\n',
  },
  {
    name: "sessions of a former process are not fenced",
    file: "src/initiator/connect-paths.ts",
    search: "    if (request.hasFormerSessions === true) await volume.fenceFormerSessions();\n",
    replacement: "",
  },
  {
    name: "paths on standby take their turn with the active ones",
    file: "src/multipath/path-selector.ts",
    search: "      return active.length > 0 ? active : best;\n",
    replacement: "      return best;\n",
  },
  {
    name: "a path that leads to another unit is accepted",
    file: "src/block/lun-identity.ts",
    search: "  if (before.identity.id !== now.identity.id) return false;\n",
    replacement: "",
  },
  {
    name: "a unit that another node has taken is claimed again",
    file: "src/initiator/volume-reservation.ts",
    search: "const settled = this.#hasAdmitted ? await this.#rejoin(trial) : await this.#claim(trial, before);",
    replacement: "const settled = await this.#claim(trial, before);",
  },
  {
    name: "the device grows before all paths agree",
    file: "src/multipath/unit-description.ts",
    search: "    if (sizes.size > 1) throw this.#disagreement(answered);\n    const [sizeBytes] = sizes;\n",
    replacement:
      "    if (sizes.size > 1) this.#disagreement(answered);\n    const sizeBytes = Math.max(...[...sizes].map((size) => size ?? 0));\n",
    // In the worlds a path that does not fit is left alone before anybody sees the new size.
    unitTest: "test/unit/multipath/capacity",
  },
  {
    name: "the failure of one path reaches the user",
    file: "src/multipath/request-runner.ts",
    search: '    if (reason.retry === "never" && !isOver) throw reason;\n',
    replacement: "    if (!isOver) throw reason;\n",
  },
  {
    name: "access states do not matter as long as they are active",
    file: "src/multipath/path-selector.ts",
    search: "  return candidates.filter(({ tier }) => tier === lowest);\n",
    replacement: "  return candidates.filter(({ tier }) => tier >= lowest);\n",
  },
];
