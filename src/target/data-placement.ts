import { Opcode } from "../wire/constants.js";
import type { ScsiCommandPdu, ScsiDataOutPdu } from "../wire/pdu.js";
import type { BufferPool } from "./buffer-pool.js";
import type { ConnectionSlot } from "./connection-slot.js";
import { findPlace } from "./data-out.js";
import type { TargetTask } from "./task.js";

/** Up to this length the buffer of a write is allocated when its command arrives, before the CDB is looked at. */
const MAX_EAGER_WRITE_BYTES = 1_048_576;

export interface DataPlacementDependencies {
  readonly pool: BufferPool;
  /** The task with this tag, if there is one that has not ended. */
  readonly task: (initiatorTaskTag: number) => TargetTask | undefined;
  /** Nothing is received into the task's buffer any more. */
  readonly onSettled: (task: TargetTask) => void;
}

/** Finds where the data that an initiator sends goes, so that it is copied once. */
export class DataPlacement {
  readonly #deps: DataPlacementDependencies;

  constructor(dependencies: DataPlacementDependencies) {
    this.#deps = dependencies;
  }

  /** Where a data segment goes: straight into the task's buffer, or a new one as large as the whole write. */
  place(slot: ConnectionSlot, header: Buffer, lengthBytes: number): Buffer | undefined {
    const opcode = header.readUInt8(0) & 0x3f;
    if (opcode === Opcode.scsiDataOut) {
      const task = this.#deps.task(header.readUInt32BE(16));
      if (task?.slot !== slot) return undefined;
      const place = findPlace(task, header.readUInt32BE(20), header.readUInt32BE(40), lengthBytes);
      if (place === undefined) return undefined;
      slot.placedTask = task;
      task.isBeingPlaced = true;
      return place;
    }
    if (opcode !== Opcode.scsiCommand) return undefined;
    const expectedBytes = header.readUInt32BE(20);
    if (expectedBytes < lengthBytes || expectedBytes > MAX_EAGER_WRITE_BYTES) return undefined;
    slot.placed = this.#deps.pool.acquire(expectedBytes);
    return slot.placed;
  }

  /**
   * Copies the data of a Data-Out PDU that was not received into its task's buffer, since there was no such task when
   * its header came, or another one (`receivedFor`).
   */
  put(slot: ConnectionSlot, pdu: ScsiDataOutPdu, receivedFor: TargetTask | undefined): void {
    const task = this.#deps.task(pdu.initiatorTaskTag);
    if (task === receivedFor || task?.slot !== slot) return;
    const place = findPlace(task, pdu.targetTransferTag, pdu.bufferOffset, pdu.data.length);
    if (place !== undefined) pdu.data.copy(place);
  }

  /** The PDU that `place` gave a task's buffer to is over, or never will be. */
  settle(slot: ConnectionSlot): void {
    const task = slot.placedTask;
    slot.placedTask = undefined;
    if (task === undefined) return;
    task.isBeingPlaced = false;
    this.#deps.onSettled(task);
  }

  /** A buffer for all that a write takes that begins with its immediate data; takes over `placed`, where that lies. */
  writeBuffer(task: TargetTask, pdu: ScsiCommandPdu, placed: Buffer | undefined): Buffer {
    const length = task.transferBytes;
    if (placed !== undefined && placed.length >= length) {
      task.command?.adopt(placed);
      return placed.length === length ? placed : placed.subarray(0, length);
    }
    const buffer = task.command?.allocate(length) ?? Buffer.alloc(length);
    pdu.data.copy(buffer);
    if (placed !== undefined) this.#deps.pool.release(placed);
    return buffer;
  }
}
