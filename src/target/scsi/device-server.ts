import { errorCode } from "../../base/errors.js";
import type { Logger } from "../../base/logger.js";
import { lunFromNumber, lunToNumber, writeLun, type Lun } from "../../base/lun.js";
import type { BufferPool } from "../buffer-pool.js";
import { checkAccess } from "./access-check.js";
import { byteAt } from "./cdb-fields.js";
import {
  CheckCondition,
  CommandStatus,
  Condition,
  encodeSense,
  invalidCdbField,
  progress,
  Status,
  type SenseCode,
  type SenseExtras,
} from "./check-condition.js";
import { ScsiCommand, type CommandSpec, type ScsiCommandDependencies } from "./command.js";
import { ACCESS_COMMANDS } from "./commands/access-commands.js";
import { BLOCK_COMMANDS } from "./commands/block-commands.js";
import { COPY_COMMANDS } from "./commands/copy-commands.js";
import { absentInquiry, INQUIRY_COMMANDS } from "./commands/inquiry-commands.js";
import { MODE_COMMANDS } from "./commands/mode-commands.js";
import { OPCODE_COMMANDS } from "./commands/opcode-commands.js";
import { PRIMARY_COMMANDS } from "./commands/primary-commands.js";
import { RESERVATION_COMMANDS } from "./commands/reservation-commands.js";
import { SANITIZE_COMMANDS } from "./commands/sanitize-commands.js";
import { THIN_COMMANDS } from "./commands/thin-commands.js";
import type { LogicalUnit } from "./logical-unit.js";
import type { Nexus } from "./nexus.js";

/** What a command ends with. `dataIn` belongs to the command's buffers: send it before `release`. */
export interface ScsiOutcome {
  readonly status: number;
  readonly sense?: Buffer;
  readonly dataIn?: Buffer;
}

export interface ScsiRequest {
  readonly lun: Lun;
  readonly nexus: Nexus;
  readonly cdb: Buffer;
  readonly announcedOutBytes: number;
}

/** A command that passed the checks before execution, or the outcome it got instead. */
export type Admission =
  | { readonly kind: "admitted"; readonly command: ScsiCommand; readonly dataOutBytes: number }
  | { readonly kind: "finished"; readonly outcome: ScsiOutcome };

const REPORT_LUNS: CommandSpec = {
  name: "REPORT LUNS",
  opcode: 0xa0,
  usage: "a000ff000000ffffffff0000",
  reservation: "always",
  changesMedium: false,
  needsMedium: false,
  execute: (command) => {
    command.unit.attentions.clearReportedLuns(command.nexus.id);
    return reportLuns(command.cdb, command.units);
  },
};

const SPECS: readonly CommandSpec[] = [
  ...PRIMARY_COMMANDS,
  ...ACCESS_COMMANDS,
  ...INQUIRY_COMMANDS,
  REPORT_LUNS,
  ...MODE_COMMANDS,
  ...OPCODE_COMMANDS,
  ...BLOCK_COMMANDS,
  ...THIN_COMMANDS,
  ...RESERVATION_COMMANDS,
  ...COPY_COMMANDS,
  ...SANITIZE_COMMANDS,
];

/** By opcode: the command itself, or its service actions. */
const SPEC_BY_OPCODE: readonly (CommandSpec | ReadonlyMap<number, CommandSpec> | undefined)[] = Array.from(
  { length: 256 },
  (_, opcode) => {
    const found = SPECS.filter((spec) => spec.opcode === opcode);
    if (found[0]?.serviceAction === undefined) return found[0];
    return new Map(found.map((spec) => [spec.serviceAction ?? 0, spec]));
  },
);

