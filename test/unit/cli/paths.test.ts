import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "../../../src/base/errors.js";
import { silentLogger } from "../../../src/base/logger.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { pathsCommand, showPaths, type ShowOptions } from "../../../src/cli/commands/paths.js";
import { formatPathsView, type PathsView, pathsView } from "../../../src/cli/paths-view.js";
import { buildProgram, runProgram } from "../../../src/cli/program.js";
import type { Runtime } from "../../../src/cli/runtime.js";
import type { VolumeStatus } from "../../../src/dataplane/api.js";
import { DataplaneError } from "../../../src/dataplane/errors.js";
import { DataplaneServer } from "../../../src/dataplane/server.js";
import { codeOf } from "../../support/dataplane-world.js";
import { VirtualTime } from "../../support/virtual-time.js";
import { clock, pathStatus, ScriptedApi, status as plainStatus, volume } from "../dataplane/scripted-api.js";

const status: VolumeStatus = { ...plainStatus, ...pathStatus, state: "attached", reason: "" };

class Terminal {
  readonly time = new VirtualTime();
  readonly stop = new AbortController();
  out = "";
  err = "";
  isOutputTerminal = false;

  runtime(): Runtime {
    return {
      ...{ clock: this.time, random: new SeededRandom(1), signal: this.stop.signal },
      ...{ isTerminal: false, isOutputTerminal: this.isOutputTerminal },
      ...{ hostName: "host", environment: {}, packageDirectory: process.cwd() },
      out: { write: (text) => void (this.out += text) },
      err: { write: (text) => void (this.err += text) },
      logger: () => silentLogger,
      uuid: () => "0",
    };
  }
}

describe("what hawserctl paths shows", () => {
  it("is the volume, then each path with its session", () => {
    const lines = formatPathsView(pathsView(status)).split("\n");
    expect(lines.slice(0, 6)).toEqual([
      `volume       ${volume.volumeHandle}`,
      "state        attached",
      "policy       least-service-time",
      `waiting      ${2 ** 40} requests`,
      "reservation  held (fencing auto), our key 0x686177736572002a, held by 0x686177736572002b",
      "",
    ]);
    expect(lines[6]?.split(/ {2,}/)).toEqual([
      ...["PATH", "STATE", "ACCESS", "ROLE", "WEIGHT", "PORTAL", "SOURCE", "SESSION", "QUEUE", "THROUGHPUT", "READ"],
      ...["WRITTEN", "ERRORS", "FAILURES", "LAST EVENT"],
    ]);
    expect(lines[7]?.split(/ {2,}/)).toEqual([
      ...["eth1/fd00::1->[::1]:3260", "up", "active-optimized", "active", "7", "[::1]:3260", "[::1]:50000"],
      ...["80a1b2c3d4e5/65535", "5", "1.2 KiB/s", "32 TiB", "3 B", "4", "6", "2026-09-21T14:13:20Z came up"],
    ]);
    // A path that never had a session.
    expect(lines[8]?.split(/ {2,}/)).toEqual([
      ...["10.0.0.1:3260", "refused", "-", "standby", "7", "-", "-", "-"],
      ...["5", "1.2 KiB/s", "32 TiB", "3 B", "4", "6", "another disk"],
    ]);
  });

  it("says that there is no reservation, and why the volume is not in order", () => {
    const text = formatPathsView(pathsView({ ...plainStatus, multipath: pathStatus.multipath }));
    expect(text).toContain("\nreservation  -\n");
    expect(text).toContain("\nstate        reconnecting: connection reset\n");
  });

  it("has no table while the volume is brought up", () => {
    const text = formatPathsView(pathsView({ ...plainStatus, volume: undefined, sessions: [] }));
    expect(text).toContain("\npolicy       -\n");
    expect(text).not.toContain("PATH");
  });

  it("refuses a volume with one session", () => {
    expect(() => pathsView(plainStatus)).toThrow(expect.objectContaining({ code: "VOLUME_NOT_MULTIPATH" }));
  });
});

