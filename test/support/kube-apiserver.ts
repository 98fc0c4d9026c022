import { spawn, type ChildProcess } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ADMIN_TOKEN = "admin-of-a-test";

/** The newest kube-apiserver that the end-to-end tests have built, or a path at which there is none. */
export function apiServerProgram(): string {
  const folder = join(process.cwd(), ".cache", "e2e");
  const builds = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }) : [];
  const newest = builds
    .filter((path) => path.endsWith("/bin/kube-apiserver"))
    .sort((left, right) => left.localeCompare(right, "en", { numeric: true }))
    .at(-1);
  return process.env["HAWSER_KUBE_APISERVER"] ?? join(folder, newest ?? "kube-apiserver");
}

/** A real API server with its etcd, on this machine alone. */
export class KubeApiServer {
  readonly directory = mkdtempSync(join(tmpdir(), "hawser-api-"));
  readonly tokenFile = join(this.directory, "token");
  readonly caFile = join(this.directory, "certificates", "apiserver.crt");
  readonly #children: ChildProcess[] = [];
  #port = 0;

  /** `token` is that of an account named `node-plugin`, which may do nothing yet. */
  static async start(program: string, token: string): Promise<KubeApiServer> {
    const server = new KubeApiServer();
    try {
      await server.#start(program, token);
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  /** As an administrator. Rejects unless the answer is a success. */
  call(method: string, path: string, body?: object): Promise<unknown> {
    const headers = { Authorization: `Bearer ${ADMIN_TOKEN}`, "Content-Type": "application/json" };
    return new Promise((resolve, reject) => {
      const call = request(`${this.url}${path}`, { method, headers, ca: readFileSync(this.caFile) }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (data: string) => (text += data));
        answer.on("end", () => {
          const status = answer.statusCode ?? 0;
          if (status < 300) resolve(text.startsWith("{") ? JSON.parse(text) : text);
          else reject(new Error(`${method} ${path}: ${status} ${text}`));
        });
      });
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async stop(): Promise<void> {
    for (const child of [...this.#children].reverse()) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode === null && child.kill("SIGKILL")) await ended;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #start(program: string, token: string): Promise<void> {
    const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
    this.#port = port;
    const etcd = `http://127.0.0.1:${etcdPort}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    this.#spawn("etcd", [
      ...["--data-dir", join(this.directory, "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", `default=${peer}`],
    ]);
    const keyFile = join(this.directory, "account.key");
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(keyFile, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    writeFileSync(this.tokenFile, token, { mode: 0o600 });
    const tokens = `${ADMIN_TOKEN},admin,1,system:masters\n${token},node-plugin,2\n`;
    writeFileSync(join(this.directory, "tokens.csv"), tokens, { mode: 0o600 });
    this.#spawn(program, [
      ...["--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", `${port}`],
      ...["--cert-dir", join(this.directory, "certificates"), "--service-cluster-ip-range", "10.96.0.0/16"],
      ...["--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", keyFile],
      ...["--service-account-signing-key-file", keyFile, "--authorization-mode", "RBAC"],
      ...["--token-auth-file", join(this.directory, "tokens.csv")],
    ]);
    await this.#untilReady();
  }

  #spawn(program: string, args: readonly string[]): void {
    const log = openSync(join(this.directory, "log"), "a");
    this.#children.push(spawn(program, args, { stdio: ["ignore", log, log], cwd: this.directory }));
  }

  async #untilReady(): Promise<void> {
    const limitMs = Date.now() + 90_000;
    for (;;) {
      try {
        await this.call("GET", "/readyz");
        await this.call("GET", "/api/v1/namespaces/default");
        return;
      } catch (error) {
        if (Date.now() < limitMs && this.#children.every((child) => child.exitCode === null)) {
          await new Promise((resolve) => setTimeout(resolve, 300));
          continue;
        }
        const log = readFileSync(join(this.directory, "log"), "utf8").slice(-4_000);
        throw new Error(`the API server does not become ready: ${String(error)}\n${log}`, { cause: error });
      }
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
