import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = process.cwd();

/** Every page that is written for people. */
export function documentationPages(): string[] {
  const docs = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".md"))
    .map((path) => join("docs", path));
  return ["README.md", "CONTRIBUTING.md", ...docs];
}

export const readPage = (page: string): string => readFileSync(join(root, page), "utf8");

/** The commands in the fenced blocks of a page: a line each, continued lines joined, without the `&` at the end. */
export function commandsOf(text: string): string[] {
  const blocks = [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)];
  return blocks
    .filter(([, language = ""]) => ["", "sh", "bash", "shell", "console"].includes(language))
    .flatMap(([, , block = ""]) => block.replace(/\s*\\\n\s*/g, " ").split("\n"))
    .map((line) => line.replace(/^\$ /, "").replace(/\s*&$/, "").trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

/** The flags that a page names in code, whether inline or in blocks. */
export function flagsOf(text: string): string[] {
  return [...text.matchAll(/`+[^`]+`+/g)].flatMap(([code]) => code.match(/(?<![\w-])--[a-z][A-Za-z-]*/g) ?? []);
}

export interface CommandOutcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command of the documentation at work. It is split at blanks: what needs a shell's quoting is refused. */
export class DocumentedCommand {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #stdout = "";
  #stderr = "";

  constructor(command: string, environment: Readonly<Record<string, string>> = {}) {
    if (/["'$|<>;*]/.test(command)) throw new Error(`"${command}" needs a shell; write it without`);
    const [program = "", ...args] = command.split(/\s+/);
    const child = spawn(program === "node" ? process.execPath : program, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    child.stdout.on("data", (data: Buffer) => (this.#stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (this.#stderr += data.toString()));
    this.#child = child;
    this.#ended = once(child, "close");
  }

  /** Resolves when `pattern` was printed on either stream; fails when the command ends first. */
  async printed(pattern: RegExp, timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void => {
        settle();
        reject(new Error(`${why} before ${String(pattern)}: ${this.#stdout}${this.#stderr}`));
      };
      const look = (): void => {
        if (!pattern.test(this.#stdout) && !pattern.test(this.#stderr)) return;
        settle();
        resolve();
      };
      const onClose = (): void => fail("ended");
      const timer = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#child.stdout?.off("data", look);
        this.#child.stderr?.off("data", look);
        this.#child.off("close", onClose);
      };
      this.#child.stdout?.on("data", look);
      this.#child.stderr?.on("data", look);
      this.#child.once("close", onClose);
      look();
    });
  }

  /** Its end, by itself. */
  async outcome(): Promise<CommandOutcome> {
    await this.#ended;
    return { exitCode: this.#child.exitCode, stdout: this.#stdout, stderr: this.#stderr };
  }

  /** Stops it as Ctrl-C does, by SIGKILL when that has no effect. */
  async interrupt(): Promise<CommandOutcome> {
    this.#child.kill("SIGINT");
    const killer = setTimeout(() => this.#child.kill("SIGKILL"), 20_000);
    const outcome = await this.outcome();
    clearTimeout(killer);
    return outcome;
  }
}
