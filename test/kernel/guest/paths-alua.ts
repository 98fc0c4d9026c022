import { equal, ok } from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { PathPolicy } from "../../../src/multipath/path-policy.js";
import type { PathStatus } from "../../../src/multipath/status.js";
import type { AccessChange, AccessReport } from "../../support/path-reports-alua.js";
import { NodeDataplane, type NodeVolume, step, until } from "./node-dataplane.js";
import { SteadyLoad } from "./steady-load.js";

/**
 * A volume over two target port groups of LIO whose access states are changed while fio writes and verifies:
 * `node paths-alua.js`, in the guest. $TARGET says where they are. Writes $RESULTS/alua.json.
 */
interface GuestTarget {
  readonly iqn: string;
  /** Of path 1 and path 2. */
  readonly portals: readonly [string, string];
  /** Folders of the two target port groups in configfs. */
  readonly groups: readonly [string, string];
}

/** As LIO writes them (SPC-5 table 36). */
const CODES = { AO: "0", AN: "1", standby: "2", unavailable: "3" } as const;
type Access = keyof typeof CODES;

const NAMES: Readonly<Record<Access, string>> = {
  AO: "active-optimized",
  AN: "active-non-optimized",
  standby: "standby",
  unavailable: "unavailable",
};

/** How long is looked on after a change: long enough to see what moves back. */
const WATCH_MS = 1_000;
/** After this a change counts as never followed. */
const GIVE_UP_MS = 8_000;

const target = JSON.parse(process.env["TARGET"] ?? "{}") as GuestTarget;
const volume: NodeVolume = {
  ...{ handle: "alua", portals: target.portals, targetName: target.iqn, lun: 0 },
  settings: { multipath: "mpio", pathPolicy: "fail-over-only" },
};
const changes: AccessChange[] = [];

interface Sample {
  readonly timeMs: number;
  readonly paths: readonly PathStatus[];
}

const operations = ({ readOperations, writeOperations }: PathStatus): number => readOperations + writeOperations;

async function set(path: 1 | 2, state: Access): Promise<void> {
  await writeFile(join(target.groups[path - 1] ?? "", "alua_access_state"), CODES[state]);
}

async function setBoth(first: Access, second: Access): Promise<void> {
  await set(1, first);
  await set(2, second);
}

/** What the target has, from its own tree. */
function stateAtTarget(path: 1 | 2): string {
  const code = readFileSync(join(target.groups[path - 1] ?? "", "alua_access_state"), "utf8").trim();
  const found = Object.entries(CODES).find(([, one]) => one === code);
  return found === undefined ? code : found[0];
}

async function setTransitionTime(delayMs: number): Promise<void> {
  for (const group of target.groups) await writeFile(join(group, "trans_delay_msecs"), String(delayMs));
}

async function sample(node: NodeDataplane): Promise<Sample> {
  const { multipath } = await node.status(volume.handle);
  const paths = target.portals.map((portal) => {
    const path = multipath?.paths.find(({ id }) => id.endsWith(portal));
    if (path === undefined) throw new Error(`there is no path to ${portal}`);
    return path;
  });
  return { timeMs: performance.now(), paths };
}

/** When requests went over `expected` and over nothing else; undefined while that is not so. */
function followedAfterMs(samples: readonly Sample[], startMs: number, expected: readonly number[]): number | undefined {
  const [first] = samples;
  if (first === undefined) return undefined;
  const times = first.paths.map((_, index) => {
    const grown = samples.filter((each, at) => {
      const before = samples[at - 1]?.paths[index];
      const now = each.paths[index];
      return before !== undefined && now !== undefined && operations(now) > operations(before);
    });
    return expected.includes(index + 1) ? grown[0]?.timeMs : (grown.at(-1)?.timeMs ?? startMs);
  });
  if (times.some((time) => time === undefined)) return undefined;
  return Math.round(Math.max(...times.map((time) => time ?? startMs)) - startMs);
}

/** Changes states, and sees when requests go over `expected` (1 and 2) and no other path. */
async function change(
  node: NodeDataplane,
  text: string,
  options: { readonly expected: readonly number[]; readonly isUntold?: boolean; readonly act: () => Promise<void> },
): Promise<void> {
  const { expected, isUntold = false, act } = options;
  await act();
  const startMs = performance.now();
  const samples = [await sample(node)];
  for (;;) {
    await delay(20);
    const now = await sample(node);
    samples.push(now);
    const passedMs = now.timeMs - startMs;
    if (passedMs > GIVE_UP_MS) break;
    // Whoever is not expected must have been still for a while.
    const followedMs = followedAfterMs(samples, startMs, expected);
    if (followedMs !== undefined && passedMs > Math.max(WATCH_MS, followedMs + WATCH_MS / 2)) break;
  }
  const { policy } = (await node.status(volume.handle)).multipath ?? {};
  const done: AccessChange = {
    ...{ policy: policy ?? "", text, expected, isUntold },
    followedMs: followedAfterMs(samples, startMs, expected),
    atTarget: [stateAtTarget(1), stateAtTarget(2)],
    seen: samples.at(-1)?.paths.map(({ accessState }) => accessState ?? "") ?? [],
  };
  changes.push(done);
  step(`${done.policy}: ${text}: ${done.followedMs ?? "not"} ms`);
}

