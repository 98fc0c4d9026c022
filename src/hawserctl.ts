#!/usr/bin/env node
import { join } from "node:path";
import { benchCommand } from "./cli/commands/bench.js";
import { connectionsCommand } from "./cli/commands/connections.js";
import { discoverCommand } from "./cli/commands/discover.js";
import { lunsCommand } from "./cli/commands/luns.js";
import { nbdServeCommand } from "./cli/commands/nbd-serve.js";
import { pathsCommand } from "./cli/commands/paths.js";
import { selftestCommand } from "./cli/commands/selftest.js";
import { sessionsCommand, volumesCommand } from "./cli/commands/sessions.js";
import { readVersion } from "./cli/package-version.js";
import { buildProgram, runProgram } from "./cli/program.js";
import { createRuntime } from "./cli/runtime.js";

const runtime = createRuntime(join(import.meta.dirname, ".."), { endsWithOutput: true });
const program = buildProgram("hawserctl", {
  description: "look at and try out iSCSI targets, volumes and sessions",
  version: await readVersion(runtime.packageDirectory),
  commands: [
    discoverCommand,
    lunsCommand,
    nbdServeCommand,
    volumesCommand,
    sessionsCommand,
    connectionsCommand,
    pathsCommand,
    benchCommand,
    selftestCommand,
  ].map((create) => create(runtime)),
});
process.exitCode = await runProgram(program, process.argv, runtime);
