import { byteAt } from "../cdb-fields.js";
import { invalidCdbField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";
import type { LogicalUnit } from "../logical-unit.js";
import type { Nexus } from "../nexus.js";
import { ATOMIC_MAX_BLOCKS } from "./block-commands.js";
import { canBlockErase } from "./sanitize-commands.js";
import { MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME_BLOCKS } from "./thin-commands.js";

const VENDOR = "HAWSER";

/** SAM-5, SPC-4, SBC-3, iSCSI: the version descriptors of SPC-5 Table 142. */
const VERSION_DESCRIPTORS = [0x00a0, 0x0460, 0x04c0];

/** RFC 7144 §4.2: the descriptor of iSCSI is this one and the negotiated iSCSIProtocolLevel. */
const ISCSI_VERSION_DESCRIPTOR = 0x0960;

/** ASCII, left-aligned, blank-padded, unprintable characters replaced (SPC-5 §4.3.1). */
export function ascii(text: string, lengthBytes: number): Buffer {
  const printable = text.replace(/[^\x20-\x7e]/g, "?").slice(0, lengthBytes);
  return Buffer.from(printable.padEnd(lengthBytes, " "), "latin1");
}

/** Standard INQUIRY data, SPC-5 §6.6.2. */
export function standardInquiry(unit: LogicalUnit, nexus: Nexus): Buffer {
  const { identity } = unit.info;
  const { accessStates } = unit;
  const data = Buffer.alloc(96);
  data[0] = peripheralQualifier(unit, nexus);
  data[2] = 0x06;
  data[3] = 0x12; // HISUP, response data format 2
  data[4] = data.length - 5;
  // 3PC: EXTENDED COPY; TPGS: the target changes access states (01b), and initiators may too (11b).
  data[5] = 0x08 | (accessStates.isExplicit ? 0x30 : 0x10);
  if (accessStates.portCount > 1) data[6] = 0x10; // MULTIP
  data[7] = 0x02; // CMDQUE
  ascii(identity.vendor === "" ? VENDOR : identity.vendor, 8).copy(data, 8);
  ascii(identity.product === "" ? "VOLUME" : identity.product, 16).copy(data, 16);
  ascii(identity.revision === "" ? "1" : identity.revision, 4).copy(data, 32);
  const versions = [...VERSION_DESCRIPTORS, ISCSI_VERSION_DESCRIPTOR + (nexus.iscsiProtocolLevel ?? 0)];
  versions.forEach((version, index) => data.writeUInt16BE(version, 58 + 2 * index));
  return data;
}

/** SPC-5 §5.18.2.4.5: at an unavailable port the unit is supported, but not there (001b); else it is (000b). */
function peripheralQualifier(unit: LogicalUnit, nexus: Nexus): number {
  return unit.accessStates.stateOf(nexus.relativePortId) === "unavailable" ? 0x20 : 0;
}

/** INQUIRY data of a LUN that has no unit: qualifier 011b, type 1Fh (SPC-5 §6.6.2). */
export function absentInquiry(): Buffer {
  const data = Buffer.alloc(36);
  data[0] = 0x7f;
  data[2] = 0x06;
  data[3] = 0x12;
  data[4] = data.length - 5;
  ascii(VENDOR, 8).copy(data, 8);
  ascii("", 20).copy(data, 16);
  return data;
}

function designator(codeSet: number, association: number, type: number, value: Buffer): Buffer {
  const isIscsiPort = association !== 0;
  const header = [(isIscsiPort ? 0x50 : 0) | codeSet, (isIscsiPort ? 0x80 : 0) | (association << 4) | type, 0];
  return Buffer.concat([Buffer.from([...header, value.length]), value]);
}

/** NUL-terminated UTF-8, padded to a multiple of four (SPC-5 §7.7.6.10). */
function scsiName(text: string): Buffer {
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([bytes, Buffer.alloc(4 - (bytes.length % 4))]);
}

function relativePort(port: number): Buffer {
  return Buffer.from([0, 0, port >>> 8, port & 0xff]);
}

/** Device identification, SPC-5 §7.7.6: the unit's names first, then those of the target port and the target. */
function deviceIdentification(unit: LogicalUnit, nexus: Nexus, targetName: string): Buffer {
  const portName = `${targetName},t,0x${nexus.relativePortId.toString(16).padStart(4, "0")}`;
  const vendorName = Buffer.concat([ascii(VENDOR, 8), Buffer.from(unit.serial, "latin1")]);
  return Buffer.concat([
    designator(1, 0, 3, unit.naa),
    designator(2, 0, 1, vendorName.subarray(0, 252)),
    designator(1, 1, 4, relativePort(nexus.relativePortId)),
    // One port is one group: the portal group's tag numbers both.
    designator(1, 1, 5, relativePort(nexus.relativePortId)),
    designator(3, 1, 8, scsiName(portName)),
    designator(3, 2, 8, scsiName(targetName)),
  ]);
}

/** Extended INQUIRY data, SPC-5 §7.7.7: no protection, simple, ordered and head-of-queue tasks, LU reset events. */
function extendedInquiry(): Buffer {
  const data = Buffer.alloc(60);
  data[1] = 0x07; // byte 5: SIMPSUP, ORDSUP, HEADSUP
  data[2] = 0x01; // byte 6: V_SUP, a volatile cache may be there
  return data;
}

/** Block limits, SBC-4 §6.6.3. */
function blockLimits(unit: LogicalUnit): Buffer {
  const { info, blockBytes } = unit;
  const data = Buffer.alloc(60);
  data[0] = 0x01; // WSNZ
  data[1] = Math.min(255, unit.maxTransferBlocks); // MAXIMUM COMPARE AND WRITE LENGTH
  data.writeUInt16BE(Math.max(1, info.physicalBlockBytes / blockBytes), 2);
  data.writeUInt32BE(unit.maxTransferBlocks, 4);
  data.writeUInt32BE(Math.floor(info.optimalTransferBytes / blockBytes), 8);
  if (info.canUnmap) {
    data.writeUInt32BE(0xffff_ffff, 16);
    data.writeUInt32BE(MAX_UNMAP_DESCRIPTORS, 20);
    data.writeUInt32BE(Math.max(1, info.unmapGranularityBytes / blockBytes), 24);
    data.writeUInt32BE(0x8000_0000, 28); // UGAVALID, alignment 0
  }
  data.writeUInt32BE(MAX_WRITE_SAME_BLOCKS, 36);
  if (unit.hasAtomicWrites) data.writeUInt32BE(ATOMIC_MAX_BLOCKS, 40);
  return data;
}

/** Block device characteristics, SBC-4 §6.6.2: not rotating, no form factor. */
function blockCharacteristics(unit: LogicalUnit): Buffer {
  const data = Buffer.alloc(60);
  data.writeUInt16BE(1, 0);
  if (canBlockErase(unit)) data[3] = 0x40; // WABEREQ 01b: erased blocks can be read
  data[4] = 0x02; // FUAB: SYNCHRONIZE CACHE reaches the medium
  return data;
}

/** Logical block provisioning, SBC-4 §6.6.7. */
function logicalBlockProvisioning(unit: LogicalUnit): Buffer {
  const { canUnmap, unmapReadsZeroes } = unit.info;
  const data = Buffer.alloc(4);
  if (canUnmap) {
    data[1] = 0x80 | 0x40 | 0x20 | (unmapReadsZeroes ? 0x04 : 0); // LBPU, LBPWS, LBPWS10, LBPRZ
    data[2] = 0x02; // thin provisioned
  } else {
    data[2] = 0x01;
  }
  return data;
}

const SUPPORTED_PAGES = [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2];

function vpdPage(command: ScsiCommand, page: number): Buffer {
  const { unit, nexus } = command;
  const body = ((): Buffer => {
    switch (page) {
      case 0x00:
        return Buffer.from(SUPPORTED_PAGES);
      case 0x80:
        return Buffer.from(unit.serial, "latin1").subarray(0, 252);
      case 0x83:
        return deviceIdentification(unit, nexus, unit.targetName);
      case 0x86:
        return extendedInquiry();
      case 0xb0:
        return blockLimits(unit);
      case 0xb1:
        return blockCharacteristics(unit);
      case 0xb2:
        return logicalBlockProvisioning(unit);
      default:
        throw invalidCdbField(2);
    }
  })();
  const qualifier = peripheralQualifier(unit, nexus);
  return Buffer.concat([Buffer.from([qualifier, page, body.length >>> 8, body.length & 0xff]), body]);
}

function executeInquiry(command: ScsiCommand): Buffer {
  const { cdb } = command;
  const page = byteAt(cdb, 2);
  const hasVpd = (byteAt(cdb, 1) & 1) !== 0;
  if ((byteAt(cdb, 1) & 2) !== 0) throw invalidCdbField(1, 1);
  if (!hasVpd && page !== 0) throw invalidCdbField(2);
  return command.cut(
    hasVpd ? vpdPage(command, page) : standardInquiry(command.unit, command.nexus),
    cdb.readUInt16BE(3),
  );
}

/** SPC-5 §6.6. */
export const INQUIRY_COMMANDS: readonly CommandSpec[] = [
  {
    name: "INQUIRY",
    opcode: 0x12,
    usage: "1201ffffff00",
    reservation: "always",
    changesMedium: false,
    needsMedium: false,
    execute: executeInquiry,
  },
];
