#!/usr/bin/env node
import { join } from "node:path";
import { allInOneCommand } from "./cli/commands/all-in-one.js";
import { controllerCommand } from "./cli/commands/controller.js";
import { dataplaneCommand } from "./cli/commands/dataplane.js";
import { nodeCommand } from "./cli/commands/node.js";
import { targetCommand } from "./cli/commands/target.js";
import { readVersion } from "./cli/package-version.js";
import { buildProgram, runProgram } from "./cli/program.js";
import { createRuntime } from "./cli/runtime.js";

const runtime = createRuntime(join(import.meta.dirname, ".."), { endsWithOutput: false });
const program = buildProgram("hawser", {
  description: "iSCSI volumes for Kubernetes: a CSI driver with its own initiator",
  version: await readVersion(runtime.packageDirectory),
  commands: [nodeCommand, controllerCommand, dataplaneCommand, targetCommand, allInOneCommand].map((create) =>
    create(runtime),
  ),
});
process.exitCode = await runProgram(program, process.argv, runtime);
