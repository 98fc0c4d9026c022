import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ApiClient } from "./api-client.js";

/** Longest wait for etcd and the API server together; a busy machine needs a minute. */
const START_LIMIT_MS = 240_000;
/** Time a process gets to end in order before it is killed. */
const STOP_LIMIT_MS = 10_000;

export interface ApiServerOptions {
  /** Program of etcd. */
  readonly etcd: string;
  /** Program of kube-apiserver. */
  readonly kubeApiserver: string;
  /** An empty or absent directory for data, certificates and logs. */
  readonly directory: string;
}

/**
 * etcd and an API server on free ports of the loopback, with nothing behind them: no nodes, no controllers. It admits,
 * defaults, validates and authorizes as the API server of a cluster does. End it with `stop`.
 */
export class ApiServer {
  /** For kubectl; readable by this user alone, since it holds the token of an administrator. */
  readonly kubeconfig: string;
  readonly client: ApiClient;
  readonly #children: readonly ChildProcess[];

  private constructor(kubeconfig: string, client: ApiClient, children: readonly ChildProcess[]) {
    this.kubeconfig = kubeconfig;
    this.client = client;
    this.#children = children;
  }

  /** Resolves when the server is ready; rejects with the end of the log that matters, and leaves nothing running. */
  static async start(options: ApiServerOptions): Promise<ApiServer> {
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const [clientPort, peerPort, securePort] = (await freePorts(3)) as [number, number, number];
    const etcd = startEtcd(options, clientPort, peerPort);
    const token = randomBytes(24).toString("hex");
    const server = startKubeApiserver(options, { clientPort, securePort, token });
    const certificateFile = join(options.directory, "certificates", "apiserver.crt");
    try {
      const client = await untilReady({ certificateFile, port: securePort, token, etcd, server });
      const kubeconfig = join(options.directory, "kubeconfig");
      writeFileSync(kubeconfig, kubeconfigText(securePort, certificateFile, token), { mode: 0o600 });
      return new ApiServer(kubeconfig, client, [server, etcd]);
    } catch (error) {
      await stopAll([server, etcd]);
      const logs = ["etcd", "kube-apiserver"].map(
        (name) => `${name}:\n${tail(join(options.directory, `${name}.log`))}`,
      );
      throw new Error(`the API server did not become ready: ${String(error)}\n${logs.join("\n")}`, { cause: error });
    }
  }

  /** Ends the API server, then etcd. */
  async stop(): Promise<void> {
    await stopAll(this.#children);
  }
}

function startEtcd(options: ApiServerOptions, clientPort: number, peerPort: number): ChildProcess {
  const client = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  return launch(options, "etcd", options.etcd, [
    `--data-dir=${join(options.directory, "etcd")}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
  ]);
}

function startKubeApiserver(
  options: ApiServerOptions,
  ports: { readonly clientPort: number; readonly securePort: number; readonly token: string },
): ChildProcess {
  const file = (name: string): string => join(options.directory, name);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  writeFileSync(file("accounts.key"), privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  writeFileSync(file("tokens.csv"), `${ports.token},admin,admin,system:masters\n`, { mode: 0o600 });
  return launch(options, "kube-apiserver", options.kubeApiserver, [
    `--etcd-servers=http://127.0.0.1:${ports.clientPort}`,
    "--bind-address=127.0.0.1",
    `--secure-port=${ports.securePort}`,
    `--cert-dir=${file("certificates")}`,
    `--token-auth-file=${file("tokens.csv")}`,
    `--service-account-key-file=${file("accounts.key")}`,
    `--service-account-signing-key-file=${file("accounts.key")}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.250.0.0/24",
    "--authorization-mode=Node,RBAC",
    // There is no network behind the `kubernetes` Service that its endpoints could point to.
    "--endpoint-reconciler-type=none",
    // Privileged pods are for the cluster's policies to judge, as in every installer's default.
    "--allow-privileged=true",
  ]);
}

function launch(options: ApiServerOptions, name: string, program: string, args: readonly string[]): ChildProcess {
  const log = openSync(join(options.directory, `${name}.log`), "a", 0o600);
  const child = spawn(program, args, { stdio: ["ignore", log, log] });
  closeSync(log);
  // `exitCode` stays null when there is nothing to run; `untilReady` sees the missing pid instead.
  child.on("error", () => undefined);
  return child;
}

async function untilReady(wait: {
  readonly certificateFile: string;
  readonly port: number;
  readonly token: string;
  readonly etcd: ChildProcess;
  readonly server: ChildProcess;
}): Promise<ApiClient> {
  const endsAt = Date.now() + START_LIMIT_MS;
  let last = "no certificate yet";
  while (Date.now() < endsAt) {
    if (hasEnded(wait.etcd)) throw new Error("etcd ended at once");
    if (hasEnded(wait.server)) throw new Error("kube-apiserver ended at once");
    try {
      const certificate = readFileSync(wait.certificateFile, "utf8");
      const client = new ApiClient({ port: wait.port, certificate, token: wait.token });
      const answer = await client.send("GET", "/readyz");
      if (answer.status === 200) return client;
      last = `/readyz answered ${answer.status}`;
    } catch (error) {
      last = String(error);
    }
    await delay(250);
  }
  throw new Error(`not ready after ${START_LIMIT_MS / 1000} seconds: ${last}`);
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

async function stopAll(children: readonly ChildProcess[]): Promise<void> {
  for (const child of children) {
    if (hasEnded(child)) continue;
    const closed = once(child, "close");
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
    await closed;
    clearTimeout(killer);
  }
}

function kubeconfigText(port: number, certificateFile: string, token: string): string {
  const cluster = { "certificate-authority": certificateFile, server: `https://127.0.0.1:${port}` };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "dry-run", cluster }],
    users: [{ name: "admin", user: { token } }],
    contexts: [{ name: "dry-run", context: { cluster: "dry-run", user: "admin" } }],
    "current-context": "dry-run",
  });
}

function tail(file: string): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-15).join("\n");
  } catch {
    return "(no log)";
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