/** REPORT LUNS, SPC-5 §6.33: the units' LUNs; there are no well-known ones. */
function reportLuns(cdb: Buffer, units: ReadonlyMap<number, LogicalUnit>): Buffer {
  const select = byteAt(cdb, 2);
  if (select > 2) throw invalidCdbField(2);
  const numbers = select === 1 ? [] : [...units.keys()].sort((a, b) => a - b);
  const data = Buffer.alloc(8 + 8 * numbers.length);
  data.writeUInt32BE(8 * numbers.length, 0);
  numbers.forEach((number, index) => writeLun(lunFromNumber(number), data, 8 + 8 * index));
  const allocation = cdb.readUInt32BE(6);
  return data.length <= allocation ? data : data.subarray(0, allocation);
}

/** The SCSI device of one target: finds unit and command, applies the rules every command obeys, runs it. */
export class DeviceServer {
  readonly #logger: Logger;
  readonly #commandDependencies: ScsiCommandDependencies;
  readonly #units: ReadonlyMap<number, LogicalUnit>;

  constructor(
    options: { readonly units: ReadonlyMap<number, LogicalUnit> },
    dependencies: { readonly pool: BufferPool; readonly logger: Logger },
  ) {
    this.#units = options.units;
    this.#logger = dependencies.logger;
    this.#commandDependencies = { pool: dependencies.pool, allSpecs: SPECS, units: options.units };
  }

  unit(lun: Lun): LogicalUnit | undefined {
    const number = lunToNumber(lun);
    return number === undefined ? undefined : this.#units.get(number);
  }

