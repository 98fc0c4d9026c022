import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CLI_NEEDS, type ProgramName, runCli } from "../support/cli-process.js";
import { describeNeeding } from "../support/needs.js";

const commands: Readonly<Record<ProgramName, readonly string[]>> = {
  hawser: ["node", "controller", "dataplane", "target", "all-in-one"],
  hawserctl: ["discover", "luns", "nbd-serve", "volumes", "sessions", "connections", "bench", "selftest"],
};
const programs = Object.keys(commands) as ProgramName[];
const everyCommand = programs.flatMap((program) => commands[program].map((command) => [program, command] as const));

/** Every use of a command in the documents: its name and the flags given to it. */
function documentedUses(): readonly { readonly where: string; readonly command: string; readonly flags: string[] }[] {
  const documents = ["README.md", ...readdirSync("docs").map((name) => join("docs", name))];
  return documents
    .filter((path) => path.endsWith(".md"))
    .flatMap((path) => {
      const text = readFileSync(path, "utf8").replaceAll("\\\n", " ");
      return [...text.matchAll(/(?:hawser|hawserctl|main\.js|hawserctl\.js) ([a-z-]+)([^\n`|]*)/g)].map(
        ([whole, command = "", rest = ""]) => ({
          where: `${path}: ${whole}`,
          command,
          flags: [...rest.matchAll(/(?<=\s)--?[a-z][a-z-]*/g)].map(([flag]) => flag),
        }),
      );
    });
}

describeNeeding(CLI_NEEDS, "help", () => {
  const helps = new Map<string, string>();

  beforeAll(async () => {
    for (const [program, command] of everyCommand) {
      const { exitCode, out } = await runCli(program, command, "--help");
      expect(exitCode).toBe(0);
      helps.set(command, out);
    }
  }, 60_000);

  test.each(programs)("%s --help lists every command", async (program) => {
    const { exitCode, out, err } = await runCli(program, "--help");
    expect([exitCode, err]).toEqual([0, ""]);
    for (const command of commands[program]) expect(out).toMatch(new RegExp(`^  ${command} \\[options\\] +\\S`, "m"));
  });

  test.each(programs)("%s --version says the version of the package", async (program) => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await runCli(program, "--version")).toEqual({ exitCode: 0, out: `${version}\n`, err: "" });
  });

  test.each(everyCommand)("%s %s shows an example whose flags it has", (program, command) => {
    const help = helps.get(command) ?? "";
    const example = help.slice(help.search(/^Examples?:$/m));
    expect(example).toMatch(new RegExp(`^  ${program} ${command}`, "m"));
    for (const [flag] of example.matchAll(/(?<=\s)--[a-z][a-z-]*/g)) {
      expect(help.slice(0, help.length - example.length)).toContain(flag);
    }
  });

  test("every flag that the documents use exists", () => {
    const uses = documentedUses().filter(({ command }) => helps.has(command));
    expect(uses.length).toBeGreaterThan(5);
    const missing = uses.flatMap(({ where, command, flags }) =>
      flags
        .filter((flag) => !new RegExp(`(?:^|[\\s,])${flag}\\b`, "m").test(helps.get(command) ?? ""))
        .map((flag) => `${flag} in ${where}`),
    );
    expect(missing).toEqual([]);
  });
});
