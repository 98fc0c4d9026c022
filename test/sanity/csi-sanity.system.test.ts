import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestCsiClient } from "../support/csi-client.js";
import { findCsiSanity, parseJunit, SANITY_VERSIONS, type SpecLevel, type SpecResult } from "./csi-sanity-program.js";

/** What a skipped spec says, and the capability that would have made it run. */
const SKIPS: readonly (readonly [reason: RegExp, capability: string])[] = [
  [/(CreateSnapshot|DeleteSnapshot|Snapshot) not supported/, "CREATE_DELETE_SNAPSHOT"],
  [/GetSnapshot not supported/, "GET_SNAPSHOT"],
  [/ListSnapshots not supported/, "LIST_SNAPSHOTS"],
  [/Volume Cloning not supported/, "CLONE_VOLUME"],
  [/Modify ?[Vv]olume not supported/, "MODIFY_VOLUME"],
  [/GroupControllerService not supported/, "GROUP_CONTROLLER_SERVICE"],
  [/ControllerGetVolumeHealth not supported/, "controller GET_VOLUME_HEALTH"],
  [/ControllerListVolumeHealth not supported/, "LIST_VOLUME_HEALTH"],
  [/NodeGetVolumeHealth not supported/, "node GET_VOLUME_HEALTH"],
  [/NodeGetStorageHealth not supported/, "GET_STORAGE_HEALTH"],
];

/** Skipped whatever is advertised: the suite's author switched it off, or it needs a flag we do not give. */
const ALWAYS_SKIPPED = [/^pending$/, /testnodevolumeattachlimit not enabled/];

const START_TIMEOUT_MS = 60_000;
const SUITE_TIMEOUT_MS = 240_000;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** `hawser all-in-one`: dataplane, controller with the embedded target, and node, as processes of their own. */
class Driver {
  readonly directory: string;
  readonly #child: ChildProcess;
  #log = "";

  private constructor(directory: string, level: SpecLevel, port: number) {
    this.directory = directory;
    const argv = ["--import", "tsx", "src/main.ts", "all-in-one", "--directory", join(directory, "run")];
    argv.push("--portal", `127.0.0.1:${port}`, "--csi-spec-level", level, "--node-name", "sanity");
    this.#child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk: Buffer) => (this.#log += chunk.toString()));
    }
  }

  static async start(level: SpecLevel): Promise<Driver> {
    const directory = await mkdtemp(join(tmpdir(), "hawser-sanity-"));
    const driver = new Driver(directory, level, await freePort());
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (const name of ["controller", "dataplane", "node"]) {
      while (!existsSync(driver.socket(name))) {
        if (Date.now() > deadline || driver.#child.exitCode !== null) {
          await driver.stop();
          throw new Error(`the driver did not start:\n${driver.#log}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    return driver;
  }

  get log(): string {
    return this.#log;
  }

  socket(name: string): string {
    return join(this.directory, "run", `${name}.sock`);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null) {
      const ended = new Promise((resolve) => this.#child.once("exit", resolve));
      this.#child.kill("SIGTERM");
      await ended;
    }
  }
}

function runSanity(program: string, driver: Driver, accessType: string): Promise<readonly SpecResult[]> {
  const { directory } = driver;
  const report = join(directory, "junit.xml");
  const argv = [
    ...["--csi.endpoint", `unix://${driver.socket("node")}`],
    ...["--csi.controllerendpoint", `unix://${driver.socket("controller")}`],
    ...["--csi.mountdir", join(directory, "mount"), "--csi.stagingdir", join(directory, "staging")],
    ...["--csi.testvolumeaccesstype", accessType, "--ginkgo.junit-report", report, "--ginkgo.no-color"],
  ];
  return new Promise((resolve, reject) => {
    execFile(program, argv, { timeout: SUITE_TIMEOUT_MS, maxBuffer: 64 * 2 ** 20 }, (error, stdout) => {
      if (existsSync(report)) resolve(parseJunit(readFileSync(report, "utf8")));
      else reject(new Error(`csi-sanity left no report: ${error?.message ?? ""}\n${stdout.slice(-4000)}`));
    });
  });
}

/** Everything the driver says it can do; names both services have are told apart. */
async function advertised(driver: Driver): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  for (const service of ["controller", "node"]) {
    const client = new TestCsiClient(driver.socket(service));
    const plugin = await client.call("GetPluginCapabilities");
    const method = service === "node" ? "NodeGetCapabilities" : "ControllerGetCapabilities";
    const own = await client.call(method);
    client.close();
    for (const { service: offered } of plugin.capabilities) if (offered?.type !== undefined) names.add(offered.type);
    for (const { rpc } of own.capabilities)
      if (rpc?.type !== undefined) names.add(rpc.type).add(`${service} ${rpc.type}`);
  }
  return names;
}

function summary(level: SpecLevel, accessType: string, results: readonly SpecResult[]): string {
  const count = (status: string): number => results.filter((result) => result.status === status).length;
  const reasons = new Map<string, number>();
  for (const { status, message } of results) {
    if (status === "passed" || status === "failed") continue;
    const reason = message.replace(/^skipped - /, "");
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  const skipped = results.length - count("passed") - count("failed");
  return [
    `csi-sanity ${SANITY_VERSIONS[level]}, CSI ${level}, ${accessType}: ${results.length} specs, ` +
      `${count("passed")} passed, ${count("failed")} failed, ${skipped} skipped`,
    ...[...reasons].map(([reason, times]) => `  ${String(times).padStart(2)} skipped: ${reason}`),
  ].join("\n");
}

describe.each(["1.12", "1.13"] as const)("csi-sanity for CSI %s", (level) => {
  const { path, reason } = findCsiSanity(level);
  if (path === undefined) {
    it.skip(`passes [skipped: ${reason}]`, () => undefined);
    return;
  }

  it.each(["mount", "block"])(
    "passes with %s volumes, and runs every spec whose capability is advertised",
    async (accessType) => {
      const driver = await Driver.start(level);
      try {
        const results = await runSanity(path, driver, accessType);
        process.stderr.write(`${summary(level, accessType, results)}\n`);
        expect(results.filter(({ status }) => status === "failed")).toEqual([]);
        expect(results.length).toBeGreaterThan(90);
        const capabilities = await advertised(driver);
        for (const { name, status, message } of results) {
          if (status === "passed" || ALWAYS_SKIPPED.some((known) => known.test(message))) continue;
          const capability = SKIPS.find(([known]) => known.test(message))?.[1];
          expect({ name, message, capability }).toEqual({ name, message, capability: expect.any(String) as string });
          expect({ name, isAdvertised: capabilities.has(capability ?? "") }).toEqual({ name, isAdvertised: false });
        }
        expect(await leftovers(driver)).toEqual([]);
      } finally {
        await driver.stop();
        await rm(driver.directory, { recursive: true });
      }
    },
    START_TIMEOUT_MS + SUITE_TIMEOUT_MS + 30_000,
  );
});

/** Volumes, records of staged volumes and mounts that the suite's clean-up should have taken away. */
async function leftovers(driver: Driver): Promise<readonly string[]> {
  const run = join(driver.directory, "run");
  const list = (folder: string): Promise<string[]> => readdir(join(run, folder)).catch(() => []);
  const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .filter((line) => line.includes(driver.directory));
  return [...(await list("store/volumes")), ...(await list("state/staged")), ...mounts];
}
