import { execFile } from "node:child_process";

export interface KubectlResult {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

/** kubectl against one API server. */
export class Kubectl {
  readonly #program: string;
  readonly #shared: readonly string[];

  constructor(options: { readonly program: string; readonly kubeconfig: string; readonly cacheDirectory: string }) {
    this.#program = options.program;
    this.#shared = [`--kubeconfig=${options.kubeconfig}`, `--cache-dir=${options.cacheDirectory}`];
  }

  /** Runs it to its end, whatever its exit code; rejects only when it cannot be started. */
  attempt(args: readonly string[], input = ""): Promise<KubectlResult> {
    return new Promise((resolve, reject) => {
      const options = { maxBuffer: 64 * 1024 * 1024, timeout: 300_000 };
      const child = execFile(this.#program, [...this.#shared, ...args], options, (error, out, err) => {
        if (error !== null && typeof error.code === "string")
          reject(new Error(`${this.#program} could not be run: ${error.message}`));
        else resolve({ exitCode: error === null ? 0 : Number(error.code ?? 1), out, err });
      });
      // A kubectl that ends without reading its input is judged by its exit code, not by the broken pipe.
      child.stdin?.on("error", () => undefined);
      child.stdin?.end(input);
    });
  }

  /** What it printed; rejects with its error output on any other exit code than 0. */
  async run(args: readonly string[], input = ""): Promise<string> {
    const result = await this.attempt(args, input);
    if (result.exitCode !== 0) throw new Error(`kubectl ${args.join(" ")} failed: ${result.err.trim()}`);
    return result.out;
  }
}
