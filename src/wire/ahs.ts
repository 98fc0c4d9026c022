import { AhsType, Opcode } from "./constants.js";
import { fieldInvalid } from "./errors.js";
import { paddingBytes } from "./header.js";
import type { ScsiCommandPdu } from "./pdu.js";

/**
 * Additional header segments, RFC 7143 §11.2.2. Only a SCSI Command carries them.
 *
 *     0 AHSLength (2 bytes) | AHSType | first specific byte (reserved in both kinds)
 *     4 the rest, padded to words
 *
 * AHSLength counts from byte 3, so a segment takes 3 + AHSLength bytes before padding.
 */

/** CDB bytes that fit in the basic header, §11.3.5. */
export const CDB_FIELD_BYTES = 16;

const AHS_FIXED_BYTES = 3;
const BIDIRECTIONAL_AHS_LENGTH = 5;

export interface AdditionalHeaders {
  /** CDB bytes from the seventeenth on: a view into the AHS bytes. */
  readonly cdbRest?: Buffer;
  readonly bidirectionalReadLength?: number;
}

/** Bytes of all AHS that `pdu` needs: a multiple of 4. */
export function ahsBytesOf(pdu: ScsiCommandPdu): number {
  const restBytes = pdu.cdb.length - CDB_FIELD_BYTES;
  const extendedBytes = restBytes > 0 ? 4 + restBytes + paddingBytes(restBytes) : 0;
  return extendedBytes + (pdu.bidirectionalReadLength === undefined ? 0 : 8);
}

/** Writes the AHS of `pdu` at `offset`, where the bytes are zero. */
export function writeAhs(pdu: ScsiCommandPdu, bytes: Buffer, offset: number): void {
  let at = offset;
  const restBytes = pdu.cdb.length - CDB_FIELD_BYTES;
  if (restBytes > 0) {
    bytes.writeUInt16BE(restBytes + 1, at);
    bytes.writeUInt8(AhsType.extendedCdb, at + 2);
    pdu.cdb.copy(bytes, at + 4, CDB_FIELD_BYTES);
    at += 4 + restBytes + paddingBytes(restBytes);
  }
  if (pdu.bidirectionalReadLength !== undefined) {
    bytes.writeUInt16BE(BIDIRECTIONAL_AHS_LENGTH, at);
    bytes.writeUInt8(AhsType.bidirectionalReadLength, at + 2);
    bytes.writeUInt32BE(pdu.bidirectionalReadLength, at + 4);
  }
}

/**
 * Reads the AHS list of a SCSI Command. Throws ProtocolError for a segment that leaves the list, a wrong length, a
 * kind that comes twice, or a reserved type (§11: "receipt of reserved code values in defined fields MUST be
 * reported as a protocol error").
 */
export function readAhs(ahs: Buffer): AdditionalHeaders {
  let cdbRest: Buffer | undefined;
  let bidirectionalReadLength: number | undefined;
  let at = 0;
  while (at < ahs.length) {
    if (at + 4 > ahs.length) throw ahsInvalid("11.2.2", "an additional header segment is cut short");
    const ahsLength = ahs.readUInt16BE(at);
    const end = at + AHS_FIXED_BYTES + ahsLength;
    if (end > ahs.length) {
      throw ahsInvalid("11.2.2.2", `AHSLength ${ahsLength} leaves the ${ahs.length} bytes of TotalAHSLength`);
    }
    // Bits 0 and 1 of the type are reserved: not to be looked at.
    const type = ahs.readUInt8(at + 2) & 0x3f;
    if (type === AhsType.extendedCdb) {
      if (cdbRest !== undefined) throw ahsInvalid("11.2.2.3", "two extended CDBs in one command");
      if (ahsLength < 2) throw ahsInvalid("11.2.2.3", `an extended CDB with AHSLength ${ahsLength} has no CDB bytes`);
      cdbRest = ahs.subarray(at + 4, end);
    } else if (type === AhsType.bidirectionalReadLength) {
      if (bidirectionalReadLength !== undefined) throw ahsInvalid("11.2.2.4", "two bidirectional read lengths");
      if (ahsLength !== BIDIRECTIONAL_AHS_LENGTH) {
        throw ahsInvalid("11.2.2.4", `a bidirectional read length has AHSLength ${ahsLength} and must have 5`);
      }
      bidirectionalReadLength = ahs.readUInt32BE(at + 4);
    } else {
      throw ahsInvalid("11.2.2.1", `AHS type ${type} is reserved`);
    }
    at = end + paddingBytes(end);
  }
  return {
    ...(cdbRest === undefined ? {} : { cdbRest }),
    ...(bidirectionalReadLength === undefined ? {} : { bidirectionalReadLength }),
  };
}

function ahsInvalid(section: string, message: string): Error {
  return fieldInvalid(Opcode.scsiCommand, section, message);
}
