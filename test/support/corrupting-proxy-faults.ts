import type { CutPdu, PduKind } from "./corrupting-proxy-pdus.js";

export type Fault =
  /** One bit of the data segment; PDUs without one are passed over. */
  | "flip-data"
  /** One bit of the data digest; PDUs without one are passed over. */
  | "flip-data-digest"
  /** One bit of the basic header segment. */
  | "flip-header"
  /** One bit of the header digest; PDUs without one are passed over. */
  | "flip-header-digest"
  /** The PDU is not passed on. */
  | "drop"
  /** Half of the PDU is passed on, then both sockets are reset. */
  | "cut"
  /** From this PDU on nothing more is passed on in its direction, while the connection stays open. */
  | "stall";

export interface FaultRule {
  readonly kind: PduKind;
  readonly fault: Fault;
  /** The first PDU that is hit, and the distance to the next ones, counted over all connections. */
  readonly every?: number;
  /** Instead of `every`: the probability for each PDU. */
  readonly rate?: number;
  /** The rule ends after so many hits; default never. */
  readonly most?: number;
}

/** A sequence that a seed repeats (xorshift, 32 bits). */
export class SeededSequence {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** A whole number from 0 up to `bound`, excluded. */
  below(bound: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % bound;
  }
}

function isPossible(fault: Fault, pdu: CutPdu): boolean {
  switch (fault) {
    case "flip-data":
      return pdu.dataBytes > 0;
    case "flip-data-digest":
      return pdu.dataDigestAt !== undefined;
    case "flip-header-digest":
      return pdu.headerDigestAt !== undefined;
    case "flip-header":
    case "drop":
    case "cut":
    case "stall":
      return true;
  }
}

interface RuleState {
  readonly rule: FaultRule;
  seen: number;
  hits: number;
}

/** Decides, by rules, what is done to which PDU, and counts it. */
export class FaultPlan {
  readonly #random: SeededSequence;
  #rules: RuleState[] = [];
  readonly #counts = new Map<string, number>();

  constructor(rules: readonly FaultRule[], seed: number) {
    this.#random = new SeededSequence(seed);
    this.setRules(rules);
  }

  /** Replaces the rules; their counting starts at 0, the counts of what was done go on. */
  setRules(rules: readonly FaultRule[]): void {
    this.#rules = rules.map((rule) => ({ rule, seen: 0, hits: 0 }));
  }

  /** Done so far, by `kind fault`. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#counts].sort());
  }

  /** The fault for `pdu`, by the first rule that hits it. */
  faultFor(pdu: CutPdu): Fault | undefined {
    for (const state of this.#rules) {
      const { kind, fault, most } = state.rule;
      const isKind = kind === pdu.kind || (kind === "scsi-command" && pdu.kind === "immediate-data");
      if (!isKind || !isPossible(fault, pdu) || (most !== undefined && state.hits >= most)) continue;
      state.seen += 1;
      if (!this.#isHit(state)) continue;
      state.hits += 1;
      const name = `${kind} ${fault}`;
      this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
      return fault;
    }
    return undefined;
  }

  /** Changes `pdu.bytes` in place where the fault flips a bit; else does nothing. */
  corrupt(pdu: CutPdu, fault: Fault): void {
    switch (fault) {
      case "flip-data": {
        this.#flip(pdu.bytes, pdu.dataAt, pdu.dataBytes);
        return;
      }
      case "flip-data-digest": {
        this.#flip(pdu.bytes, pdu.dataDigestAt ?? 0, 4);
        return;
      }
      case "flip-header": {
        this.#flip(pdu.bytes, 0, 48);
        return;
      }
      case "flip-header-digest": {
        this.#flip(pdu.bytes, pdu.headerDigestAt ?? 0, 4);
        return;
      }
      case "drop":
      case "cut":
      case "stall":
        return;
    }
  }

  #isHit(state: RuleState): boolean {
    const { every, rate } = state.rule;
    if (rate !== undefined) return this.#random.below(1_000_000) < rate * 1_000_000;
    return state.seen % (every ?? 1) === 0;
  }

  #flip(bytes: Buffer, at: number, lengthBytes: number): void {
    const position = at + this.#random.below(lengthBytes);
    bytes.writeUInt8(bytes.readUInt8(position) ^ (1 << this.#random.below(8)), position);
  }
}