/** No path lets a command through, and nobody knows what the unit is: the target is asked to let one. */
async function attachWithAllOnStandby(node: NodeDataplane): Promise<number> {
  await setBoth("standby", "standby");
  const startMs = performance.now();
  await node.attach(volume);
  const tookMs = Math.round(performance.now() - startMs);
  ok([stateAtTarget(1), stateAtTarget(2)].includes("AO"), "the target was not asked for access");
  const { paths } = await sample(node);
  ok(
    paths.some(({ accessState }) => accessState === NAMES.AO),
    "no path shows it",
  );
  await node.client.detach(volume.handle);
  step(`attached in ${tookMs} ms with every path on standby`);
  return tookMs;
}

async function failOver(node: NodeDataplane): Promise<void> {
  const make = (text: string, expected: number, act: () => Promise<void>, isUntold = false): Promise<void> =>
    change(node, text, { expected: [expected], act, isUntold });
  await make("2 standby to AO, 1 AO to standby", 2, async () => {
    await set(2, "AO");
    await set(1, "standby");
  });
  await make("1 standby to AO, 2 AO to AN", 1, async () => {
    await set(1, "AO");
    await set(2, "AN");
  });
  await make("2 AN to AO, 1 AO to AN", 2, async () => {
    await set(2, "AO");
    await set(1, "AN");
  });
  await make("1 AN to AO, 2 AO to AN", 1, async () => {
    await set(1, "AO");
    await set(2, "AN");
  });
  await make("1 AO to standby, then 2 AN to AO", 2, async () => {
    await set(1, "standby");
    await set(2, "AO");
  });
  // The path that is used changes first, and is looked at before the other one does: nothing tells of that.
  await make(
    "2 AO to AN, then 1 standby to AO",
    1,
    async () => {
      await set(2, "AN");
      await delay(300);
      await set(1, "AO");
    },
    true,
  );
  await make("1 AO to unavailable", 2, () => set(1, "unavailable"));
  await make("2 AN to unavailable, 1 to AO", 1, async () => {
    await set(2, "unavailable");
    await set(1, "AO");
  });
}

async function throughTransitions(node: NodeDataplane): Promise<void> {
  await setTransitionTime(700);
  await change(node, "both transitioning for 0.7 s: 1 AO to AN, 2 unavailable to AO", {
    expected: [2],
    act: async () => {
      await Promise.all([set(1, "AN"), set(2, "AO")]);
    },
  });
  await setTransitionTime(0);
}

async function withoutAccess(node: NodeDataplane): Promise<void> {
  // Without a path no request goes out that could be told of the change.
  await change(node, "both unavailable for 1.5 s, then 1 AO", {
    ...{ expected: [1], isUntold: true },
    act: async () => {
      await setBoth("unavailable", "unavailable");
      await delay(1_500);
      await set(1, "AO");
    },
  });
  await change(node, "both unavailable for 6 s, then 2 AO", {
    ...{ expected: [2], isUntold: true },
    act: async () => {
      await setBoth("unavailable", "unavailable");
      await delay(6_000);
      await set(2, "AO");
    },
  });
  const before = node.told("access-state-set").length;
  await change(node, "both standby: we set 1", {
    expected: [1],
    act: async () => {
      await set(1, "standby");
      await set(2, "standby");
    },
  });
  equal(stateAtTarget(1), "AO");
  equal(node.told("access-state-set").length, before + 1);
  step(`event: ${node.told("access-state-set").at(-1) ?? ""}`);
}

async function inTurn(node: NodeDataplane): Promise<void> {
  await node.client.setPathPolicy(volume.handle, "round-robin" satisfies PathPolicy);
  const make = (text: string, expected: readonly number[], act: () => Promise<void>, isUntold = false): Promise<void> =>
    change(node, text, { expected, act, isUntold });
  await make("2 standby to AO", [1, 2], () => set(2, "AO"), true);
  await make("2 AO to standby", [1], () => set(2, "standby"));
  await make("2 standby to AO again", [1, 2], () => set(2, "AO"), true);
  await make("1 AO to AN", [2], () => set(1, "AN"));
  await make("2 AO to AN: both alike", [1, 2], () => set(2, "AN"));
  await make("1 AN to unavailable", [2], () => set(1, "unavailable"));
  await make("1 unavailable to AN", [1, 2], () => set(1, "AN"), true);
}

const node = await NodeDataplane.start({ name: "alua", logLevel: "debug" });
step("the dataplane runs");
try {
  const standbyAttachMs = await attachWithAllOnStandby(node);
  await setBoth("AO", "standby");
  const { devicePath } = await node.attach(volume);
  await until("path 2 is connected", async () => (await sample(node)).paths[1]?.state === "up");
  equal((await sample(node)).paths[1]?.accessState, NAMES.standby);
  step("attached with path 2 on standby");
  const load = new SteadyLoad({ device: devicePath, sizeBytes: 2 << 20, rateBytes: 2 << 20 });
  await until("fio runs", async () => (await sample(node)).paths.some((path) => path.writeOperations > 10));
  await Promise.race([
    load.failure(),
    (async () => {
      await failOver(node);
      await throughTransitions(node);
      await withoutAccess(node);
      await inTurn(node);
    })(),
  ]);
  const totals = await load.end();
  const { multipath, state } = await node.status(volume.handle);
  equal(state, "attached");
  await node.client.detach(volume.handle);
  const report: AccessReport = {
    ...{ standbyAttachMs, changes, load: totals },
    paths: multipath?.paths ?? [],
    setByUs: node.told("access-state-set"),
  };
  writeFileSync(join(process.env["RESULTS"] ?? "/run", "alua.json"), JSON.stringify(report));
} finally {
  writeFileSync(join(process.env["RESULTS"] ?? "/run", "changes.json"), JSON.stringify(changes));
  await node.remove();
}
step("done");
process.exit(0);
