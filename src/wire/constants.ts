/** Numbers of RFC 7143 §11.2. */

export const BHS_BYTES = 48;

/** §11.2.1.2. Initiator opcodes 0x00-0x1f, target opcodes 0x20-0x3f. */
export const Opcode = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  taskManagementRequest: 0x02,
  loginRequest: 0x03,
  textRequest: 0x04,
  scsiDataOut: 0x05,
  logoutRequest: 0x06,
  snackRequest: 0x10,
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagementResponse: 0x22,
  loginResponse: 0x23,
  textResponse: 0x24,
  scsiDataIn: 0x25,
  logoutResponse: 0x26,
  readyToTransfer: 0x31,
  asyncMessage: 0x32,
  reject: 0x3f,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

/** The reserved tag: "no task", "no transfer" (§11.2.1.8, §11.7.4). */
export const RESERVED_TAG = 0xffff_ffff;

/** §11.5.1 and RFC 7144 §4.2. */
export const TaskManagementFunction = {
  abortTask: 1,
  abortTaskSet: 2,
  clearAca: 3,
  clearTaskSet: 4,
  logicalUnitReset: 5,
  targetWarmReset: 6,
  targetColdReset: 7,
  taskReassign: 8,
  queryTask: 9,
  queryTaskSet: 10,
  iTNexusReset: 11,
  queryAsyncEvent: 12,
} as const;
export type TaskManagementFunction = (typeof TaskManagementFunction)[keyof typeof TaskManagementFunction];

/** §11.6.1. */
export const TaskManagementResponseCode = {
  functionComplete: 0,
  taskDoesNotExist: 1,
  lunDoesNotExist: 2,
  taskStillAllegiant: 3,
  reassignmentNotSupported: 4,
  functionNotSupported: 5,
  authorizationFailed: 6,
  functionSucceeded: 7,
  functionRejected: 255,
} as const;

/** §11.17.1. */
export const RejectReason = {
  dataDigestError: 0x02,
  snackReject: 0x03,
  protocolError: 0x04,
  commandNotSupported: 0x05,
  immediateCommandReject: 0x06,
  taskInProgress: 0x07,
  invalidDataAck: 0x08,
  invalidPduField: 0x09,
  longOperationReject: 0x0a,
  deprecatedNegotiationReset: 0x0b,
  waitingForLogout: 0x0c,
} as const;

/** §11.9.1 and RFC 7144 §5.1. */
export const AsyncEvent = {
  scsiAsync: 0,
  logoutRequested: 1,
  connectionWillDrop: 2,
  allConnectionsWillDrop: 3,
  renegotiate: 4,
  fastAbort: 5,
  vendorSpecific: 255,
} as const;

/** §11.14.1. */
export const LogoutReason = { closeSession: 0, closeConnection: 1, recovery: 2 } as const;

/** §11.3.1. */
export const TaskAttribute = { untagged: 0, simple: 1, ordered: 2, headOfQueue: 3, aca: 4 } as const;
export type TaskAttribute = (typeof TaskAttribute)[keyof typeof TaskAttribute];

/** §11.12.3. */
export const LoginStage = { securityNegotiation: 0, operationalNegotiation: 1, fullFeature: 3 } as const;
export type LoginStage = (typeof LoginStage)[keyof typeof LoginStage];

/** §11.16.1. */
export const SnackType = { dataOrR2t: 0, status: 1, dataAck: 2, rData: 3 } as const;
export type SnackType = (typeof SnackType)[keyof typeof SnackType];

/** AHS types, §11.2.2.1. */
export const AhsType = { extendedCdb: 1, bidirectionalReadLength: 2 } as const;
