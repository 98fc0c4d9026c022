import { Argument, Command, Option } from "commander";
import { sleep } from "../../base/clock.js";
import { AppError, errorCode, errorMessage } from "../../base/errors.js";
import type { DataplaneApi, AskedPathChange } from "../../dataplane/api.js";
import { DataplaneError } from "../../dataplane/errors.js";
import { PATH_POLICIES, type PathPolicy } from "../../multipath/path-policy.js";
import { addOutputOption, wholeNumber, type OutputOptions } from "../options.js";
import { formatPathsView, type PathsView, pathsView } from "../paths-view.js";
import type { Runtime } from "../runtime.js";
import { addDataplaneOption, withDataplane, type DataplaneOptions } from "./sessions.js";

/** How often `--watch` shows them anew. */
const WATCH_INTERVAL_MS = 1_000;

/** Cursor to the top, and everything below it away. */
const CLEAR_SCREEN = "\u001b[H\u001b[2J";

/** A dataplane that is restarted is waited for. */
const PASSING: ReadonlySet<string> = new Set(["DATAPLANE_UNREACHABLE", "DATAPLANE_STOPPING", "DATAPLANE_TIMEOUT"]);

export interface ShowOptions extends OutputOptions {
  readonly watch?: boolean;
}

interface SetPathOptions {
  readonly weight?: number;
  readonly active?: boolean;
  readonly standby?: boolean;
}

type PathsRuntime = Pick<Runtime, "clock" | "out" | "err" | "signal" | "isOutputTerminal">;

/**
 * Prints the paths of a volume, with `watch` every second until the runtime's signal aborts. Rejects with VOLUME_NOT_FOUND,
 * VOLUME_NOT_MULTIPATH, and with what the dataplane refuses; once watching, one that is gone for a while is waited for.
 */
export async function showPaths(
  volumeHandle: string,
  options: ShowOptions,
  api: Pick<DataplaneApi, "get">,
  runtime: PathsRuntime,
): Promise<void> {
  const { clock, out, err, signal } = runtime;
  if (options.watch !== true) {
    const view = await readPaths(volumeHandle, api);
    out.write(options.output === "json" ? `${JSON.stringify(view, undefined, 2)}\n` : formatPathsView(view));
    return;
  }
  let hasShown = false;
  while (!signal.aborted) {
    try {
      const view = await readPaths(volumeHandle, api);
      out.write(watchedText(view, options, { isFirst: !hasShown, isTerminal: runtime.isOutputTerminal }));
      hasShown = true;
    } catch (error) {
      if (!hasShown || !PASSING.has(errorCode(error) ?? "")) throw error;
      err.write(`${errorMessage(error)}\n`);
    }
    // Being interrupted is how this ends.
    await sleep(clock, WATCH_INTERVAL_MS, signal).catch(() => undefined);
  }
}

function watchedText(
  view: PathsView,
  { output }: OutputOptions,
  { isFirst, isTerminal }: { readonly isFirst: boolean; readonly isTerminal: boolean },
): string {
  if (output === "json") return `${JSON.stringify(view)}\n`;
  const between = isTerminal ? CLEAR_SCREEN : isFirst ? "" : "\n";
  return `${between}${formatPathsView(view)}`;
}

async function readPaths(volumeHandle: string, api: Pick<DataplaneApi, "get">): Promise<PathsView> {
  const status = await api.get(volumeHandle);
  if (status !== undefined) return pathsView(status);
  throw new DataplaneError(
    "VOLUME_NOT_FOUND",
    `volume ${volumeHandle} is not attached to this node; hawserctl volumes shows those that are`,
  );
}

/** What the flags of `set-path` ask for. Throws ARGUMENT_MISSING when it is nothing. */
export function pathChangeOf({ weight, active, standby }: SetPathOptions): AskedPathChange {
  const isStandby = standby === true ? true : active === true ? false : undefined;
  if (weight === undefined && isStandby === undefined) {
    throw new AppError("cli", "ARGUMENT_MISSING", "give --weight N, --active or --standby");
  }
  return { ...(weight === undefined ? {} : { weight }), ...(isStandby === undefined ? {} : { isStandby }) };
}

/** `hawserctl paths`. */
export function pathsCommand(runtime: Runtime): Command {
  const command = new Command("paths")
    .description("the paths of a volume with several sessions: shows or changes them")
    .argument("<volume>", "the volume, as hawserctl volumes shows it")
    .option("--watch", "show them every second until interrupted");
  addOutputOption(addDataplaneOption(command))
    .addHelpText(
      "after",
      "\nExamples:\n  hawserctl paths pvc-1 --watch\n  hawserctl paths set-policy pvc-1 round-robin\n" +
        "  hawserctl paths fail-path pvc-1 'eth1/10.0.1.5->10.0.1.9:3260'\n" +
        "  hawserctl paths set-path pvc-1 10.0.1.9:3260 --weight 5 --standby\n",
    )
    .action((volume: string, options: DataplaneOptions & ShowOptions) =>
      withDataplane(options, runtime, (client) => showPaths(volume, options, client, runtime)),
    );
  for (const subcommand of changes(runtime)) command.addCommand(subcommand);
  return command;
}

/** Flags such as --dataplane are those of `paths`, wherever they stand. */
function changes(runtime: Runtime): readonly Command[] {
  const setPolicy = withVolume("set-policy", "spreads requests otherwise, from the next one on")
    .addArgument(new Argument("<policy>", "remembered until the volume is detached").choices(PATH_POLICIES))
    .action(async (volume: string, policy: PathPolicy, _options: object, command: Command) => {
      await withDataplane(command.optsWithGlobals<DataplaneOptions>(), runtime, (client) =>
        client.setPathPolicy(volume, policy),
      );
      runtime.err.write(`the policy of volume ${volume} is ${policy}\n`);
    });
  const failPath = withPath("fail-path", "takes a path out of service; its requests end first").action(
    changing(runtime, () => ({ action: "fail" }), "is out of service"),
  );
  const restorePath = withPath("restore-path", "puts a path back into service").action(
    changing(runtime, () => ({ action: "restore" }), "is in service"),
  );
  const setPath = withPath("set-path", "gives a path another weight or role, until the volume is detached")
    .option("--weight <N>", "for the policy weighted-path: the lowest is used first", wholeNumber(0, 65_535))
    .option("--active", "used for requests")
    .addOption(new Option("--standby", "used while no active path can be").conflicts("active"))
    .action(changing(runtime, pathChangeOf, "is changed"));
  return [setPolicy, failPath, restorePath, setPath];
}

function withVolume(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .configureHelp({ showGlobalOptions: true })
    .argument("<volume>", "the volume, as hawserctl volumes shows it");
}

function withPath(name: string, description: string): Command {
  return withVolume(name, description).argument("<path>", "the path, as hawserctl paths shows it");
}

function changing(runtime: Runtime, changeOf: (options: SetPathOptions) => AskedPathChange, outcome: string) {
  return async (volume: string, path: string, options: SetPathOptions, command: Command): Promise<void> => {
    const change = changeOf(options);
    await withDataplane(command.optsWithGlobals<DataplaneOptions>(), runtime, (client) =>
      client.changePath(volume, path, change),
    );
    runtime.err.write(`path ${path} of volume ${volume} ${outcome}\n`);
  };
}
