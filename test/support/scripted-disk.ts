import { encodeReadCapacity10, encodeReadCapacity16 } from "../../src/scsi/capacity.js";
import { encodeDeviceIdentification } from "../../src/scsi/designators.js";
import { encodeInquiry } from "../../src/scsi/inquiry.js";
import { encodeLbaStatus } from "../../src/scsi/lba-status.js";
import { encodeCachingPage, encodeModeData } from "../../src/scsi/mode.js";
import { decodeUnmapList } from "../../src/scsi/unmap.js";
import {
  encodeBlockLimits,
  encodeLogicalBlockProvisioning,
  encodeSupportedPages,
  encodeUnitSerialNumber,
} from "../../src/scsi/vpd.js";
import type { Pdu, ScsiCommandPdu } from "../../src/wire/pdu.js";
import type { ScriptedConnection } from "./scripted-target.js";
import { sense } from "./session-fixture.js";

const BLOCK = 512;
/** Bytes asked for with one R2T. */
const MAX_BURST = 2048;
const INVALID_COMMAND = sense(5, 0x20, 0);
const INVALID_FIELD = sense(5, 0x24, 0);

/** The field of the PDU has 16 bytes; the opcode says how many of them are the CDB. */
function wholeCdb({ cdb }: ScsiCommandPdu): Buffer {
  const lengths = [6, 10, 10, 16, 16, 12, 16, 16];
  return cdb.subarray(0, lengths[cdb[0]! >>> 5]);
}

/** A disk behind a scripted target: answers the commands Hawser sends, and what a test wants it to answer instead. */
export class ScriptedDisk {
  /** NAA name, type 6: 32 digits. */
  naa = "60014050000000000000000000000001";
  serial = "disk-1";
  blocks = 2048;
  blockBytes = BLOCK;
  supportsDpoFua = true;
  isWriteProtected = false;
  isWriteCacheEnabled = true;
  isProvisioned = true;
  supportsWriteSame = true;
  supportsReadCapacity16 = true;
  deviceType = 0;
  maxUnmapBlocks = 1024;
  maxUnmapDescriptors = 4;
  /** Results for the next commands, of any kind or of one opcode; taken in order. */
  readonly nextResults: { readonly opcode?: number; readonly status: number; readonly sense?: Buffer }[] = [];
  /** Commands carried out, in order. */
  readonly commands: Buffer[] = [];
  readonly data: Buffer = Buffer.alloc(2048 * BLOCK);
  readonly #outgoing = new Map<
    number,
    { readonly command: ScsiCommandPdu; readonly parts: Buffer[]; requests: number }
  >();

  /** For `ScriptedTargetOptions.onPdu`. */
  readonly onPdu = (connection: ScriptedConnection, pdu: Pdu): void => {
    if (pdu.type === "scsi-command") this.#begin(connection, pdu);
    else if (pdu.type === "scsi-data-out") this.#continue(connection, pdu.initiatorTaskTag, pdu.data, pdu.isFinal);
    else if (pdu.type === "logout-request") {
      connection.send({
        type: "logout-response",
        response: 0,
        initiatorTaskTag: pdu.initiatorTaskTag,
        time2Wait: 0,
        time2Retain: 0,
      });
    } else if (pdu.type === "nop-out" && pdu.initiatorTaskTag !== 0xffff_ffff) {
      connection.send({
        type: "nop-in",
        lun: pdu.lun,
        initiatorTaskTag: pdu.initiatorTaskTag,
        targetTransferTag: 0xffff_ffff,
        data: Buffer.alloc(0),
      });
    }
  };

  /** How often a command with this opcode was carried out. */
  count(opcode: number): number {
    return this.commands.filter((cdb) => cdb[0] === opcode).length;
  }

