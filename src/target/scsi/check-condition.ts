import { AppError } from "../../base/errors.js";
import { SenseKey } from "../../scsi/sense.js";

export { SenseKey } from "../../scsi/sense.js";
export { ScsiStatus as Status } from "../../scsi/status.js";

/** A sense key with its additional sense code and qualifier in one number: 0xAABB is ASC AA, ASCQ BB. */
export interface SenseCode {
  readonly key: number;
  readonly asc: number;
}

/** The conditions the device server reports; names are SPC-5 Annex F's. */
export const Condition = {
  noSense: { key: SenseKey.noSense, asc: 0x0000 },
  unrecoveredReadError: { key: SenseKey.mediumError, asc: 0x1100 },
  writeError: { key: SenseKey.mediumError, asc: 0x0c00 },
  parameterListLengthError: { key: SenseKey.illegalRequest, asc: 0x1a00 },
  miscompare: { key: SenseKey.miscompare, asc: 0x1d00 },
  invalidOpcode: { key: SenseKey.illegalRequest, asc: 0x2000 },
  lbaOutOfRange: { key: SenseKey.illegalRequest, asc: 0x2100 },
  invalidFieldInCdb: { key: SenseKey.illegalRequest, asc: 0x2400 },
  logicalUnitNotSupported: { key: SenseKey.illegalRequest, asc: 0x2500 },
  invalidFieldInParameterList: { key: SenseKey.illegalRequest, asc: 0x2600 },
  tooManyTargetDescriptors: { key: SenseKey.illegalRequest, asc: 0x2606 },
  unsupportedTargetDescriptor: { key: SenseKey.illegalRequest, asc: 0x2607 },
  tooManySegmentDescriptors: { key: SenseKey.illegalRequest, asc: 0x2608 },
  unsupportedSegmentDescriptor: { key: SenseKey.illegalRequest, asc: 0x2609 },
  copyAborted: { key: SenseKey.copyAborted, asc: 0x0000 },
  unreachableCopyTarget: { key: SenseKey.copyAborted, asc: 0x0804 },
  copyTargetNotReachable: { key: SenseKey.copyAborted, asc: 0x0d02 },
  invalidReleaseOfReservation: { key: SenseKey.illegalRequest, asc: 0x2604 },
  writeProtected: { key: SenseKey.dataProtect, asc: 0x2700 },
  spaceAllocationFailed: { key: SenseKey.dataProtect, asc: 0x2707 },
  softwareWriteProtected: { key: SenseKey.dataProtect, asc: 0x2702 },
  powerOn: { key: SenseKey.unitAttention, asc: 0x2900 },
  busDeviceReset: { key: SenseKey.unitAttention, asc: 0x2903 },
  nexusLoss: { key: SenseKey.unitAttention, asc: 0x2907 },
  modeParametersChanged: { key: SenseKey.unitAttention, asc: 0x2a01 },
  accessStateChanged: { key: SenseKey.unitAttention, asc: 0x2a06 },
  reservationsPreempted: { key: SenseKey.unitAttention, asc: 0x2a03 },
  reservationsReleased: { key: SenseKey.unitAttention, asc: 0x2a04 },
  registrationsPreempted: { key: SenseKey.unitAttention, asc: 0x2a05 },
  capacityChanged: { key: SenseKey.unitAttention, asc: 0x2a09 },
  commandSequenceError: { key: SenseKey.illegalRequest, asc: 0x2c00 },
  commandsClearedByAnotherInitiator: { key: SenseKey.unitAttention, asc: 0x2f00 },
  sanitizeFailed: { key: SenseKey.mediumError, asc: 0x3103 },
  savingNotSupported: { key: SenseKey.illegalRequest, asc: 0x3900 },
  mediumNotPresent: { key: SenseKey.notReady, asc: 0x3a00 },
  reportedLunsChanged: { key: SenseKey.unitAttention, asc: 0x3f0e },
  initializingCommandRequired: { key: SenseKey.notReady, asc: 0x0402 },
  becomingReady: { key: SenseKey.notReady, asc: 0x0401 },
  accessStateTransition: { key: SenseKey.notReady, asc: 0x040a },
  targetPortInStandby: { key: SenseKey.notReady, asc: 0x040b },
  targetPortUnavailable: { key: SenseKey.notReady, asc: 0x040c },
  offline: { key: SenseKey.notReady, asc: 0x0412 },
  sanitizeInProgress: { key: SenseKey.notReady, asc: 0x041b },
  internalTargetFailure: { key: SenseKey.hardwareError, asc: 0x4400 },
  overlappedCommands: { key: SenseKey.abortedCommand, asc: 0x4e00 },
  unexpectedUnsolicitedData: { key: SenseKey.abortedCommand, asc: 0x0c0c },
  notEnoughUnsolicitedData: { key: SenseKey.abortedCommand, asc: 0x0c0d },
  protocolServiceCrcError: { key: SenseKey.abortedCommand, asc: 0x4705 },
  commandsClearedByProtocolEvent: { key: SenseKey.unitAttention, asc: 0x477f },
  insufficientRegistrationResources: { key: SenseKey.illegalRequest, asc: 0x5504 },
  insufficientResources: { key: SenseKey.illegalRequest, asc: 0x5503 },
} as const satisfies Readonly<Record<string, SenseCode>>;

