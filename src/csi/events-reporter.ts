import { EVENTS, type EventAudience, type EventDefinition } from "./events-catalogue.js";
import type { Finding } from "./events-rules.js";
import type { EventSubjects } from "./events-subjects.js";
import type { EventObject, EventSink } from "./events.js";

export interface EventReporterDependencies {
  readonly sink: EventSink;
  readonly subjects: EventSubjects;
}

/** Turns findings into events on the objects that should hear of them. Never waits and never fails. */
export class EventReporter {
  readonly #deps: EventReporterDependencies;
  readonly #node: EventObject;

  /** `nodeName`: the Kubernetes name of this node. */
  constructor(options: { readonly nodeName: string }, dependencies: EventReporterDependencies) {
    this.#deps = dependencies;
    // The kubelet's convention: events about a node carry its name as uid.
    this.#node = { kind: "Node", namespace: "", name: options.nodeName, uid: options.nodeName };
  }

  /** `pod`: one that is about to use the volume, beside those that do. */
  tellVolume(volumeHandle: string, finding: Finding, pod?: EventObject): void {
    const { subjects } = this.#deps;
    const definition: EventDefinition = EVENTS[finding.reason];
    const pods = [...subjects.pods(volumeHandle), ...(pod === undefined ? [] : [pod])];
    const claim = subjects.claim(volumeHandle);
    const of: Readonly<Record<EventAudience, readonly EventObject[]>> = {
      claim: claim === undefined ? [] : [claim],
      pods: pods.filter((one, index) => pods.findIndex((other) => isSame(one, other)) === index),
      node: [this.#node],
    };
    const objects = definition.audience.flatMap((audience) => of[audience]);
    // A volume of which nobody is known is the node's matter.
    if (objects.length === 0) this.#report(this.#node, volumeHandle, finding);
    // What is the node's matter too is said of it once, however many volumes show it.
    for (const object of objects) this.#report(object, object.kind === "Node" ? "" : volumeHandle, finding);
  }

  /** Only this pod: the others have heard of it. */
  tellPod(pod: EventObject, volumeHandle: string, finding: Finding): void {
    this.#report(pod, volumeHandle, finding);
  }

  tellNode(finding: Finding): void {
    this.#report(this.#node, finding.subject ?? "", finding);
  }

  #report(regarding: EventObject, subject: string, { reason, note }: Finding): void {
    const { type, action } = EVENTS[reason];
    this.#deps.sink.report({ regarding, type, action, reason, subject, note });
  }
}

function isSame(one: EventObject, other: EventObject): boolean {
  return one.namespace === other.namespace && one.name === other.name && one.uid === other.uid;
}
