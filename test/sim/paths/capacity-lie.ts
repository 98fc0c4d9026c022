import { BLOCK_BYTES } from "../disk-model.js";
import { Op, type PduView } from "../pdu-view.js";
import type { Edge, Wire } from "../wire.js";

const READ_CAPACITY_10 = 0x25;
const SERVICE_ACTION_IN_16 = 0x9e;
const READ_CAPACITY_16 = 0x10;

/** An array one of whose portals has not heard yet that the unit has grown. */
export class CapacityLie {
  readonly #oldBlocks: number;
  readonly #asked = new Map<Wire, Map<number, number>>();
  #portal: string | undefined;

  constructor(oldBlocks: number) {
    this.#oldBlocks = oldBlocks;
  }

  get isTold(): boolean {
    return this.#portal !== undefined;
  }

  /** Which portal still tells the old capacity. */
  get portal(): string | undefined {
    return this.#portal;
  }

  get oldBytes(): number {
    return this.#oldBlocks * BLOCK_BYTES;
  }

  begin(portal: string): void {
    this.#portal = portal;
  }

  end(): void {
    this.#portal = undefined;
  }

  /** What becomes of a PDU; see Tamper. */
  apply(edge: Edge, pdu: PduView): readonly PduView[] | undefined {
    if (edge.side === "initiator") {
      this.#remember(edge.wire, pdu);
      return undefined;
    }
    if (pdu.opcode !== Op.dataIn || this.#portal === undefined || edge.wire.portal !== this.#portal) return undefined;
    const opcode = this.#asked.get(edge.wire)?.get(pdu.tag);
    if (opcode === undefined || pdu.bufferOffset !== 0 || pdu.dataLength < 8) return undefined;
    const copy = pdu.copy();
    if (opcode === READ_CAPACITY_10) copy.data.writeUInt32BE(this.#oldBlocks - 1, 0);
    else copy.data.writeBigUInt64BE(BigInt(this.#oldBlocks - 1), 0);
    return [copy.seal()];
  }

  #remember(wire: Wire, pdu: PduView): void {
    if (pdu.opcode !== Op.command) return;
    const opcode = pdu.u8(32);
    const isCapacity =
      opcode === READ_CAPACITY_10 || (opcode === SERVICE_ACTION_IN_16 && (pdu.u8(33) & 0x1f) === READ_CAPACITY_16);
    const tags = this.#asked.get(wire) ?? new Map<number, number>();
    this.#asked.set(wire, tags);
    if (isCapacity) tags.set(pdu.tag, opcode);
    else tags.delete(pdu.tag);
  }
}