export interface SenseExtras {
  /** The INFORMATION field: an LBA or an offset. */
  readonly information?: number;
  /** Byte 15-17 of fixed sense, for a field pointer or a progress indication. */
  readonly keySpecific?: Buffer;
}

/** Ends a command with CHECK CONDITION and this sense. Thrown by commands, answered by the device server. */
export class CheckCondition extends AppError {
  readonly condition: SenseCode;
  readonly extras: SenseExtras;

  constructor(condition: SenseCode, extras: SenseExtras = {}) {
    super("target", "SCSI_CHECK_CONDITION", `check condition ${condition.key.toString(16)}/${hex4(condition.asc)}`);
    this.condition = condition;
    this.extras = extras;
  }
}

/** Ends a command with a status other than CHECK CONDITION. */
export class CommandStatus extends AppError {
  readonly status: number;

  constructor(status: number) {
    super("target", "SCSI_STATUS", `status 0x${status.toString(16)}`);
    this.status = status;
  }
}

/** INVALID FIELD IN CDB that points at the byte (and its bit) at fault, SPC-5 §4.5.2.4.2. */
export function invalidCdbField(byte: number, bit?: number): CheckCondition {
  return new CheckCondition(Condition.invalidFieldInCdb, { keySpecific: fieldPointer(true, byte, bit) });
}

/** INVALID FIELD IN PARAMETER LIST that points at the byte at fault. */
export function invalidParameterField(byte: number, bit?: number): CheckCondition {
  return new CheckCondition(Condition.invalidFieldInParameterList, { keySpecific: fieldPointer(false, byte, bit) });
}

function fieldPointer(isInCdb: boolean, byte: number, bit: number | undefined): Buffer {
  const flags = 0x80 | (isInCdb ? 0x40 : 0) | (bit === undefined ? 0 : 0x08 | bit);
  return Buffer.from([flags, byte >>> 8, byte & 0xff]);
}

/** Sense-key-specific progress: `fraction` of the work done, SPC-5 §4.5.2.4.4. */
export function progress(fraction: number): Buffer {
  const value = Math.max(0, Math.min(0xffff, Math.floor(fraction * 0x1_0000)));
  return Buffer.from([0x80, value >>> 8, value & 0xff]);
}

/** Sense data in the format the control mode page asks for: descriptor (SPC-5 §4.5.2) or fixed (§4.5.3). */
export function encodeSense(condition: SenseCode, extras: SenseExtras, isDescriptorFormat: boolean): Buffer {
  return isDescriptorFormat ? encodeDescriptorSense(condition, extras) : encodeFixedSense(condition, extras);
}

function encodeFixedSense(condition: SenseCode, extras: SenseExtras): Buffer {
  const sense = Buffer.alloc(18);
  sense[0] = 0x70;
  sense[2] = condition.key;
  sense[7] = 10;
  sense.writeUInt16BE(condition.asc, 12);
  if (extras.information !== undefined && extras.information <= 0xffff_ffff) {
    sense[0] = 0xf0;
    sense.writeUInt32BE(extras.information, 3);
  }
  extras.keySpecific?.copy(sense, 15);
  return sense;
}

function encodeDescriptorSense(condition: SenseCode, extras: SenseExtras): Buffer {
  const descriptors: Buffer[] = [];
  if (extras.information !== undefined) {
    const information = Buffer.from([0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    information.writeUInt32BE(Math.floor(extras.information / 0x1_0000_0000), 4);
    information.writeUInt32BE(extras.information >>> 0, 8);
    descriptors.push(information);
  }
  if (extras.keySpecific !== undefined) {
    const specific = Buffer.from([0x02, 0x06, 0, 0, 0, 0, 0, 0]);
    extras.keySpecific.copy(specific, 4);
    descriptors.push(specific);
  }
  const body = Buffer.concat(descriptors);
  const header = Buffer.from([0x72, condition.key, condition.asc >>> 8, condition.asc & 0xff, 0, 0, 0, body.length]);
  return Buffer.concat([header, body]);
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, "0");
}