  #begin(connection: ScriptedConnection, command: ScsiCommandPdu): void {
    const index = this.nextResults.findIndex(({ opcode }) => opcode === undefined || opcode === command.cdb[0]);
    const [planned] = index < 0 ? [] : this.nextResults.splice(index, 1);
    if (planned !== undefined) {
      connection.respond(command, {
        status: planned.status,
        ...(planned.sense === undefined ? {} : { sense: planned.sense }),
      });
      return;
    }
    this.#outgoing.set(command.initiatorTaskTag, { command, parts: [command.data], requests: 0 });
    this.#continue(connection, command.initiatorTaskTag, Buffer.alloc(0), command.isFinal);
  }

  #continue(connection: ScriptedConnection, tag: number, data: Buffer, isLastOfBurst: boolean): void {
    const entry = this.#outgoing.get(tag)!;
    entry.parts.push(data);
    const { command, parts } = entry;
    const received = parts.reduce((sum, part) => sum + part.length, 0);
    if (command.isWrite && received < command.expectedDataTransferLength) {
      if (!isLastOfBurst) return;
      const length = Math.min(command.expectedDataTransferLength - received, MAX_BURST);
      connection.readyToTransfer(command, { r2tSn: entry.requests, offset: received, length, tag: tag ^ 0x55 });
      entry.requests += 1;
      return;
    }
    this.#outgoing.delete(tag);
    this.commands.push(wholeCdb(command));
    this.#carryOut(connection, command, Buffer.concat(parts));
  }

  #carryOut(connection: ScriptedConnection, command: ScsiCommandPdu, out: Buffer): void {
    const result = this.#resultOf(wholeCdb(command), out);
    if (result.sense !== undefined) connection.respond(command, { status: 2, sense: result.sense });
    else if (result.data === undefined) connection.respond(command);
    else this.#answer(connection, command, result.data);
  }

  #resultOf(cdb: Buffer, out: Buffer): { readonly data?: Buffer; readonly sense?: Buffer } {
    const lba = cdb.length === 16 ? cdb.readUInt32BE(6) : cdb.length === 10 ? cdb.readUInt32BE(2) : 0;
    const blocks = cdb.length === 16 ? cdb.readUInt32BE(10) : cdb.length === 10 ? cdb.readUInt16BE(7) : 0;
    const start = lba * BLOCK;
    switch (cdb[0]) {
      case 0x00:
      case 0x35:
      case 0x91:
        return {};
      case 0x12:
        return { data: cdb[1] === 1 ? this.#vpd(cdb[2]!) : this.#inquiry() };
      case 0x25:
        return { data: encodeReadCapacity10({ blocks: this.blocks, logicalBlockBytes: this.blockBytes }) };
      case 0x9e:
        if (cdb[1] === 0x12) {
          const status = lba < 8 ? "mapped" : "deallocated";
          return { data: encodeLbaStatus([{ lba, blocks: 8, status }]) };
        }
        return this.supportsReadCapacity16 ? { data: this.#capacity16() } : { sense: INVALID_COMMAND };
      case 0x5a:
        return {
          data: encodeModeData(
            {
              isWriteProtected: this.isWriteProtected,
              supportsDpoFua: this.supportsDpoFua,
              mediumType: 0,
              blockDescriptors: Buffer.alloc(0),
              pages: [encodeCachingPage({ isWriteCacheEnabled: this.isWriteCacheEnabled, isReadCacheDisabled: false })],
            },
            "mode10",
          ),
        };
      case 0x28:
      case 0x88:
        return { data: this.data.subarray(start, start + blocks * BLOCK) };
      case 0x2a:
      case 0x8a:
        out.copy(this.data, start);
        return {};
      case 0x93:
        if (!this.supportsWriteSame) return { sense: INVALID_COMMAND };
        for (let at = 0; at < blocks; at += 1) out.copy(this.data, start + at * BLOCK);
        return {};
      case 0x42:
        for (const range of decodeUnmapList(out)) {
          this.data.fill(0, range.lba * BLOCK, (range.lba + range.blocks) * BLOCK);
        }
        return {};
      default:
        return { sense: INVALID_COMMAND };
    }
  }

  /** As much as the initiator has room for; a residual for the rest. */
  #answer(connection: ScriptedConnection, command: ScsiCommandPdu, data: Buffer): void {
    const missing = command.expectedDataTransferLength - data.length;
    if (data.length === 0) {
      connection.respond(command, { status: 2, sense: INVALID_FIELD });
      return;
    }
    const cut = data.subarray(0, command.expectedDataTransferLength);
    connection.dataIn(command, { data: cut, status: 0, ...(missing > 0 ? { underflow: missing } : {}) });
  }

  #inquiry(): Buffer {
    return encodeInquiry({
      peripheralQualifier: 0,
      deviceType: this.deviceType,
      isRemovable: false,
      version: 6,
      targetPortGroupSupport: 0,
      supportsThirdPartyCopy: false,
      supportsProtection: false,
      hasMultiplePorts: false,
      supportsCommandQueuing: true,
      vendor: "TEST",
      product: "DISK",
      revision: "1",
      versionDescriptors: [],
    });
  }

  #vpd(page: number): Buffer {
    switch (page) {
      case 0x00:
        return encodeSupportedPages([0, 0x80, 0x83, 0xb0, 0xb2]);
      case 0x80:
        return encodeUnitSerialNumber(this.serial);
      case 0x83:
        return encodeDeviceIdentification([{ association: "logical-unit", kind: "naa", hex: this.naa }]);
      case 0xb0:
        return encodeBlockLimits({
          refusesZeroWriteSame: false,
          maxCompareAndWriteBlocks: 0,
          optimalGranularityBlocks: 0,
          maxTransferBlocks: 128,
          optimalTransferBlocks: 0,
          maxUnmapBlocks: this.maxUnmapBlocks,
          maxUnmapDescriptors: this.maxUnmapDescriptors,
          optimalUnmapGranularityBlocks: 8,
          maxWriteSameBlocks: 256,
          maxAtomicBlocks: 0,
          atomicAlignmentBlocks: 0,
          atomicGranularityBlocks: 0,
        });
      case 0xb2:
        return encodeLogicalBlockProvisioning({
          supportsUnmap: this.isProvisioned,
          supportsWriteSame16Unmap: this.isProvisioned,
          supportsWriteSame10Unmap: false,
          unmapReadsZeroes: true,
          supportsAnchor: false,
          type: "thin",
          thresholdExponent: 0,
        });
      default:
        return Buffer.alloc(0);
    }
  }

  #capacity16(): Buffer {
    return encodeReadCapacity16({
      blocks: this.blocks,
      logicalBlockBytes: this.blockBytes,
      physicalBlockExponent: 3,
      lowestAlignedLba: 0,
      isProvisioned: this.isProvisioned,
      unmapReadsZeroes: true,
      hasProtection: false,
    });
  }
}
