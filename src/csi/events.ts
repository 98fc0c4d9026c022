/** A Kubernetes object that an event is about. */
export interface EventObject {
  readonly kind: "Pod" | "PersistentVolumeClaim" | "Node";
  /** Empty for a Node. */
  readonly namespace: string;
  readonly name: string;
  /** Empty when it is not known. */
  readonly uid: string;
}

export type EventType = "Normal" | "Warning";

/** What happened to one object, in the words of docs/events.md. */
export interface KubernetesEvent {
  readonly regarding: EventObject;
  readonly type: EventType;
  /** CamelCase, one of the catalogue (events-catalogue.ts). */
  readonly reason: string;
  /** What was being done, CamelCase. */
  readonly action: string;
  /**
   * What of the object it is about: a volume, a file, a measure; empty when there is no more to say. It is not sent, it
   * keeps apart what has one reason: the note of a pod's first volume does not stand for its second.
   */
  readonly subject: string;
  /** For people; shortened to what the API takes. Never a secret. */
  readonly note: string;
}

/** Where events go. */
export interface EventSink {
  /** Never waits and never fails: what cannot be delivered is counted and dropped. */
  report(event: KubernetesEvent): void;
}

/** An event as it is sent: several of the same kind are one, with a series. */
export interface EventRecord extends KubernetesEvent {
  readonly name: string;
  /** Where it is kept: the object's namespace, `default` for nodes. */
  readonly namespace: string;
  /** When it happened first. Milliseconds since 1970. */
  readonly timeMs: number;
}

export interface EventSeries {
  /** At least 2. */
  readonly count: number;
  /** Milliseconds since 1970. */
  readonly lastTimeMs: number;
}

/** What became of a call to the API server. */
export type EventOutcome =
  | { readonly kind: "done" }
  /** The event to be patched is not there any more. */
  | { readonly kind: "gone" }
  /** It may work later: the server is away, or busy. */
  | { readonly kind: "retry"; readonly reason: string }
  /** It does not work however often it is tried: no permission, the namespace is being deleted. */
  | { readonly kind: "refused"; readonly reason: string };

/** The API server's events. Both calls end in bounded time and do not fail; reasons hold no secret. */
export interface EventsApi {
  /** `series`: it happened several times before it could be told. */
  create(event: EventRecord, series?: EventSeries): Promise<EventOutcome>;
  /** Needs name and namespace only. */
  setSeries(event: EventRecord, series: EventSeries): Promise<EventOutcome>;
  /** Ends calls under way. */
  close(): void;
}
