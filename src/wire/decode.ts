import { Opcode } from "./constants.js";
import { fieldInvalid, ProtocolError } from "./errors.js";
import { ahsLengthBytes, dataSegmentLengthBytes, OPCODE_MASK } from "./header.js";
import type { Pdu } from "./pdu.js";
import { readAsyncMessage } from "./pdus/async-message.js";
import { readLoginRequest, readLoginResponse } from "./pdus/login.js";
import { readLogoutRequest, readLogoutResponse } from "./pdus/logout.js";
import { readNopIn, readNopOut } from "./pdus/nop.js";
import { readReadyToTransfer } from "./pdus/ready-to-transfer.js";
import { readReject } from "./pdus/reject.js";
import { readScsiCommand, readScsiResponse } from "./pdus/scsi-command.js";
import { readScsiDataIn, readScsiDataOut } from "./pdus/scsi-data.js";
import { readSnackRequest } from "./pdus/snack-request.js";
import { readTaskManagementRequest, readTaskManagementResponse } from "./pdus/task-management.js";
import { readTextRequest, readTextResponse } from "./pdus/text.js";

/**
 * One whole PDU as a value (RFC 7143 §11). `header` is the 48-byte basic header, `ahs` all additional header
 * segments, `data` the data segment without padding; their lengths agree with the header. Nothing of `header` or
 * `ahs` is kept; `data` becomes the PDU's own `data`, unchanged.
 *
 * Every rule that can be checked without knowing the session is checked. Reserved bits are ignored (§11), and so are
 * fields that the RFC draws as a constant without saying more: the F bit of PDUs that are always final, the task tag
 * of Reject and Asynchronous Message. Throws ProtocolError: `PDU_FIELD_INVALID` for a format error (§7.7),
 * `OPCODE_UNKNOWN` for an opcode nobody assigned, `PDU_LENGTH_MISMATCH` when `ahs` or `data` is not what the header
 * announces.
 */
export function decodePdu(header: Buffer, ahs: Buffer | undefined, data: Buffer): Pdu {
  const opcode = header.readUInt8(0) & OPCODE_MASK;
  checkLengths(opcode, header, ahs, data);
  switch (opcode) {
    case Opcode.scsiDataIn:
      return readScsiDataIn(header, data);
    case Opcode.scsiResponse:
      return readScsiResponse(header, data);
    case Opcode.scsiCommand:
      return readScsiCommand(header, ahs, data);
    case Opcode.scsiDataOut:
      return readScsiDataOut(header, data);
    case Opcode.readyToTransfer:
      return readReadyToTransfer(header);
    case Opcode.nopOut:
      return readNopOut(header, data);
    case Opcode.nopIn:
      return readNopIn(header, data);
    case Opcode.taskManagementRequest:
      return readTaskManagementRequest(header);
    case Opcode.taskManagementResponse:
      return readTaskManagementResponse(header);
    case Opcode.loginRequest:
      return readLoginRequest(header, data);
    case Opcode.loginResponse:
      return readLoginResponse(header, data);
    case Opcode.textRequest:
      return readTextRequest(header, data);
    case Opcode.textResponse:
      return readTextResponse(header, data);
    case Opcode.logoutRequest:
      return readLogoutRequest(header);
    case Opcode.logoutResponse:
      return readLogoutResponse(header);
    case Opcode.snackRequest:
      return readSnackRequest(header);
    case Opcode.asyncMessage:
      return readAsyncMessage(header, data);
    case Opcode.reject:
      return readReject(header, data);
    default:
      throw new ProtocolError("OPCODE_UNKNOWN", `opcode 0x${opcode.toString(16).padStart(2, "0")} is not assigned`, {
        section: "RFC 7143 §11.2.1.2",
        opcode,
      });
  }
}

function checkLengths(opcode: number, header: Buffer, ahs: Buffer | undefined, data: Buffer): void {
  const ahsBytes = ahsLengthBytes(header);
  if (ahsBytes !== 0 && opcode !== Opcode.scsiCommand) {
    throw fieldInvalid(opcode, "11.2.1.5", `TotalAHSLength is ${ahsBytes} bytes in a PDU that has no AHS`);
  }
  if (ahsBytes !== (ahs?.length ?? 0) || dataSegmentLengthBytes(header) !== data.length) {
    throw new ProtocolError(
      "PDU_LENGTH_MISMATCH",
      "the header segments and the data segment are not as long as the header says",
      { section: "RFC 7143 §11.2.1", opcode },
    );
  }
}