describe("hawserctl paths --watch", () => {
  let terminal: Terminal;
  let answers: (VolumeStatus | Error | undefined)[];

  beforeEach(() => {
    terminal = new Terminal();
    answers = [];
  });

  const api = {
    get: () => {
      const next = answers.length > 1 ? answers.shift() : answers[0];
      return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
    },
  };
  const show = (options: ShowOptions): Promise<void> => showPaths("vol-1", options, api, terminal.runtime());

  it("shows them every second until it is interrupted, with an empty line between", async () => {
    answers = [status];
    const watching = show({ output: "table", watch: true });
    await terminal.time.advance(2_500);
    terminal.stop.abort();
    await watching;
    const block = formatPathsView(pathsView(status));
    expect(terminal.out).toBe([block, block, block].join("\n"));
    expect(terminal.time.pendingTimers).toBe(0);
  });

  it("clears the screen of a terminal", async () => {
    answers = [status];
    terminal.isOutputTerminal = true;
    const watching = show({ output: "table", watch: true });
    await terminal.time.advance(1_500);
    terminal.stop.abort();
    await watching;
    const block = `\u001b[H\u001b[2J${formatPathsView(pathsView(status))}`;
    expect(terminal.out).toBe(block + block);
  });

  it("prints a line of JSON each time", async () => {
    answers = [status];
    const watching = show({ output: "json", watch: true });
    await terminal.time.advance(1_500);
    terminal.stop.abort();
    await watching;
    const lines = terminal.out.trimEnd().split("\n");
    expect(lines.map((line): unknown => JSON.parse(line))).toEqual(
      Array.from({ length: 2 }, (): unknown => JSON.parse(JSON.stringify(pathsView(status)))),
    );
  });

  it("waits for a dataplane that is restarted, once it has seen the volume", async () => {
    answers = [status, new DataplaneError("DATAPLANE_UNREACHABLE", "nobody answers"), status];
    const watching = show({ output: "table", watch: true });
    await terminal.time.advance(2_500);
    terminal.stop.abort();
    await watching;
    expect(terminal.err).toBe("nobody answers\n");
    expect(terminal.out.match(/^PATH/gm)).toHaveLength(2);
  });

  it("ends with what does not pass", async () => {
    answers = [new DataplaneError("DATAPLANE_UNREACHABLE", "nobody answers")];
    expect(await codeOf(show({ output: "table", watch: true }))).toBe("DATAPLANE_UNREACHABLE");
    answers = [status, undefined];
    const watching = codeOf(show({ output: "table", watch: true }));
    await terminal.time.advance(1_500);
    expect(await watching).toBe("VOLUME_NOT_FOUND");
    answers = [undefined];
    expect(await codeOf(show({ output: "table" }))).toBe("VOLUME_NOT_FOUND");
  });
});

