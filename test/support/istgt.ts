import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export interface IstgtOptions {
  /** The first is for control; then the portals of the target, `[::1]` last. */
  readonly controlPort: number;
  readonly portals: readonly { readonly host: string; readonly port: number }[];
  readonly diskBytes: number;
  readonly account?: {
    readonly user: string;
    readonly secret: string;
    readonly mutualUser: string;
    readonly mutualSecret: string;
  };
}

/** The name under which the target of an Istgt is known. */
export const ISTGT_TARGET_NAME = "iqn.2024-01.i:disk1";

/** A real istgt with one target and one disk at LUN 0. Stop it in `afterAll`. */
export class Istgt {
  readonly directory: string;
  readonly #options: IstgtOptions;
  #process: ChildProcess | undefined;

  private constructor(options: IstgtOptions) {
    this.#options = options;
    this.directory = mkdtempSync(join(tmpdir(), "hawser-istgt-"));
  }

  static async start(options: IstgtOptions): Promise<Istgt> {
    const daemon = new Istgt(options);
    try {
      daemon.#writeConfiguration();
      await daemon.launch();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  async launch(): Promise<void> {
    const [portal] = this.#options.portals;
    if (portal === undefined) throw new Error("istgt needs a portal");
    const args = ["-D", "-c", join(this.directory, "istgt.conf"), "-p", join(this.directory, "pid")];
    this.#process = spawn("istgt", args, { stdio: "ignore" });
    for (let attempt = 0; !(await accepts(portal)); attempt += 1) {
      if (attempt > 100 || this.#process.exitCode !== null) throw new Error("istgt does not listen");
      await delay(50);
    }
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #writeConfiguration(): void {
    const { directory } = this;
    const { controlPort, portals, diskBytes, account } = this.#options;
    const path = (name: string): string => join(directory, name);
    writeFileSync(path("d.img"), "");
    truncateSync(path("d.img"), diskBytes);
    const auth =
      account === undefined
        ? ""
        : `[AuthGroup1]\n  Auth "${account.user}" "${account.secret}" "${account.mutualUser}" "${account.mutualSecret}"\n`;
    writeFileSync(path("auth.conf"), auth, { mode: 0o600 });
    const listed = portals.map(({ host, port }, index) => {
      return `  Portal P${index + 1} ${host.includes(":") ? `[${host}]` : host}:${port}`;
    });
    const lines = [
      "[Global]",
      `  PidFile ${path("pid")}`,
      `  AuthFile ${path("auth.conf")}`,
      `  MediaDirectory ${directory}`,
      '  NodeBase "iqn.2024-01.i"',
      "  DiscoveryAuthMethod None",
      "  MaxSessions 16",
      "  MaxConnections 4",
      "  MaxOutstandingR2T 16",
      "  NopInInterval 20",
      "[UnitControl]",
      "  AuthMethod None",
      `  Portal UC1 127.0.0.1:${controlPort}`,
      "  Netmask 127.0.0.1",
      "[PortalGroup1]",
      ...listed,
      "[InitiatorGroup1]",
      '  InitiatorName "ALL"',
      "  Netmask 127.0.0.0/8",
      "  Netmask [::1]",
      "[LogicalUnit1]",
      "  TargetName disk1",
      "  Mapping PortalGroup1 InitiatorGroup1",
      ...(account === undefined ? ["  AuthMethod None"] : ["  AuthMethod CHAP", "  AuthGroup AuthGroup1"]),
      "  UseDigest Auto",
      "  UnitType Disk",
      "  QueueDepth 32",
      `  LUN0 Storage ${path("d.img")} Auto`,
    ];
    writeFileSync(path("istgt.conf"), `${lines.join("\n")}\n`);
  }
}

async function accepts({ host, port }: { readonly host: string; readonly port: number }): Promise<boolean> {
  const socket = createConnection({ host, port });
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
