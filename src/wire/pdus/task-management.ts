import { writeLun } from "../../base/lun.js";
import { Opcode, RESERVED_TAG, TaskManagementFunction, TaskManagementResponseCode } from "../constants.js";
import { fieldInvalid } from "../errors.js";
import {
  FINAL_BIT,
  IMMEDIATE_BIT,
  isImmediateHeader,
  lunOf,
  refuseData,
  taskTagOf,
  writeSequence,
  readU32,
  writeU32,
} from "../header.js";
import type { TaskManagementRequestPdu, TaskManagementResponsePdu } from "../pdu.js";

/** Task Management Function Request and Response, RFC 7143 §11.5 and §11.6 with RFC 7144 §6.3 and §6.4. */

const FUNCTION_MASK = 0x7f;

const responseCodes: ReadonlySet<number> = new Set(Object.values(TaskManagementResponseCode));

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeTaskManagementRequest(pdu: TaskManagementRequestPdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.taskManagementRequest | (pdu.isImmediate ? IMMEDIATE_BIT : 0);
  bytes[offset + 1] = FINAL_BIT | (pdu.function & FUNCTION_MASK);
  writeLun(pdu.lun, bytes, offset + 8);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeU32(bytes, offset + 20, pdu.referencedTaskTag);
  writeU32(bytes, offset + 24, pdu.cmdSn);
  writeU32(bytes, offset + 28, pdu.expStatSn);
  writeU32(bytes, offset + 32, pdu.refCmdSn);
  writeU32(bytes, offset + 36, pdu.expDataSn);
}

/** An unassigned function is not refused here: the target answers it with "not supported" (§11.6.1, code 5). */
export function readTaskManagementRequest(header: Buffer): TaskManagementRequestPdu {
  refuseData(header, "11.5.2");
  const isImmediate = isImmediateHeader(header);
  const taskFunction = header.readUInt8(1) & FUNCTION_MASK;
  const referencedTaskTag = readU32(header, 20);
  checkReferencedTask(taskFunction, referencedTaskTag);
  if (taskFunction === TaskManagementFunction.taskReassign && !isImmediate) {
    throw requestInvalid("11.5.1", "TASK REASSIGN must be issued as an immediate command");
  }
  return {
    type: "task-management-request",
    isImmediate,
    function: taskFunction,
    lun: lunOf(header),
    initiatorTaskTag: taskTagOf(header),
    referencedTaskTag,
    cmdSn: readU32(header, 24),
    expStatSn: readU32(header, 28),
    refCmdSn: readU32(header, 32),
    expDataSn: readU32(header, 36),
  };
}

function checkReferencedTask(taskFunction: number, referencedTaskTag: number): void {
  switch (taskFunction) {
    case TaskManagementFunction.abortTask:
    case TaskManagementFunction.taskReassign:
    case TaskManagementFunction.queryTask:
      if (referencedTaskTag === RESERVED_TAG) {
        throw requestInvalid("11.5.4", `function ${taskFunction} names no task`);
      }
      return;
    case TaskManagementFunction.abortTaskSet:
    case TaskManagementFunction.clearAca:
    case TaskManagementFunction.clearTaskSet:
    case TaskManagementFunction.logicalUnitReset:
    case TaskManagementFunction.targetWarmReset:
    case TaskManagementFunction.targetColdReset:
    case TaskManagementFunction.queryTaskSet:
    case TaskManagementFunction.iTNexusReset:
    case TaskManagementFunction.queryAsyncEvent:
      if (referencedTaskTag !== RESERVED_TAG) {
        throw requestInvalid("11.5.4", `function ${taskFunction} must have the referenced task tag 0xffffffff`);
      }
      return;
    default:
      return;
  }
}

function requestInvalid(section: string, message: string): Error {
  return fieldInvalid(Opcode.taskManagementRequest, section, message);
}

/** Writes the basic header without lengths. The bytes at `offset` are zero. */
export function writeTaskManagementResponse(pdu: TaskManagementResponsePdu, bytes: Buffer, offset: number): void {
  bytes[offset] = Opcode.taskManagementResponse;
  bytes[offset + 1] = FINAL_BIT;
  bytes.writeUInt8(pdu.response, offset + 2);
  bytes.writeUIntBE(pdu.additionalResponse, offset + 8, 3);
  writeU32(bytes, offset + 16, pdu.initiatorTaskTag);
  writeSequence(pdu, bytes, offset);
}

/** Throws ProtocolError for a response code that neither RFC assigns. */
export function readTaskManagementResponse(header: Buffer): TaskManagementResponsePdu {
  refuseData(header, "11.6.2");
  const response = header.readUInt8(2);
  if (!responseCodes.has(response)) {
    throw fieldInvalid(Opcode.taskManagementResponse, "11.6.1", `response code ${response} is not assigned`);
  }
  return {
    type: "task-management-response",
    response,
    initiatorTaskTag: taskTagOf(header),
    additionalResponse: header.readUIntBE(8, 3),
    statSn: readU32(header, 24),
    expCmdSn: readU32(header, 28),
    maxCmdSn: readU32(header, 32),
  };
}
