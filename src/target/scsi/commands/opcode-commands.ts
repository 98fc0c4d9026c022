import { byteAt } from "../cdb-fields.js";
import { invalidCdbField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";

/** What an initiator may wait for one command: nominal time unknown, recommended 60 s (SPC-5 §6.35.4). */
const RECOMMENDED_TIMEOUT_SECONDS = 60;

function timeoutsDescriptor(): Buffer {
  const descriptor = Buffer.alloc(12);
  descriptor.writeUInt16BE(10, 0);
  descriptor.writeUInt32BE(RECOMMENDED_TIMEOUT_SECONDS, 8);
  return descriptor;
}

function listAll(specs: readonly CommandSpec[], hasTimeouts: boolean): Buffer {
  const descriptors = specs.map((spec) => {
    const descriptor = Buffer.alloc(8);
    descriptor[0] = spec.opcode;
    descriptor.writeUInt16BE(spec.serviceAction ?? 0, 2);
    descriptor[5] = (spec.serviceAction === undefined ? 0 : 1) | (hasTimeouts ? 2 : 0);
    descriptor.writeUInt16BE(spec.usage.length / 2, 6);
    return hasTimeouts ? Buffer.concat([descriptor, timeoutsDescriptor()]) : descriptor;
  });
  const body = Buffer.concat(descriptors);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length, 0);
  return Buffer.concat([header, body]);
}

function describeOne(spec: CommandSpec | undefined, hasTimeouts: boolean): Buffer {
  if (spec === undefined) return Buffer.from([0, 1, 0, 0]);
  const usage = Buffer.from(spec.usage, "hex");
  if (spec.serviceAction !== undefined) usage[1] = (byteAt(usage, 1) & 0xe0) | spec.serviceAction;
  const header = Buffer.from([0, 3 | (hasTimeouts ? 0x80 : 0), usage.length >>> 8, usage.length & 0xff]);
  return Buffer.concat(hasTimeouts ? [header, usage, timeoutsDescriptor()] : [header, usage]);
}

function execute(command: ScsiCommand): Buffer {
  const { cdb, unit } = command;
  const hasTimeouts = (byteAt(cdb, 2) & 0x80) !== 0;
  const opcode = byteAt(cdb, 3);
  const action = cdb.readUInt16BE(4);
  const allocation = cdb.readUInt32BE(6);
  const specs = command.allSpecs.filter((spec) => spec.isAvailable?.(unit) ?? true);
  const ofOpcode = specs.filter((spec) => spec.opcode === opcode);
  const hasActions = ofOpcode.some((spec) => spec.serviceAction !== undefined);
  const exact = ofOpcode.find((spec) => spec.serviceAction === action);
  switch (byteAt(cdb, 2) & 7) {
    case 0:
      return command.cut(listAll(specs, hasTimeouts), allocation);
    case 1:
      if (hasActions) throw invalidCdbField(2, 2);
      return command.cut(describeOne(ofOpcode[0], hasTimeouts), allocation);
    case 2:
      if (ofOpcode.length > 0 && !hasActions) throw invalidCdbField(2, 2);
      return command.cut(describeOne(exact, hasTimeouts), allocation);
    case 3:
      return command.cut(
        describeOne(hasActions ? exact : action === 0 ? ofOpcode[0] : undefined, hasTimeouts),
        allocation,
      );
    default:
      throw invalidCdbField(2, 2);
  }
}

/** REPORT SUPPORTED OPERATION CODES, SPC-5 §6.35. */
export const OPCODE_COMMANDS: readonly CommandSpec[] = [
  {
    name: "REPORT SUPPORTED OPERATION CODES",
    opcode: 0xa3,
    serviceAction: 0x0c,
    usage: "a31f87ffffffffffffff0000",
    reservation: "always",
    changesMedium: false,
    needsMedium: false,
    execute,
  },
];