describe("the command line of hawserctl paths", () => {
  const api = new ScriptedApi();
  let directory: string;
  let socketPath: string;
  let server: DataplaneServer;
  let terminal: Terminal;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "hawser-paths-"));
    socketPath = join(directory, "dataplane.sock");
    const options = { socketPath, packageDirectory: process.cwd(), closeTimeoutMs: 200 };
    server = new DataplaneServer(options, { api, clock, logger: silentLogger });
    await server.start();
  });
  afterAll(async () => {
    await server.close();
    await rm(directory, { recursive: true });
  });
  beforeEach(() => {
    terminal = new Terminal();
    api.status = status;
    api.failure = undefined;
    api.pathCalls.length = 0;
  });

  async function run(...args: string[]): Promise<number> {
    const runtime = terminal.runtime();
    const commands = [pathsCommand(runtime)];
    const program = buildProgram("hawserctl", { description: "", version: "1", commands });
    const write = (text: string): void => void (terminal.err += text);
    for (const one of [program, ...commands, ...commands.flatMap((command) => command.commands)]) {
      one.configureOutput({ writeErr: write, writeOut: write });
    }
    return runProgram(program, ["node", "hawserctl", ...args], runtime);
  }

  it("shows paths as a table and as JSON", async () => {
    expect(await run("paths", volume.volumeHandle, "--dataplane", socketPath)).toBe(0);
    expect(terminal.out).toBe(formatPathsView(pathsView(status)));
    terminal = new Terminal();
    expect(await run("paths", "-o", "json", volume.volumeHandle, "--dataplane", socketPath)).toBe(0);
    const printed = JSON.parse(terminal.out) as PathsView;
    expect(printed).toEqual(JSON.parse(JSON.stringify(pathsView(status))));
    expect(printed.paths[0]).toMatchObject({ portal: "[::1]:3260", localAddress: "[::1]:50000", tsih: 65_535 });
  });

  it("names a volume that is not there", async () => {
    expect(await run("paths", "vol-9", "--dataplane", socketPath)).toBe(15);
    expect(terminal.err).toMatch(/vol-9 is not attached to this node.*\[VOLUME_NOT_FOUND\]/);
  });

  it.each([
    [
      ["set-policy", "v", "round-robin-subset"],
      ["v", "round-robin-subset"],
    ],
    [
      ["fail-path", "v", "p"],
      ["v", "p", { action: "fail" }],
    ],
    [
      ["restore-path", "v", "p"],
      ["v", "p", { action: "restore" }],
    ],
    [
      ["set-path", "v", "p", "--weight", "0"],
      ["v", "p", { weight: 0 }],
    ],
    [
      ["set-path", "v", "p", "--standby"],
      ["v", "p", { isStandby: true }],
    ],
    [
      ["set-path", "v", "p", "--active", "--weight", "9"],
      ["v", "p", { weight: 9, isStandby: false }],
    ],
  ])("does %j, wherever --dataplane stands", async (args, asked) => {
    expect(await run("paths", ...args, "--dataplane", socketPath)).toBe(0);
    expect(await run("paths", "--dataplane", socketPath, ...args)).toBe(0);
    expect(api.pathCalls).toEqual([asked, asked]);
    expect(terminal.err).toContain("volume v");
  });

  it.each([
    [["set-policy", "v", "fastest"], 2, /Allowed choices are fail-over-only, round-robin/],
    [["set-policy", "v"], 2, /missing required argument 'policy'/],
    [["fail-path", "v"], 2, /missing required argument 'path'/],
    [["set-path", "v", "p"], 3, /give --weight N, --active or --standby \[ARGUMENT_MISSING\]/],
    [["set-path", "v", "p", "--active", "--standby"], 2, /cannot be used with option/],
    [["set-path", "v", "p", "--weight", "-1"], 2, /whole number from 0 to 65535/],
    [[], 2, /missing required argument 'volume'/],
  ])("refuses %j", async (args, exitCode, message) => {
    expect(await run("paths", ...args, "--dataplane", socketPath)).toBe(exitCode);
    expect(terminal.err).toMatch(message);
    expect(api.pathCalls).toEqual([]);
  });

  it("hands on what the paths refuse", async () => {
    api.failure = new AppError("multipath", "MULTIPATH_LAST_PATH", "p is the last path that is up");
    expect(await run("paths", "fail-path", "v", "p", "--dataplane", socketPath)).toBe(13);
    expect(terminal.err).toBe("error: p is the last path that is up [MULTIPATH_LAST_PATH]\n");
  });

  it("has examples, and help for each of its commands", async () => {
    expect(await run("paths", "--help")).toBe(0);
    expect(terminal.err).toMatch(/Examples:\n {2}hawserctl paths pvc-1 --watch/);
    terminal = new Terminal();
    expect(await run("paths", "set-path", "--help")).toBe(0);
    expect(terminal.err).toMatch(/--weight <N>[\s\S]*--dataplane <SOCKET>/);
  });
});
