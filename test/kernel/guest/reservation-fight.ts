import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { lunFromNumber } from "../../../src/base/lun.js";
import { clusterPart, reservationKey } from "../../../src/base/reservation-key.js";
import { silentLogger } from "../../../src/base/logger.js";
import { AppError } from "../../../src/base/errors.js";
import { parsePortal } from "../../../src/base/portal.js";
import { LunCommander } from "../../../src/block/lun-commands.js";
import { LunReservation } from "../../../src/block/lun-reservation.js";
import { createIsid } from "../../../src/initiator/isid.js";
import { writeCdb } from "../../../src/scsi/cdb.js";
import { Session } from "../../../src/session/session.js";
import type { FightReport, FightStep } from "../../support/fight-report.js";
import { realDependencies } from "../../support/real-volume.js";
import { Tgtd } from "../../support/tgt.js";
import { CutProxy } from "./cut-proxy.js";
import { initiatorName, NodeDataplane, type NodeVolume, step, until } from "./node-dataplane.js";

/**
 * Two nodes and one unit, on LIO and on tgt: `node reservation-fight.js`, in the guest. $LIO_TARGET says where LIO's is.
 * Writes $RESULTS/fight.json.
 */
interface Arena {
  readonly name: string;
  readonly targetName: string;
  readonly lun: number;
  readonly ports: readonly number[];
  /** What A comes in through, one for each port. */
  readonly proxyPorts: readonly number[];
  readonly backing: string;
  readonly settings: NodeVolume["settings"];
}

const scratch = process.env["SCRATCH"] ?? "/run";
const PLACE_BYTES = 65_536;
const PLACE_OFFSET = 16 * PLACE_BYTES;
const RECONNECTS = 3;
const CLUSTER = clusterPart("one cluster");
const KEY_STUBBORN = reservationKey({ cluster: CLUSTER, node: 0x57 });

const dependencies = { ...realDependencies(), logger: silentLogger };

/** A session that sends what it is told to, whatever became of the unit: what is refused is refused by the target. */
interface RawPath {
  readonly unit: LunReservation;
  write(letter: string): Promise<string>;
  close(): Promise<void>;
}

class Fight {
  readonly arena: Arena;
  readonly steps: FightStep[] = [];

  constructor(arena: Arena) {
    this.arena = arena;
  }

  volume(ports: readonly number[]): NodeVolume {
    const { name, targetName, lun, settings } = this.arena;
    return {
      ...{ handle: `fight-${name}`, targetName, lun },
      portals: ports.map((port) => `127.0.0.1:${port}`),
      settings: { ...settings, fencing: "required" },
    };
  }

  /** Looks at the backing file. */
  note(text: string, outcome: string, expectedLetter: string): void {
    const place = Buffer.alloc(PLACE_BYTES);
    const fd = openSync(this.arena.backing, "r");
    readSync(fd, place, 0, PLACE_BYTES, PLACE_OFFSET);
    closeSync(fd);
    const first = place.toString("latin1", 0, 1);
    const letter = place.equals(Buffer.alloc(PLACE_BYTES, first)) ? first : "";
    const done = { target: this.arena.name, text, outcome, bytes: place.toString("hex", 0, 8), letter };
    this.steps.push(done);
    step(`${done.target}: ${text}: ${outcome}; ${done.bytes}… ${letter}`);
    equal(letter, expectedLetter, `after "${text}" the place is not all ${expectedLetter}`);
  }

  async raw(name: string): Promise<RawPath> {
    const { targetName, lun: number, ports } = this.arena;
    const lun = lunFromNumber(number);
    const session = await Session.open(
      {
        ...{ portal: parsePortal(`127.0.0.1:${ports[0] ?? 0}`), targetName, initiatorName: initiatorName(name) },
        ...{ isid: createIsid(dependencies.random), headerDigest: "none", dataDigest: "none" },
      },
      dependencies,
    );
    const commander = new LunCommander({ session, lun, onUnitAttention: () => Promise.resolve() }, dependencies);
    return {
      unit: new LunReservation({ run: (command) => commander.run(command) }),
      write: async (letter) => {
        const cdb = writeCdb(PLACE_OFFSET / 512, PLACE_BYTES / 512, false);
        try {
          await commander.run({ cdb, dataOut: Buffer.alloc(PLACE_BYTES, letter) });
          return "written";
        } catch (error) {
          if (!(error instanceof AppError)) throw error;
          return `${error.code} ${String(error.details["verdict"])}`;
        }
      },
      close: () => session.logout(),
    };
  }

  /** Registered with the unit, each once: a node has as many registrations as paths. */
  async keys(): Promise<readonly string[]> {
    const watcher = await this.raw("watcher");
    const state = await watcher.unit.readState();
    await watcher.close();
    return [...new Set(state?.keys ?? [])];
  }
}

