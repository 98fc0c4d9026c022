import type { Findings } from "../findings.js";
import { InitiatorRules } from "../initiator-rules.js";
import { NONE, Op, type PduView } from "../pdu-view.js";
import { TargetRules } from "../target-rules.js";
import type { Trace } from "../trace.js";
import type { Edge, Wire, WireObserver } from "../wire.js";
import type { PathNetwork, Route } from "./path-network.js";
import { isImpostors } from "./path-target.js";

const LUN_RESET = 5;
const PERSISTENT_RESERVE_OUT = 0x5f;
const MAINTENANCE_OUT = 0xa4;
const SET_TARGET_PORT_GROUPS = 0x0a;
const PREEMPT = 4;
const PREEMPT_AND_ABORT = 5;

/** What the paths of a world did to keep the volume going, by how often. */
export const PATH_RECOVERY_KINDS = [
  "fenced by reinstatement",
  "fenced by reset",
  "states set by an initiator",
  "unit preempted",
] as const;
type PathRecoveryKind = (typeof PATH_RECOVERY_KINDS)[number];

/** Watches every connection from both ends: what the paths do for each other shows there, whatever anybody says. */
export class PathObserver implements WireObserver {
  readonly counts: Partial<Record<PathRecoveryKind, number>> = {};
  readonly #findings: Findings;
  readonly #trace: Trace;
  readonly #nowMs: () => number;
  readonly #network: () => PathNetwork;
  readonly #groupOf: (portal: string) => number | undefined;
  /** By node and ISID: the first route it was used on, which is that of its path. */
  readonly #homes = new Map<string, Route>();
  readonly #initiators = new Map<Wire, InitiatorRules>();
  readonly #targets = new Map<Wire, TargetRules>();
  readonly #seenLogin = new Set<Wire>();
  /** Connections that fence a path: their home is elsewhere. */
  readonly #fences = new Map<Wire, "reinstatement" | "reset">();

  constructor(options: {
    readonly findings: Findings;
    readonly trace: Trace;
    readonly nowMs: () => number;
    readonly network: () => PathNetwork;
    readonly groupOf: (portal: string) => number | undefined;
  }) {
    this.#findings = options.findings;
    this.#trace = options.trace;
    this.#nowMs = options.nowMs;
    this.#network = options.network;
    this.#groupOf = options.groupOf;
  }

  onOpen(wire: Wire): void {
    const { node, source } = this.#network().routeOf(wire);
    this.#trace.note(`connection ${wire.id} of ${node} from ${source === "" ? "anywhere" : source} to ${wire.portal}`);
    this.#initiators.set(wire, new InitiatorRules(this.#findings, this.#nowMs));
  }

  onSent(edge: Edge, view: PduView): void {
    this.#note(edge, edge.side === "initiator" ? "I>" : "<T", view);
    if (edge.side === "target") {
      this.#targetRules(edge.wire).onSent(edge, view);
      return;
    }
    this.#initiators.get(edge.wire)?.onSent(edge, view);
    if (view.opcode === Op.login) this.#onLogin(edge.wire, view);
    if (view.opcode === Op.taskManagement) this.#onManagement(edge.wire, view);
    if (view.opcode === Op.command) this.#onCommand(view);
  }

  onReceived(edge: Edge, view: PduView): void {
    this.#note(edge, edge.side === "initiator" ? "I<" : ">T", view);
    if (edge.side === "target") {
      this.#targetRules(edge.wire).onReceived(edge, view);
      return;
    }
    this.#initiators.get(edge.wire)?.onReceived(edge, view);
    const isEnd = view.opcode === Op.loginResponse && view.isFinal && view.u8(36) === 0 && (view.u8(1) & 3) === 3;
    if (isEnd && this.#fences.get(edge.wire) === "reinstatement") this.#count("fenced by reinstatement");
    const isDone = view.opcode === Op.taskManagementResponse && view.u8(2) === 0;
    if (isDone && this.#fences.get(edge.wire) === "reset") this.#count("fenced by reset");
  }

  onClosed(edge: Edge): void {
    this.#trace.note(`connection ${edge.wire.id} closed for the ${edge.side}`);
    if (edge.side === "initiator") this.#initiators.get(edge.wire)?.onClosed(edge);
  }

  /** ISIDs that the node has used: one for each path, whatever happened to its processes. */
  isidsOf(node: string): number {
    return [...this.#homes].filter(([, route]) => route.node === node).length;
  }

  finish(): void {
    for (const rules of this.#initiators.values()) rules.finish();
  }

  #targetRules(wire: Wire): TargetRules {
    let rules = this.#targets.get(wire);
    if (rules === undefined) {
      rules = new TargetRules(this.#findings);
      this.#targets.set(wire, rules);
    }
    return rules;
  }

  #note(edge: Edge, arrow: string, view: PduView): void {
    this.#trace.pdu(`${edge.wire.id}${arrow}`, view.bytes.subarray(0, 48), () => describe(view));
  }

  #onLogin(wire: Wire, view: PduView): void {
    if (this.#seenLogin.has(wire)) return;
    this.#seenLogin.add(wire);
    const route = this.#network().routeOf(wire);
    // Discovery sessions have an ISID for themselves.
    if (view.pairs().some(([key, value]) => key === "SessionType" && value === "Discovery")) return;
    const key = `${route.node} ${view.bytes.toString("hex", 8, 14)}`;
    const home = this.#homes.get(key);
    if (home === undefined) {
      this.#homes.set(key, route);
      return;
    }
    if ((home.portal === route.portal && home.source === route.source) || isImpostors(wire.portal)) return;
    const isSameGroup = this.#groupOf(home.portal) === this.#groupOf(route.portal);
    this.#fences.set(wire, isSameGroup ? "reinstatement" : "reset");
  }

  #onManagement(wire: Wire, view: PduView): void {
    const what = view.u8(1) & 0x7f;
    if (what !== LUN_RESET) return;
    this.#trace.note(`LUN RESET over connection ${wire.id}`);
  }

  #onCommand(view: PduView): void {
    const opcode = view.u8(32);
    const action = view.u8(33) & 0x1f;
    if (opcode === MAINTENANCE_OUT && action === SET_TARGET_PORT_GROUPS) this.#count("states set by an initiator");
    if (opcode === PERSISTENT_RESERVE_OUT && (action === PREEMPT || action === PREEMPT_AND_ABORT)) {
      this.#count("unit preempted");
    }
  }

  #count(kind: PathRecoveryKind): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.#trace.note(`recovery: ${kind}`);
  }
}

function describe(view: PduView): string {
  if (view.opcode !== Op.command || view.tag === NONE) return view.describe();
  return `${view.describe()} cdb=${view.bytes.toString("hex", 32, 48)}`;
}
