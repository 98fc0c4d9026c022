import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** How one secret could look in a log, a file or an argument. */
function disguises(secret: string): readonly string[] {
  const bytes = Buffer.from(secret);
  const base64 = [0, 1, 2].map((shift) => {
    // Inside a longer text, the characters at either end depend on the neighbours: only the middle is certain.
    const text = Buffer.concat([Buffer.alloc(shift), bytes, Buffer.alloc(2)]).toString("base64");
    return text.slice(Math.ceil((shift * 4) / 3), Math.floor(((shift + bytes.length) * 8) / 6));
  });
  const hex = bytes.toString("hex");
  return [
    secret,
    secret.toUpperCase(),
    encodeURIComponent(secret),
    hex,
    hex.toUpperCase(),
    [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" "),
    // A Buffer given to JSON.stringify.
    [...bytes].join(","),
    ...base64,
    ...base64.map((text) => text.replaceAll("+", "-").replaceAll("/", "_")),
  ];
}

/** Looks for secrets that must be nowhere, in whatever it is given, plain or encoded. */
export class CanaryHunt {
  readonly #needles: readonly { readonly name: string; readonly text: string }[];
  readonly #found = new Set<string>();
  searchedBytes = 0;
  searchedPlaces = 0;

  /** Secrets by a name for the report. */
  constructor(secrets: Readonly<Record<string, string>>) {
    this.#needles = Object.entries(secrets).flatMap(([name, secret]) =>
      disguises(secret).map((text) => ({ name, text })),
    );
  }

  /** Where a secret was seen: `PLACE: NAME`. Never the secret. */
  get found(): readonly string[] {
    return [...this.#found];
  }

  look(place: string, content: string): void {
    this.searchedBytes += content.length;
    this.searchedPlaces += 1;
    for (const { name, text } of this.#needles) if (content.includes(text)) this.#found.add(`${place}: ${name}`);
  }

  /** Every ordinary file below a folder, and its name. Returns how many. */
  lookBelow(folder: string): number {
    const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
    const files = entries.map((entry) => join(entry.parentPath, entry.name)).filter((path) => lstatSync(path).isFile());
    for (const path of files) this.look(path, `${path}\0${readFileSync(path, "latin1")}`);
    return files.length;
  }
}

/** Reads the arguments and the environment of processes and their children again and again while a test runs. */
export class ProcessSampler {
  readonly #roots: () => readonly number[];
  readonly #hunt: CanaryHunt;
  readonly #timer: NodeJS.Timeout;
  /** Programs seen, by the name they were started with. */
  readonly programs = new Set<string>();
  readonly #seen = new Set<string>();

  /** `roots`: the processes whose trees are sampled, every `intervalMs`. */
  constructor(roots: () => readonly number[], hunt: CanaryHunt, intervalMs = 2) {
    this.#roots = roots;
    this.#hunt = hunt;
    this.#timer = setInterval(() => this.sample(), intervalMs).unref();
  }

  get count(): number {
    return this.#seen.size;
  }

  sample(): void {
    for (const pid of this.#roots()) this.#sampleTree(pid);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sampleTree(pid: number): void {
    const commandLine = read(`/proc/${pid}/cmdline`);
    if (commandLine !== "" && !this.#seen.has(`${pid} ${commandLine}`)) {
      this.#seen.add(`${pid} ${commandLine}`);
      this.programs.add((commandLine.split("\0")[0] ?? "").replace(/^.*\//, ""));
      this.#hunt.look(`arguments of process ${pid}`, commandLine);
      this.#hunt.look(`environment of process ${pid}`, read(`/proc/${pid}/environ`));
    }
    for (const thread of list(`/proc/${pid}/task`)) {
      const children = read(`/proc/${pid}/task/${thread}/children`).trim();
      for (const child of children === "" ? [] : children.split(" ")) this.#sampleTree(Number(child));
    }
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // The process ended meanwhile.
    return "";
  }
}

function list(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
