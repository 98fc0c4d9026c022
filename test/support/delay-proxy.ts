import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

/** A portal whose answers come later than the target's behind it: a longer way, whatever the kernel offers for one. */
export class DelayProxy {
  /** Of 127.0.0.1. */
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Starts it as a process of its own. */
  static async start(options: { readonly targetPort: number; readonly delayMs: number }): Promise<DelayProxy> {
    const program = join(process.cwd(), "test", "support", "delay-proxy-main.ts");
    const args = ["--import", "tsx", program, String(options.targetPort), String(options.delayMs)];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const [text] = (await Promise.race([
      once(child.stdout, "data"),
      once(child, "exit").then(() => Promise.reject(new Error("the proxy ended by itself"))),
    ])) as [Buffer];
    return new DelayProxy(child, Number(text.toString()));
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}
