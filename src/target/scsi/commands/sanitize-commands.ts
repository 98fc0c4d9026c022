import { byteAt } from "../cdb-fields.js";
import { CheckCondition, Condition, invalidCdbField } from "../check-condition.js";
import type { CommandSpec, ScsiCommand } from "../command.js";
import type { LogicalUnit } from "../logical-unit.js";

/** Blocks are erased in pieces of this size, so that progress can be told. */
const ERASE_PIECE_BYTES = 1_073_741_824;

/** No parameter list, and none of the reserved bits: what erases everything is not to be understood half. */
function requireNoParameters(command: ScsiCommand): number {
  if ((byteAt(command.cdb, 1) & 0x40) !== 0) throw invalidCdbField(1, 6);
  for (let byte = 2; byte <= 6; byte += 1) if (byteAt(command.cdb, byte) !== 0) throw invalidCdbField(byte);
  if (command.cdb.readUInt16BE(7) !== 0) throw invalidCdbField(7);
  return 0;
}

/**
 * SANITIZE, BLOCK ERASE, SBC-4 §5.28: unmaps every block, so that all read as zeroes. It goes on whatever happens to
 * the task, as the standard demands. OVERWRITE and CRYPTO ERASE are not offered: on a volume that is a file, neither
 * reaches the blocks the data once lay on.
 */
async function executeBlockErase(command: ScsiCommand): Promise<undefined> {
  const { unit } = command;
  const isImmediate = (byteAt(command.cdb, 1) & 0x80) !== 0;
  unit.medium = { kind: "sanitizing", progress: 0 };
  const work = erase(unit);
  if (isImmediate) {
    // The outcome is in the unit's state, where REQUEST SENSE finds it.
    work.catch(() => undefined);
    return;
  }
  await work;
}

async function erase(unit: LogicalUnit): Promise<void> {
  const { ranges, blockCount, device, info } = unit;
  const locked = ranges.tryLock(0, blockCount, true) ?? (await ranges.wait(0, blockCount, true));
  try {
    for (let done = 0; done < info.sizeBytes; done += ERASE_PIECE_BYTES) {
      unit.medium = { kind: "sanitizing", progress: done / info.sizeBytes };
      const lengthBytes = Math.min(ERASE_PIECE_BYTES, info.sizeBytes - done);
      await device.writeZeroes({ offsetBytes: done, lengthBytes }, { mayUnmap: true });
    }
    await device.flush();
    unit.medium = { kind: "ready" };
  } catch {
    unit.medium = { kind: "sanitize-failed" };
    throw new CheckCondition(Condition.sanitizeFailed);
  } finally {
    ranges.unlock(locked);
  }
}

/** EXIT FAILURE MODE: a unit whose sanitize failed serves again, with whatever data it has. */
function executeExitFailureMode(command: ScsiCommand): undefined {
  const { unit } = command;
  if (unit.medium.kind === "sanitize-failed") unit.medium = { kind: "ready" };
  return undefined;
}

/** Can blocks be released, and do they read as zeroes then? */
export function canBlockErase(unit: LogicalUnit): boolean {
  return unit.info.canUnmap && unit.info.unmapReadsZeroes && unit.info.canWriteZeroes;
}

/** SBC-4 §5.28. */
export const SANITIZE_COMMANDS: readonly CommandSpec[] = [
  {
    name: "SANITIZE, BLOCK ERASE",
    opcode: 0x48,
    serviceAction: 0x02,
    usage: "48bf0000000000ffff00",
    reservation: "write",
    changesMedium: true,
    needsMedium: true,
    isAvailable: canBlockErase,
    dataOutBytes: requireNoParameters,
    execute: executeBlockErase,
  },
  {
    name: "SANITIZE, EXIT FAILURE MODE",
    opcode: 0x48,
    serviceAction: 0x1f,
    usage: "489f0000000000ffff00",
    reservation: "write",
    changesMedium: false,
    needsMedium: false,
    isAvailable: canBlockErase,
    dataOutBytes: requireNoParameters,
    execute: executeExitFailureMode,
  },
];
