import { equal, match, ok } from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { PathStatus } from "../../../src/multipath/status.js";
import type { OneGroupReport } from "../../support/fight-report.js";
import { CutProxy } from "./cut-proxy.js";
import { NodeDataplane, type NodeVolume, step, until } from "./node-dataplane.js";

/**
 * A volume over two portals of one portal group of LIO, which lets only one session of a node write under a reservation:
 * `node one-portal-group.js`, in the guest. $TARGET says where it is. Writes $RESULTS/one-group.json.
 */
interface GuestTarget {
  readonly targetName: string;
  readonly ports: readonly [number, number];
  readonly proxyPorts: readonly [number, number];
}

const target = JSON.parse(process.env["ONE_GROUP"] ?? "{}") as GuestTarget;
const BLOCK_BYTES = 65_536;
const WRITES = 8;

function volume(fencing: "auto" | "required"): NodeVolume {
  return {
    ...{ handle: `group-${fencing}`, targetName: target.targetName, lun: 0 },
    portals: target.proxyPorts.map((port) => `127.0.0.1:${port}`),
    settings: { multipath: "mpio", pathPolicy: "round-robin", fencing },
  };
}

/** Writes past the page cache, so that every write is a request; rejects when one fails. */
async function writeOver(devicePath: string, letter: string): Promise<void> {
  const pattern = join(process.env["SCRATCH"] ?? "/run", "pattern");
  writeFileSync(pattern, Buffer.alloc(WRITES * BLOCK_BYTES, letter));
  const args = [
    `if=${pattern}`,
    `of=${devicePath}`,
    `bs=${BLOCK_BYTES}`,
    "oflag=direct",
    "conv=notrunc",
    "status=none",
  ];
  await promisify(execFile)("dd", args);
}

async function paths(handle: string): Promise<readonly PathStatus[]> {
  return (await node.status(handle)).multipath?.paths ?? [];
}

async function states(handle: string): Promise<string> {
  return (await paths(handle)).map(({ state }) => state).join(" ");
}

/** The reservation is given up before a request meets it, and requests go over both paths. */
async function withAuto(): Promise<readonly number[]> {
  const wanted = volume("auto");
  const { devicePath } = await node.attach(wanted);
  await until("both paths are up", async () => (await states(wanted.handle)) === "up up", 20_000);
  const before = await paths(wanted.handle);
  await writeOver(devicePath, "a");
  equal((await node.status(wanted.handle)).reservation?.state, "unsupported");
  const after = await paths(wanted.handle);
  ok(after.every(({ errors }) => errors === 0));
  const writes = after.map(({ writeOperations }, index) => writeOperations - (before[index]?.writeOperations ?? 0));
  step(`auto: ${writes.join(" and ")} writes`);
  await node.client.detach(wanted.handle);
  return writes;
}

/** One path at a time: the other comes in when the first is lost, and the first stays out when it is back. */
async function withRequired(): Promise<Pick<OneGroupReport, "refusal" | "takenOverMs">> {
  const wanted = volume("required");
  let proxies = await startProxies();
  const { devicePath } = await node.attach(wanted);
  await until("both paths are up", async () => (await states(wanted.handle)) === "up up", 20_000);
  await writeOver(devicePath, "b");
  await until("one path is refused", async () => (await states(wanted.handle)).includes("refused"), 20_000);
  const found = await paths(wanted.handle);
  const used = found.findIndex(({ state }) => state === "up");
  const refusal = found.find(({ state }) => state === "refused")?.reason ?? "";
  match(refusal, /lets only one path write/);
  equal((await node.status(wanted.handle)).reservation?.state, "held");
  step(`required: path ${used + 1} is used, ${refusal}`);

  proxies[used]?.close();
  const startMs = performance.now();
  await writeOver(devicePath, "c");
  const takenOverMs = Math.round(performance.now() - startMs);
  equal((await paths(wanted.handle))[1 - used]?.state, "up");
  equal((await node.status(wanted.handle)).reservation?.state, "held");
  step(`required: the other path writes after ${takenOverMs} ms`);

  proxies = proxies.with(used, await startProxy(used));
  await until("the first path is back", async () => (await paths(wanted.handle))[used]?.state === "up", 40_000);
  await writeOver(devicePath, "d");
  await until("the first path is refused", async () => (await paths(wanted.handle))[used]?.state === "refused");
  ok((await paths(wanted.handle)).every(({ errors }) => errors < WRITES));
  await node.client.detach(wanted.handle);
  for (const proxy of proxies) proxy.close();
  return { refusal, takenOverMs };
}

function startProxy(index: number): Promise<CutProxy> {
  return CutProxy.start({ port: target.proxyPorts[index] ?? 0, targetPort: target.ports[index] ?? 0 });
}

function startProxies(): Promise<readonly CutProxy[]> {
  return Promise.all(target.ports.map((_, index) => startProxy(index)));
}

const node = await NodeDataplane.start({ name: "b", logLevel: "debug" });
try {
  const open = await startProxies();
  const writes = await withAuto();
  for (const proxy of open) proxy.close();
  const report: OneGroupReport = { writes, ...(await withRequired()) };
  writeFileSync(join(process.env["RESULTS"] ?? "/run", "one-group.json"), JSON.stringify(report));
} finally {
  await node.remove();
}
step("done");
process.exit(0);
