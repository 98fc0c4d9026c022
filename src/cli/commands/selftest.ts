import { readdir, mkdir } from "node:fs/promises";
import { Command, Option } from "commander";
import { sleep } from "../../base/clock.js";
import { AppError } from "../../base/errors.js";
import { DataplaneClient } from "../../dataplane/client.js";
import { CsiClient } from "../csi-client.js";
import { sizeArgument } from "../options.js";
import { formatRows } from "../output.js";
import { withProgress } from "../progress.js";
import type { Runtime } from "../runtime.js";
import { StepRunner } from "../selftest/steps.js";
import { VolumeLife } from "../selftest/volume-life.js";
import { sessionColumns, sessionRows } from "./sessions.js";

interface SelftestOptions {
  readonly controller: string;
  readonly node: string;
  readonly dataplane?: string;
  readonly directory: string;
  readonly fsType: string;
  readonly size: number;
}

/** How long the sockets may take to answer after a start. */
const READY_TIMEOUT_MS = 30_000;
const CALL_TIMEOUT_MS = 120_000;
const FILE_COUNT = 8;
const FILE_BYTES = 4 * 2 ** 20;

async function waitReady(client: CsiClient, runtime: Runtime): Promise<void> {
  const deadlineMs = runtime.clock.nowMs() + READY_TIMEOUT_MS;
  for (;;) {
    try {
      const reply = await client.call("Identity", "Probe");
      const ready = reply["ready"] as { value?: boolean } | null;
      if (ready === null || ready.value !== false) return;
    } catch (error) {
      if (runtime.clock.nowMs() > deadlineMs) throw error;
    }
    await sleep(runtime.clock, 200, runtime.signal);
  }
}

async function showSessions(socketPath: string, runtime: Runtime): Promise<void> {
  const client = new DataplaneClient({ socketPath, packageDirectory: runtime.packageDirectory });
  try {
    const rows = sessionRows(await client.list());
    const table = formatRows("table", rows, sessionColumns);
    runtime.out.write(`\n${table.replace(/^/gm, "       ").trimEnd()}\n\n`);
  } finally {
    client.close();
  }
}

async function runSelftest(options: SelftestOptions, runtime: Runtime): Promise<void> {
  await mkdir(options.directory, { recursive: true });
  if ((await readdir(options.directory)).length > 0) {
    throw new AppError("cli", "SELFTEST_DIRECTORY_IN_USE", `${options.directory} is not empty; give an empty folder`);
  }
  const connect = (endpoint: string): CsiClient =>
    new CsiClient({ endpoint, packageDirectory: runtime.packageDirectory, timeoutMs: CALL_TIMEOUT_MS });
  const clients = { controller: connect(options.controller), node: connect(options.node) };
  const runner = new StepRunner({ output: runtime.out, clock: runtime.clock });
  try {
    await withProgress("Waiting for the CSI sockets", { ...runtime, output: runtime.err }, async () => {
      await waitReady(clients.controller, runtime);
      await waitReady(clients.node, runtime);
    });
    const life = new VolumeLife(
      {
        volumeName: `selftest-${runtime.uuid()}`,
        directory: options.directory,
        fsType: options.fsType,
        sizeBytes: options.size,
        expandedBytes: options.size * 2,
        fileCount: FILE_COUNT,
        fileBytes: FILE_BYTES,
      },
      {
        ...clients,
        runner,
        random: runtime.random,
        whileMounted: () =>
          options.dataplane === undefined ? Promise.resolve() : showSessions(options.dataplane, runtime),
      },
    );
    await life.run();
  } finally {
    clients.controller.close();
    clients.node.close();
  }
  if (runner.hasFailed)
    throw new AppError("cli", "SELFTEST_FAILED", "the volume's life ended well, but cleaning up did not");
  runtime.out.write(`\n  ${runner.results.length} steps passed\n`);
}

/** `hawserctl selftest`: is this installation able to do its work? */
export function selftestCommand(runtime: Runtime): Command {
  return new Command("selftest")
    .description("walk the whole life of one volume through the CSI sockets, verify its data, and clean up")
    .requiredOption("--controller <ENDPOINT>", "CSI endpoint of hawser controller, unix:///…")
    .requiredOption("--node <ENDPOINT>", "CSI endpoint of hawser node, unix:///…")
    .option("--dataplane <SOCKET>", "control socket of the dataplane: shows its sessions")
    .requiredOption("--directory <DIR>", "empty folder for the mounts; removed at the end")
    .addOption(new Option("--fs-type <TYPE>", "file system").choices(["ext4", "xfs", "btrfs"]).default("ext4"))
    .option("--size <SIZE>", "size of the volume; it is doubled on the way", sizeArgument, 256 * 2 ** 20)
    .addHelpText(
      "after",
      "\nExample:\n  hawserctl selftest --controller unix:///run/hawser/controller.sock --node unix:///run/hawser/node.sock --directory /tmp/selftest\n",
    )
    .action((options: SelftestOptions) => runSelftest(options, runtime));
}