/** Writes over the device as a program would, past the page cache. Resolves with `written`, or with what dd says. */
function writeOver(devicePath: string, letter: string): Promise<string> {
  const pattern = join(scratch, `pattern-${letter}`);
  writeFileSync(pattern, Buffer.alloc(PLACE_BYTES, letter));
  const seek = PLACE_OFFSET / PLACE_BYTES;
  const args = [`if=${pattern}`, `of=${devicePath}`, `bs=${PLACE_BYTES}`, `seek=${seek}`, "count=1", "oflag=direct"];
  const dd = spawn("dd", [...args, "conv=notrunc", "status=none"], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  dd.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  return new Promise((resolve) =>
    dd.on("close", (code) => resolve(code === 0 ? "written" : `dd ends with ${String(code)}: ${said.trim()}`)),
  );
}

/** Requests that the kernel has given to the device and has no answer to. */
function inFlight(devicePath: string): number {
  const text = readFileSync(`/sys/block/${basename(devicePath)}/inflight`, "utf8");
  return text
    .trim()
    .split(/\s+/)
    .reduce((sum, count) => sum + Number(count), 0);
}

interface Nodes {
  readonly a: NodeDataplane;
  readonly b: NodeDataplane;
  readonly stranger: NodeDataplane;
}

async function heldKey(node: NodeDataplane, handle: string): Promise<string> {
  const { reservation } = await node.status(handle);
  equal(reservation?.state, "held");
  equal(reservation.holderKey, reservation.key);
  return reservation.key;
}

/** While A has the volume: B's own session cannot write, and a node of another cluster does not get it. */
async function keepOthersOut(fight: Fight, { stranger }: Nodes, keyA: string): Promise<string> {
  const other = await fight.raw("b");
  const outcome = await other.write("b");
  await other.close();
  equal(outcome, "BLOCK_RESERVATION_CONFLICT SCSI_STATUS_18");
  fight.note("B writes over a session of its own while A holds", outcome, "A");
  const refused: unknown = await stranger.attach(fight.volume(fight.arena.ports)).then(
    () => undefined,
    (error: unknown) => error,
  );
  ok(refused instanceof AppError, "the node of another cluster was let in");
  equal(refused.code, "RESERVATION_HELD");
  match(refused.message, new RegExp(`0x${keyA}`));
  fight.note("a node of another cluster attaches", refused.code, "A");
  return refused.message;
}

/** A comes back again and again, and never registers anew. */
async function reconnectInVain(
  fight: Fight,
  proxies: readonly CutProxy[],
  keyB: string,
): Promise<Pick<FightReport, "keysAfterReconnects" | "reconnects">> {
  const accepted = (): number => proxies.reduce((sum, proxy) => sum + proxy.accepted, 0);
  const first = accepted();
  const keysAfterReconnects: (readonly string[])[] = [];
  for (let round = 0; round < RECONNECTS; round += 1) {
    const before = accepted();
    for (const proxy of proxies) proxy.cut();
    await until("A has come back", () => accepted() > before, 20_000);
    // It may take it a moment to look at the unit; what it does there must not be a registration.
    await new Promise((resolve) => setTimeout(resolve, 400));
    const keys = await fight.keys();
    deepEqual(keys, [keyB]);
    keysAfterReconnects.push(keys);
  }
  return { keysAfterReconnects, reconnects: accepted() - first };
}

const WRITES = ["0x2a", "0x8a"];

/** How the target answered A's writes after this point of its log, when not with GOOD: as the PDUs were traced. */
function refusalsIn(log: string): readonly string[] {
  const writes = new Map<string, string>();
  const refusals: string[] = [];
  for (const line of log.split("\n").filter((one) => one.includes('"PDU '))) {
    const tag = /initiatorTaskTag=(\S+)/.exec(line)?.[1] ?? "";
    const operation = /operation=(0x[0-9a-f]{2})/.exec(line)?.[1];
    if (operation !== undefined) {
      if (WRITES.includes(operation)) writes.set(tag, operation);
      else writes.delete(tag);
    }
    const status = Number(/ status=(\d+)/.exec(line)?.[1] ?? "0");
    const write = writes.get(tag);
    if (line.includes("PDU received") && status !== 0 && write !== undefined) {
      refusals.push(`write ${write}, task ${tag}: SCSI status 0x${status.toString(16).padStart(2, "0")}`);
    }
  }
  return refusals;
}

/** A writer that looks at nothing: only the target can keep it from writing. */
async function keepStubbornOut(fight: Fight, { b }: Nodes): Promise<void> {
  const stubborn = await fight.raw("stubborn");
  equal(await stubborn.unit.register({ key: KEY_STUBBORN }), "done");
  equal(await stubborn.unit.reserve(KEY_STUBBORN), "done");
  fight.note("a registered writer that heeds nothing holds and writes", await stubborn.write("S"), "S");
  // LIO takes every other session of the holder's name for an unregistered one, unless it has its own portal group.
  const second = await fight.raw("stubborn");
  equal(await second.unit.register({ key: KEY_STUBBORN }), "done");
  const seconds = await second.write("T");
  fight.note("its second session, registered as well, writes", seconds, seconds === "written" ? "T" : "S");
  await second.close();
  const { devicePath } = await b.attach(fight.volume(fight.arena.ports));
  fight.note("B takes the volume and writes", await writeOver(devicePath, "B"), "B");
  const outcome = await stubborn.write("s");
  equal(outcome, "BLOCK_RESERVATION_CONFLICT SCSI_STATUS_18");
  fight.note("that writer writes again", outcome, "B");
  await stubborn.close();
}

async function carryOut(arena: Arena, nodes: Nodes): Promise<FightReport> {
  const { a, b } = nodes;
  const fight = new Fight(arena);
  const proxies = await Promise.all(
    arena.proxyPorts.map((port, index) => CutProxy.start({ port, targetPort: arena.ports[index] ?? 0 })),
  );
  const { handle } = fight.volume(arena.ports);
  const { devicePath } = await a.attach(fight.volume(arena.proxyPorts));
  if (arena.ports.length > 1) {
    await until("all paths of A are up", async () => {
      const paths = (await a.status(handle)).multipath?.paths ?? [];
      return paths.length === arena.ports.length && paths.every(({ state }) => state === "up");
    });
  }
  const keyA = await heldKey(a, handle);
  fight.note("A holds and writes", await writeOver(devicePath, "A"), "A");
  const heldError = await keepOthersOut(fight, nodes, keyA);

  const logBefore = a.log.length;
  a.freeze();
  const late = writeOver(devicePath, "a");
  await until("the late write waits in the kernel", () => inFlight(devicePath) > 0);
  fight.note("A is frozen, its late write waits", "waits", "A");
  const ofB = await b.attach(fight.volume(arena.ports));
  const keyB = await heldKey(b, handle);
  deepEqual(await fight.keys(), [keyB]);
  fight.note("B takes the volume and writes", await writeOver(ofB.devicePath, "B"), "B");
  a.thaw();
  const outcome = await late;
  match(outcome, /Input\/output error/);
  fight.note("A goes on, its late write is sent", outcome, "B");
  await until("A says that it has lost the volume", async () => {
    const { state, reservation } = await a.status(handle);
    return state === "failed" && reservation?.state === "lost" && reservation.holderKey === keyB;
  });
  await until("A tells of it", () => a.told("reservation-lost").some((message) => message.includes(`0x${keyB}`)));
  const refusals = refusalsIn(a.log.slice(logBefore));
  const { keysAfterReconnects, reconnects } = await reconnectInVain(fight, proxies, keyB);
  fight.note("A writes after it has come back", await writeOver(devicePath, "a"), "B");
  equal((await a.status(handle)).state, "failed");
  await a.client.detach(handle);
  deepEqual(await fight.keys(), [keyB]);
  await b.client.detach(handle);
  deepEqual(await fight.keys(), []);
  await keepStubbornOut(fight, nodes);
  await b.client.detach(handle);
  const lostEvent = a.told("reservation-lost").at(-1) ?? "";
  for (const proxy of proxies) proxy.close();
  return {
    ...{ target: arena.name, keyA, keyB, steps: fight.steps, refusals, lostEvent, heldError },
    ...{ keysAfterReconnects, reconnects },
  };
}

const TGT_PORT = 13_534;
const TGT_NAME = "iqn.2026-11.test:fight-tgt";

// One after the other: on the guest's one processor each takes some seconds.
const a = await NodeDataplane.start({ name: "a", reservationCluster: CLUSTER, logLevel: "trace" });
const b = await NodeDataplane.start({ name: "b", reservationCluster: CLUSTER, logLevel: "debug" });
const stranger = await NodeDataplane.start({ name: "stranger", reservationCluster: clusterPart("another cluster") });
const nodes: Nodes = { a, b, stranger };
step("three dataplanes run");
const tgtd = await Tgtd.start({
  ...{ controlPort: 993, portals: [`127.0.0.1:${TGT_PORT}`], targets: [{ name: TGT_NAME, diskBytes: [16 << 20] }] },
});
try {
  const onTgt: Arena = {
    ...{ name: "tgt", targetName: TGT_NAME, lun: 1, ports: [TGT_PORT], proxyPorts: [13_535] },
    ...{ backing: tgtd.diskPath(0, 1), settings: {} },
  };
  const onLio = JSON.parse(process.env["LIO_TARGET"] ?? "{}") as Arena;
  const reports: FightReport[] = [];
  for (const arena of [onLio, onTgt]) {
    reports.push(await carryOut(arena, nodes));
    writeFileSync(join(process.env["RESULTS"] ?? "/run", "fight.json"), JSON.stringify(reports));
  }
} finally {
  a.thaw();
  await Promise.all([a.remove(), b.remove(), stranger.remove()]);
  await tgtd.stop();
}
step("done");
process.exit(0);
