/** Operation codes of SPC-5 and SBC-4 that Hawser sends or serves. */
export const ScsiOpcode = {
  testUnitReady: 0x00,
  requestSense: 0x03,
  read6: 0x08,
  write6: 0x0a,
  inquiry: 0x12,
  modeSelect6: 0x15,
  reserve6: 0x16,
  release6: 0x17,
  modeSense6: 0x1a,
  startStopUnit: 0x1b,
  preventAllowMediumRemoval: 0x1e,
  readCapacity10: 0x25,
  read10: 0x28,
  write10: 0x2a,
  writeAndVerify10: 0x2e,
  verify10: 0x2f,
  preFetch10: 0x34,
  synchronizeCache10: 0x35,
  readDefectData10: 0x37,
  writeSame10: 0x41,
  unmap: 0x42,
  sanitize: 0x48,
  modeSelect10: 0x55,
  modeSense10: 0x5a,
  persistentReserveIn: 0x5e,
  persistentReserveOut: 0x5f,
  extendedCopy: 0x83,
  receiveCopyResults: 0x84,
  read16: 0x88,
  compareAndWrite: 0x89,
  write16: 0x8a,
  orWrite16: 0x8b,
  writeAndVerify16: 0x8e,
  verify16: 0x8f,
  preFetch16: 0x90,
  synchronizeCache16: 0x91,
  writeSame16: 0x93,
  writeAtomic16: 0x9c,
  serviceActionIn16: 0x9e,
  reportLuns: 0xa0,
  maintenanceIn: 0xa3,
  maintenanceOut: 0xa4,
  read12: 0xa8,
  write12: 0xaa,
  writeAndVerify12: 0xae,
  verify12: 0xaf,
  readDefectData12: 0xb7,
} as const;
export type ScsiOpcode = (typeof ScsiOpcode)[keyof typeof ScsiOpcode];

/** Service actions of SERVICE ACTION IN(16). */
export const ServiceActionIn16 = { readCapacity16: 0x10, getLbaStatus: 0x12 } as const;

/** Service actions of MAINTENANCE IN. */
export const MaintenanceIn = {
  reportTargetPortGroups: 0x0a,
  reportSupportedOperationCodes: 0x0c,
  reportSupportedTaskManagementFunctions: 0x0d,
} as const;

/** Service actions of MAINTENANCE OUT. */
export const MaintenanceOut = { setTargetPortGroups: 0x0a } as const;

/** Service actions of PERSISTENT RESERVE IN, SPC-5 §6.16. */
export const PersistentReserveInAction = {
  readKeys: 0,
  readReservation: 1,
  reportCapabilities: 2,
  readFullStatus: 3,
} as const;
export type PersistentReserveInAction = (typeof PersistentReserveInAction)[keyof typeof PersistentReserveInAction];

/** Service actions of PERSISTENT RESERVE OUT, SPC-5 §6.17. */
export const PersistentReserveOutAction = {
  register: 0,
  reserve: 1,
  release: 2,
  clear: 3,
  preempt: 4,
  preemptAndAbort: 5,
  registerAndIgnoreExistingKey: 6,
  registerAndMove: 7,
  replaceLostReservation: 8,
} as const;
export type PersistentReserveOutAction = (typeof PersistentReserveOutAction)[keyof typeof PersistentReserveOutAction];

/** Persistent reservation types, SPC-5 §6.16.3.4. */
export const ReservationType = {
  writeExclusive: 1,
  exclusiveAccess: 3,
  writeExclusiveRegistrantsOnly: 5,
  exclusiveAccessRegistrantsOnly: 6,
  writeExclusiveAllRegistrants: 7,
  exclusiveAccessAllRegistrants: 8,
} as const;
export type ReservationType = (typeof ReservationType)[keyof typeof ReservationType];

const names: ReadonlyMap<number, string> = new Map(
  Object.entries(ScsiOpcode).map(([key, opcode]) => [opcode, spell(key)] as const),
);

const serviceActionNames: ReadonlyMap<number, string> = new Map([
  [(ScsiOpcode.serviceActionIn16 << 8) | ServiceActionIn16.readCapacity16, "READ CAPACITY(16)"],
  [(ScsiOpcode.serviceActionIn16 << 8) | ServiceActionIn16.getLbaStatus, "GET LBA STATUS"],
  [(ScsiOpcode.maintenanceIn << 8) | MaintenanceIn.reportTargetPortGroups, "REPORT TARGET PORT GROUPS"],
  [(ScsiOpcode.maintenanceIn << 8) | MaintenanceIn.reportSupportedOperationCodes, "REPORT SUPPORTED OPERATION CODES"],
  [
    (ScsiOpcode.maintenanceIn << 8) | MaintenanceIn.reportSupportedTaskManagementFunctions,
    "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
  ],
  [(ScsiOpcode.maintenanceOut << 8) | MaintenanceOut.setTargetPortGroups, "SET TARGET PORT GROUPS"],
]);

/** The standard's name of the command in `cdb` (`READ(16)`, `REPORT LUNS`), or its opcode in hexadecimal. */
export function commandName(cdb: Buffer): string {
  const opcode = cdb[0] ?? 0;
  const byAction = serviceActionNames.get((opcode << 8) | ((cdb[1] ?? 0) & 0x1f));
  return byAction ?? names.get(opcode) ?? `opcode 0x${opcode.toString(16).padStart(2, "0")}`;
}

/** `synchronizeCache16` → `SYNCHRONIZE CACHE(16)`. */
function spell(key: string): string {
  const [, words = key, size] = /^(.*?)(\d+)?$/.exec(key) ?? [];
  const spaced = words.replace(/[A-Z]/g, " $&").toUpperCase().replace("OR WRITE", "ORWRITE").replace("PRE ", "PRE-");
  return size === undefined ? spaced : `${spaced}(${size})`;
}
