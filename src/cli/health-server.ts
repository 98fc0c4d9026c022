import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIPv6 } from "node:net";
import { InvalidArgumentError, type Command } from "commander";
import type { PortalAddress } from "../base/access.js";
import { sleep, type Clock } from "../base/clock.js";
import { AppError, errorMessage } from "../base/errors.js";
import { HEALTH_CHECK_TIMEOUT_MS, MAX_HEALTH_CONNECTIONS } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import { formatPortal } from "../base/portal.js";

/** One thing to look at: resolves when it is well, rejects with the reason when not. */
export interface HealthCheck {
  readonly name: string;
  readonly run: () => Promise<void>;
}

export interface HealthServerOptions {
  readonly address: PortalAddress;
  /** Is the process itself alive? What fails here is mended by starting it anew, and by nothing else. */
  readonly alive: readonly HealthCheck[];
  /** Can it do its work now? */
  readonly ready: readonly HealthCheck[];
}

export interface HealthServerDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What one look found; the body of the answer. */
export interface HealthReport {
  readonly status: "ok" | "failed";
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly reason?: string }[];
}

/** How long a client may take to ask. */
const REQUEST_TIMEOUT_MS = 5_000;

/** `--health` of the processes that can be asked how they are. */
export function addHealthOption(command: Command): Command {
  return command.option(
    "--health <HOST:PORT>",
    "answer /healthz and /readyz over HTTP here, [::]:9808 for all addresses",
    healthAddress,
  );
}

/** `HOST:PORT` or `[IPv6]:PORT`; fails with commander's usage error, which names the flag. */
export function healthAddress(text: string): PortalAddress {
  const match = /^(?:\[([^\]]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  const [, ipv6, name] = match ?? [];
  const port = Number(match?.[3]);
  if (match === null || (ipv6 !== undefined && !isIPv6(ipv6)) || port < 1 || port > 65_535) {
    throw new InvalidArgumentError("write HOST:PORT or [IPv6]:PORT with a port from 1 to 65535, such as [::]:9808");
  }
  return { host: ipv6 ?? name ?? "", port };
}

/** Runs all checks at once, each for a bounded time. Never rejects. */
export async function runChecks(checks: readonly HealthCheck[], clock: Clock): Promise<HealthReport> {
  const results = await Promise.all(
    checks.map(async ({ name, run }) => {
      const limit = new AbortController();
      const late = sleep(clock, HEALTH_CHECK_TIMEOUT_MS, limit.signal).then(() => {
        throw new AppError("cli", "HEALTH_CHECK_TIMEOUT", `no answer within ${HEALTH_CHECK_TIMEOUT_MS} ms`);
      });
      late.catch(() => undefined);
      try {
        await Promise.race([run(), late]);
        return { name, ok: true };
      } catch (error) {
        return { name, ok: false, reason: errorMessage(error) };
      } finally {
        limit.abort();
      }
    }),
  );
  return { status: results.every(({ ok }) => ok) ? "ok" : "failed", checks: results };
}

/** `/healthz` and `/readyz` for the kubelet: 200 or 500, with the reasons as JSON. */
export class HealthServer {
  readonly #options: HealthServerOptions;
  readonly #deps: HealthServerDependencies;
  readonly #server: Server;
  /** Looks that are under way: whoever asks meanwhile gets the same answer, so asking often costs nothing more. */
  readonly #looks = new Map<string, Promise<HealthReport>>();

  constructor(options: HealthServerOptions, dependencies: HealthServerDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    this.#server = createServer(
      { headersTimeout: REQUEST_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: REQUEST_TIMEOUT_MS },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.maxConnections = MAX_HEALTH_CONNECTIONS;
  }

  /** HEALTH_LISTEN_FAILED when the address cannot be had. */
  async start(): Promise<void> {
    const { address } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) => {
        reject(
          new AppError(
            "cli",
            "HEALTH_LISTEN_FAILED",
            `cannot answer health checks on ${formatPortal(address)}: ${error.message}; give another --health`,
            { cause: error },
          ),
        );
      });
      this.#server.listen(address.port, address.host, resolve);
    });
    this.#server.on("error", (error) =>
      this.#deps.logger.warn("a health connection failed", { reason: error.message }),
    );
    this.#deps.logger.info("answering health checks", { address: formatPortal(address) });
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  /** Never rejects: whoever asks gets an answer. */
  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "").split("?")[0] ?? "";
    const checks = path === "/healthz" ? this.#options.alive : path === "/readyz" ? this.#options.ready : undefined;
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end();
    } else if (checks === undefined) {
      response.writeHead(404, { "content-type": "text/plain" }).end("ask for /healthz or /readyz\n");
    } else {
      const report = await this.#look(path, checks);
      response
        .writeHead(report.status === "ok" ? 200 : 500, {
          "content-type": "application/json",
          "cache-control": "no-store",
        })
        .end(request.method === "HEAD" ? undefined : `${JSON.stringify(report)}\n`);
    }
    // A body nobody asked for is not waited for.
    request.resume();
  }

  #look(path: string, checks: readonly HealthCheck[]): Promise<HealthReport> {
    const current = this.#looks.get(path);
    if (current !== undefined) return current;
    const look = runChecks(checks, this.#deps.clock).then((report) => {
      this.#looks.delete(path);
      for (const { name, ok, reason } of report.checks) {
        if (!ok) this.#deps.logger.warn("a health check fails", { path, check: name, reason });
      }
      return report;
    });
    this.#looks.set(path, look);
    return look;
  }
}
