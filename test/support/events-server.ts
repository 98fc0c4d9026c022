import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** An event of events.k8s.io/v1, as far as tests look at it. */
export interface ReceivedEvent {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly regarding: {
    readonly kind: string;
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
  };
  readonly type: string;
  readonly reason: string;
  readonly note: string;
  readonly eventTime: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  series?: { readonly count: number };
}

const COLLECTION = /^\/apis\/events\.k8s\.io\/v1\/namespaces\/([^/]+)\/events(?:\/([^/]+))?$/;

/**
 * The part of an API server that takes events: real HTTPS, with a token and an authority in an account folder as the
 * kubelet mounts it. It keeps the API server's rules for names, namespaces and patches, and can stop answering.
 */
export class EventsServer {
  /** `ca.crt`, `token` and `namespace`, as in a pod. */
  readonly accountFolder = mkdtempSync(join(tmpdir(), "hawser-account-"));
  readonly events = new Map<string, ReceivedEvent>();
  /** Everything that was sent, whether it was answered or not: method, path, body. */
  readonly requests: string[] = [];
  /** Requests that an API server would have refused. */
  readonly refused: string[] = [];
  readonly #server: Server;
  readonly #token: string;
  #isSilent = false;

  private constructor(token: string) {
    this.#token = token;
    const [caFile, keyFile] = [join(this.accountFolder, "ca.crt"), join(this.accountFolder, "key")];
    execFileSync(
      "openssl",
      [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
        ...["-subj", "/CN=events", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", keyFile, "-out", caFile],
      ],
      { stdio: "pipe" },
    );
    const [cert, key] = [readFileSync(caFile), readFileSync(keyFile)];
    rmSync(keyFile);
    writeFileSync(join(this.accountFolder, "token"), token, { mode: 0o600 });
    writeFileSync(join(this.accountFolder, "namespace"), "hawser");
    this.#server = createServer({ cert, key }, (request, response) => void this.#take(request, response));
  }

  static async start(token: string): Promise<EventsServer> {
    const server = new EventsServer(token);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Takes requests and never answers them, as behind a network that swallows everything. */
  fallSilent(): void {
    this.#isSilent = true;
  }

  /** Answers again; what waits is cut off, as by a restart. */
  comeBack(): void {
    this.#isSilent = false;
    this.#server.closeAllConnections();
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
    rmSync(this.accountFolder, { recursive: true });
  }

  /** `REASON KIND NAME` of every event there is. */
  told(): readonly string[] {
    return [...this.events.values()].map(({ reason, regarding: { kind, name } }) => `${reason} ${kind} ${name}`);
  }

  /** Waits for one event: `REASON KIND NAME`. */
  async event(wanted: string, timeoutMs = 60_000): Promise<ReceivedEvent> {
    const find = (): ReceivedEvent | undefined => [...this.events.values()][this.told().indexOf(wanted)];
    const found = await until(find, timeoutMs);
    if (found === undefined) throw new Error(`${wanted} was not told, only: ${this.told().join(", ")}`);
    return found;
  }

  /** Waits for a request with this text in it, whether it is answered or not. */
  async request(text: string, timeoutMs = 60_000): Promise<string> {
    const found = await until(() => this.requests.find((request) => request.includes(text)), timeoutMs);
    if (found === undefined) throw new Error(`nobody asked for ${text} in ${this.requests.length} requests`);
    return found;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    try {
      for await (const data of request) text += String(data);
    } catch {
      // Cut off in the middle: nothing was asked.
      return;
    }
    const { method = "", url = "" } = request;
    this.requests.push(`${method} ${url} ${text}`);
    if (this.#isSilent) return;
    const status = this.#answer(request, text);
    if (status >= 400) this.refused.push(`${status} ${method} ${url} ${text}`);
    const reason = status < 400 ? "" : "Refused";
    const answer = status < 400 ? text : JSON.stringify({ kind: "Status", status: "Failure", reason, code: status });
    response.writeHead(status, { "Content-Type": "application/json" }).end(answer);
  }

  /** Returns the status. */
  #answer({ method, url = "", headers }: IncomingMessage, text: string): number {
    if (headers.authorization !== `Bearer ${this.#token}`) return 401;
    const [, namespace = "", name] = COLLECTION.exec(url) ?? [];
    if (namespace === "") return 404;
    if (method === "PATCH" && name !== undefined) {
      if (headers["content-type"] !== "application/merge-patch+json") return 415;
      const event = this.events.get(`${namespace}/${name}`);
      if (event === undefined) return 404;
      Object.assign(event, JSON.parse(text));
      return 200;
    }
    if (method !== "POST" || name !== undefined) return 405;
    const event = JSON.parse(text) as ReceivedEvent;
    const key = `${namespace}/${event.metadata.name}`;
    // The API server's own checks: an event lives beside its object, or in `default` when that has no namespace.
    if (event.metadata.namespace !== namespace || (event.regarding.namespace ?? "default") !== namespace) return 422;
    if (this.events.has(key)) return 409;
    this.events.set(key, event);
    return 201;
  }
}

async function until<T>(find: () => T | undefined, timeoutMs: number): Promise<T | undefined> {
  const deadlineMs = Date.now() + timeoutMs;
  for (;;) {
    const found = find();
    if (found !== undefined || Date.now() > deadlineMs) return found;
    await delay(50);
  }
}
