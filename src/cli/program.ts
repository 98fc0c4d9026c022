import { Command, CommanderError } from "commander";
import { errorCode, errorMessage } from "../base/errors.js";
import { ExitCode, exitCodeOf } from "./exit-codes.js";
import type { Runtime } from "./runtime.js";

/** Builds a program from its commands, with the same manners for both executables. */
export function buildProgram(
  name: string,
  options: { readonly description: string; readonly version: string; readonly commands: readonly Command[] },
): Command {
  const program = new Command(name).description(options.description).version(options.version).showHelpAfterError();
  for (const command of options.commands) program.addCommand(command);
  // Every level must throw instead of ending the process, so that exit codes are decided in one place.
  for (const command of [program, ...descendants(program)]) command.exitOverride().showHelpAfterError();
  return program;
}

function descendants(command: Command): readonly Command[] {
  return command.commands.flatMap((child) => [child, ...descendants(child)]);
}

/** Parses and runs; the exit code is the return value. Errors are one line on standard error, with their code. */
export async function runProgram(program: Command, argv: readonly string[], runtime: Runtime): Promise<number> {
  try {
    await program.parseAsync([...argv]);
    return ExitCode.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    const code = errorCode(error);
    runtime.err.write(`error: ${errorMessage(error)}${code === undefined ? "" : ` [${code}]`}\n`);
    return exitCodeOf(error);
  }
}
