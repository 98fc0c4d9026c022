import type * as Kubernetes from "@kubernetes/client-node";
import type { Clock } from "../base/clock.js";
import { errorMessage } from "../base/errors.js";
import { MAX_EVENT_NOTE_BYTES } from "../base/limits.js";
import type { EventOutcome, EventRecord, EventsApi, EventSeries } from "./events.js";

export interface KubernetesEventsOptions {
  /** `https://HOST:PORT` of the API server. */
  readonly server: string;
  /** PEM file with the authority that signed the API server's certificate. */
  readonly caFile: string;
  /** The pod's service account token: read again every minute, since it is renewed. */
  readonly tokenFile: string;
  /** A proxy on the way to the API server. */
  readonly proxyUrl?: string;
  /** What reports: the driver's name. */
  readonly reportingController: string;
  /** Which of them: the node's name. */
  readonly reportingInstance: string;
  /** Longest call; default 10 s. */
  readonly timeoutMs?: number;
}

type Library = typeof Kubernetes;

interface Client {
  readonly api: Kubernetes.EventsV1Api;
  readonly library: Library;
}

/** Longest reportingInstance the API server takes. */
const MAX_INSTANCE_LENGTH = 128;

/** API server answers after which trying again may help. */
const RETRY_STATUS = new Set([401, 408, 429, 500, 502, 503, 504]);

/**
 * The API server's events through the official client, the only code that knows it. The client takes some 75 MB of
 * memory and a second of processor time to load, so it is loaded with the first event: a node where nothing happens
 * never pays.
 */
export class KubernetesEvents implements EventsApi {
  readonly #options: KubernetesEventsOptions;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #client: Promise<Client> | undefined;

  constructor(options: KubernetesEventsOptions, dependencies: { readonly clock: Clock }) {
    this.#options = options;
    this.#clock = dependencies.clock;
  }

  create(event: EventRecord, series?: EventSeries): Promise<EventOutcome> {
    return this.#call(({ api, library }, options) => {
      const body = eventBody(event, this.#options, library);
      if (series !== undefined) body.series = seriesBody(series, library);
      return api.createNamespacedEvent({ namespace: event.namespace, body }, options);
    });
  }

  setSeries({ name, namespace }: EventRecord, series: EventSeries): Promise<EventOutcome> {
    return this.#call(({ api, library }, options) => {
      const merge = library.setHeaderOptions("Content-Type", library.PatchStrategy.MergePatch, options);
      return api.patchNamespacedEvent({ name, namespace, body: { series: seriesBody(series, library) } }, merge);
    });
  }

  close(): void {
    this.#closing.abort();
  }

  /** The client has no time limit of its own. */
  async #call(
    work: (client: Client, options: Kubernetes.ConfigurationOptions) => Promise<unknown>,
  ): Promise<EventOutcome> {
    const timeoutMs = this.#options.timeoutMs ?? 10_000;
    const limit = new AbortController();
    const abort = (): void => limit.abort();
    const timer = this.#clock.setTimer(timeoutMs, abort);
    this.#closing.signal.addEventListener("abort", abort, { once: true });
    try {
      this.#client ??= this.#connect();
      const client = await this.#client;
      await work(client, optionsWith(limit.signal, client.library));
      return { kind: "done" };
    } catch (error) {
      if (!limit.signal.aborted) return outcomeOf(error);
      return { kind: "retry", reason: `the API server did not answer within ${timeoutMs} ms` };
    } finally {
      timer.cancel();
      this.#closing.signal.removeEventListener("abort", abort);
    }
  }

  async #connect(): Promise<Client> {
    const library = await import("@kubernetes/client-node");
    const { server, caFile, tokenFile, proxyUrl } = this.#options;
    const config = new library.KubeConfig();
    const authProvider = { name: "tokenFile", config: { tokenFile } };
    config.loadFromClusterAndUser(
      { name: "cluster", server, caFile, skipTLSVerify: false, ...(proxyUrl === undefined ? {} : { proxyUrl }) },
      { name: "account", authProvider },
    );
    return { api: config.makeApiClient(library.EventsV1Api), library };
  }
}

/** Hangs the signal on the request. The header is sent anyway: its setting is where the client lets a caller in. */
function optionsWith(signal: AbortSignal, library: Library): Kubernetes.ConfigurationOptions {
  const middleware = library.setHeaderMiddleware("Accept", "application/json");
  const pre = (request: Kubernetes.RequestContext): ReturnType<typeof middleware.pre> => {
    request.setSignal(signal);
    return middleware.pre(request);
  };
  const post = (response: Kubernetes.ResponseContext): ReturnType<typeof middleware.post> => middleware.post(response);
  return { middleware: [{ pre, post }], middlewareMergeStrategy: "append" };
}

function eventBody(
  event: EventRecord,
  { reportingController, reportingInstance }: KubernetesEventsOptions,
  { EventsV1Event, V1MicroTime, V1ObjectMeta, V1ObjectReference }: Library,
): Kubernetes.EventsV1Event {
  const { kind, namespace, name, uid } = event.regarding;
  return Object.assign(new EventsV1Event(), {
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    metadata: Object.assign(new V1ObjectMeta(), { name: event.name, namespace: event.namespace }),
    eventTime: new V1MicroTime(event.timeMs),
    type: event.type,
    reason: event.reason,
    action: event.action,
    note: shortened(event.note),
    regarding: Object.assign(new V1ObjectReference(), {
      ...{ apiVersion: "v1", kind, name },
      ...(namespace === "" ? {} : { namespace }),
      ...(uid === "" ? {} : { uid }),
    }),
    reportingController,
    reportingInstance: reportingInstance.slice(0, MAX_INSTANCE_LENGTH),
  });
}

function seriesBody(
  { count, lastTimeMs }: EventSeries,
  { EventsV1EventSeries, V1MicroTime }: Library,
): Kubernetes.EventsV1EventSeries {
  return Object.assign(new EventsV1EventSeries(), { count, lastObservedTime: new V1MicroTime(lastTimeMs) });
}

/** The client's own message holds the whole answer with its headers: only the status and its short reason are told. */
function outcomeOf(error: unknown): EventOutcome {
  if (typeof error === "object" && error !== null && "code" in error && typeof error.code === "number") {
    const { code } = error;
    const reason = `the API server answered ${code}${reasonIn("body" in error ? error.body : undefined)}`;
    // The name is ours alone, so an event that exists is the one of an earlier try whose answer was lost.
    if (code === 409) return { kind: "done" };
    if (code === 404) return { kind: "gone" };
    return { kind: RETRY_STATUS.has(code) ? "retry" : "refused", reason };
  }
  return { kind: "retry", reason: `the API server cannot be reached: ${errorMessage(error)}` };
}

/** `reason` of a Kubernetes Status, such as Forbidden. */
function reasonIn(body: unknown): string {
  const parsed: unknown = typeof body === "string" ? parseOrUndefined(body) : body;
  if (typeof parsed !== "object" || parsed === null || !("reason" in parsed)) return "";
  return typeof parsed.reason === "string" ? ` ${parsed.reason.slice(0, 64)}` : "";
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function shortened(note: string): string {
  if (Buffer.byteLength(note) <= MAX_EVENT_NOTE_BYTES) return note;
  // Three bytes for the ellipsis; a character cut in half is left out.
  const bytes = Buffer.from(note).subarray(0, MAX_EVENT_NOTE_BYTES - 3);
  return `${bytes.toString().replace(/\uFFFD+$/, "")}…`;
}