  /**
   * The checks of SAM-5 and SPC-5 that come before execution: unit, opcode, attention, access state, reservation,
   * medium, CDB.
   */
  admit(request: ScsiRequest): Admission {
    const unit = this.unit(request.lun);
    try {
      if (unit === undefined) return { kind: "finished", outcome: this.#withoutUnit(request) };
      const spec = findSpec(request.cdb, unit);
      this.#checkAttention(unit, request);
      checkAccess(unit.accessStates.stateOf(request.nexus.relativePortId), spec);
      checkReservation(unit, request.nexus, spec);
      checkMedium(unit, spec);
      const options = {
        unit,
        spec,
        nexus: request.nexus,
        cdb: request.cdb,
        announcedOutBytes: request.announcedOutBytes,
      };
      const command = new ScsiCommand(options, this.#commandDependencies);
      return { kind: "admitted", command, dataOutBytes: spec.dataOutBytes?.(command) ?? 0 };
    } catch (error) {
      return { kind: "finished", outcome: this.#failure(error, unit) };
    }
  }

  /** Runs an admitted command whose Data-Out has arrived; never rejects. */
  async execute(command: ScsiCommand): Promise<ScsiOutcome> {
    try {
      const dataIn = await command.spec.execute(command);
      return dataIn === undefined ? { status: Status.good } : { status: Status.good, dataIn };
    } catch (error) {
      return this.#failure(error, command.unit);
    }
  }

  /** The outcome for a condition found outside the device server, such as a data digest error. */
  conditionOutcome(unit: LogicalUnit | undefined, condition: SenseCode, extras: SenseExtras = {}): ScsiOutcome {
    const isDescriptorFormat = unit?.usesDescriptorSense ?? false;
    return { status: Status.checkCondition, sense: encodeSense(condition, extras, isDescriptorFormat) };
  }

  #withoutUnit(request: ScsiRequest): ScsiOutcome {
    const { cdb } = request;
    switch (byteAt(cdb, 0)) {
      case 0x12: {
        if ((byteAt(cdb, 1) & 3) !== 0 || byteAt(cdb, 2) !== 0) break;
        return { status: Status.good, dataIn: absentInquiry().subarray(0, cdb.readUInt16BE(3)) };
      }
      case 0xa0:
        return { status: Status.good, dataIn: reportLuns(cdb, this.#units) };
      case 0x03: {
        const sense = encodeSense(Condition.logicalUnitNotSupported, {}, (byteAt(cdb, 1) & 1) !== 0);
        return { status: Status.good, dataIn: sense.subarray(0, byteAt(cdb, 4)) };
      }
    }
    return this.conditionOutcome(undefined, Condition.logicalUnitNotSupported);
  }

  /** A pending unit attention ends any command but INQUIRY, REPORT LUNS and REQUEST SENSE (SAM-5 §5.14). */
  #checkAttention(unit: LogicalUnit, request: ScsiRequest): void {
    if (unit.attentions.isEmpty) return;
    const opcode = byteAt(request.cdb, 0);
    if (opcode === 0x12 || opcode === 0xa0 || opcode === 0x03) return;
    const condition = unit.attentions.take(request.nexus.id);
    if (condition !== undefined) throw new CheckCondition(condition);
  }

  #failure(error: unknown, unit: LogicalUnit | undefined): ScsiOutcome {
    if (error instanceof CheckCondition) return this.conditionOutcome(unit, error.condition, error.extras);
    if (error instanceof CommandStatus) return { status: error.status };
    switch (errorCode(error)) {
      case "BLOCK_NO_SPACE":
        return this.conditionOutcome(unit, Condition.spaceAllocationFailed);
      case "BLOCK_READ_ONLY":
        return this.conditionOutcome(unit, Condition.writeProtected);
      case "BLOCK_INVALID_RANGE":
        return this.conditionOutcome(unit, Condition.lbaOutOfRange);
      case "BLOCK_RESERVATION_CONFLICT":
        return { status: Status.reservationConflict };
      case "BLOCK_UNAVAILABLE":
        return this.conditionOutcome(unit, Condition.becomingReady);
      case "BLOCK_IO":
        this.#logger.error("the device behind a logical unit failed", { lun: unit?.number, error });
        return this.conditionOutcome(unit, Condition.unrecoveredReadError);
      default:
        this.#logger.error("a SCSI command failed inside the target", { lun: unit?.number, error });
        return this.conditionOutcome(unit, Condition.internalTargetFailure);
    }
  }
}

function findSpec(cdb: Buffer, unit: LogicalUnit): CommandSpec {
  const found = SPEC_BY_OPCODE[byteAt(cdb, 0)];
  if (found === undefined) throw new CheckCondition(Condition.invalidOpcode);
  const spec =
    found instanceof Map
      ? (found as ReadonlyMap<number, CommandSpec>).get(byteAt(cdb, 1) & 0x1f)
      : (found as CommandSpec);
  if (spec === undefined) throw invalidCdbField(1, 4);
  if (spec.isAvailable !== undefined && !spec.isAvailable(unit)) throw new CheckCondition(Condition.invalidOpcode);
  const controlByte = byteAt(cdb, spec.usage.length / 2 - 1);
  if ((controlByte & 0x04) !== 0) throw invalidCdbField(spec.usage.length / 2 - 1, 2); // NACA: ACA is not supported
  return spec;
}

function checkReservation(unit: LogicalUnit, nexus: Nexus, spec: CommandSpec): void {
  const isOther = unit.legacyHolder !== undefined && unit.legacyHolder !== nexus.id;
  if (isOther && spec.reservation !== "always" && !(spec.reservation === "own" && spec.name.startsWith("RELEASE"))) {
    throw new CommandStatus(Status.reservationConflict);
  }
  if (!unit.reservations.allows(nexus.id, spec.reservation)) throw new CommandStatus(Status.reservationConflict);
}

function checkMedium(unit: LogicalUnit, spec: CommandSpec): void {
  if (spec.changesMedium && unit.isWriteProtected) {
    throw new CheckCondition(unit.info.isReadOnly ? Condition.writeProtected : Condition.softwareWriteProtected);
  }
  const { medium } = unit;
  if (medium.kind === "ready" || !spec.needsMedium) return;
  if (medium.kind === "sanitizing") {
    throw new CheckCondition(Condition.sanitizeInProgress, { keySpecific: progress(medium.progress) });
  }
  throw new CheckCondition(
    medium.kind === "stopped" ? Condition.initializingCommandRequired : Condition.sanitizeFailed,
  );
}
