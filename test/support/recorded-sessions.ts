import { setTimeout as delay } from "node:timers/promises";
import type { ChapCredentials } from "../../src/base/access.js";
import { lunFromNumber } from "../../src/base/lun.js";
import { Secret } from "../../src/base/secret.js";
import { SystemRandom } from "../../src/base/system-random.js";
import { type IscsiLun, openIscsiLun } from "../../src/block/iscsi-lun.js";
import { discoverTargets } from "../../src/discovery/send-targets.js";
import { createIsid } from "../../src/initiator/isid.js";
import { read10, testUnitReady } from "../../src/scsi/cdb.js";
import type { SessionOptions } from "../../src/session/session-options.js";
import { Session } from "../../src/session/session.js";
import type { ScsiResult, ScsiTask } from "../../src/session/task.js";
import { type CapturedPdu, IscsiCapture } from "./iscsi-capture.js";
import { checkNumbering, countOpcodes, Opcode } from "./iscsi-rules.js";
import { realDependencies, verifyTransfers } from "./real-volume.js";

/** Real sessions of ours on the loopback interface, recorded, and judged by Wireshark and by arithmetic. */

export const HOST = "127.0.0.1";
const KIBIBYTE = 1024;
/** Every byte of the blocks that are written, with digests, many at a time. */
export const CONCURRENT_FILL = 0xa5;
export const DISK_BYTES = 32 << 20;
export const INITIATOR = "iqn.2026-11.test:capture";
const SIZES_BYTES = [512, 4096, 8192, 65_536, 66_048, 262_656, 1_048_576];
export const oneWay: ChapCredentials = { user: "host-user", secret: Secret.from("a secret of 20 bytes") };
export const mutual: ChapCredentials = {
  user: "host-user2",
  secret: Secret.from("a secret of 21 bytes!"),
  mutualUser: "disk-user",
  mutualSecret: Secret.from("another one 20 bytes"),
};
export const name = (suffix: string): string => `iqn.2026-11.test:${suffix}`;

export interface Place {
  readonly portal: { readonly host: string; readonly port: number };
  readonly targetName: string;
  readonly lun: number;
}

export type PlaceName = "plain" | "chap" | "mutual" | "asked" | "unasked" | "pinging";
type Places = Readonly<Record<PlaceName, Place>>;

export async function openSession(place: Place, more: Partial<SessionOptions> = {}): Promise<Session> {
  const { portal, targetName } = place;
  return Session.open(
    {
      ...{ portal, targetName, initiatorName: INITIATOR, isid: createIsid(new SystemRandom()) },
      ...{ headerDigest: "none", dataDigest: "none" },
      ...more,
    },
    realDependencies(),
  );
}

export function openLun(session: Session, place: Place): Promise<IscsiLun> {
  return openIscsiLun(session, { lun: lunFromNumber(place.lun) }, realDependencies());
}

async function withLun(
  place: Place,
  options: Partial<SessionOptions>,
  work: (lun: IscsiLun, session: Session) => Promise<void>,
): Promise<void> {
  const session = await openSession(place, options);
  try {
    await work(await openLun(session, place), session);
    await session.logout();
    expect(session.status().reconnects).toBe(0);
  } finally {
    session.close();
  }
}

function execute(session: Session, task: Omit<ScsiTask, "onDone">): Promise<ScsiResult> {
  return new Promise((resolve) => session.execute({ ...task, onDone: resolve }));
}

export const bothDigests = { headerDigest: "crc32c", dataDigest: "crc32c" } as const;

/** What both kinds of targets are asked to do. */
export async function runCommonScenarios(places: Places): Promise<void> {
  const { portal } = places.plain;
  const found = await discoverTargets({ portal, initiatorName: INITIATOR, timeoutMs: 5000 }, realDependencies());
  expect(found.map(({ targetName }) => targetName)).toContain(places.plain.targetName);
  await withLun(places.plain, {}, (lun) => verifyTransfers(lun, SIZES_BYTES));
  await withLun(places.plain, bothDigests, (lun) => verifyTransfers(lun, SIZES_BYTES));
  await withLun(places.plain, { headerDigest: "crc32c" }, (lun) => verifyTransfers(lun, [512, 65_536]));
  await withLun(places.plain, { dataDigest: "crc32c" }, (lun) => verifyTransfers(lun, [512, 65_536]));
  await withLun(places.chap, { ...bothDigests, chap: oneWay }, (lun) => verifyTransfers(lun, [4096]));
  await withLun(places.mutual, { chap: mutual }, (lun) => verifyTransfers(lun, [4096]));
  await withLun(places.asked, bothDigests, (lun) => verifyTransfers(lun, SIZES_BYTES));
  await withLun(places.unasked, {}, (lun) => verifyTransfers(lun, SIZES_BYTES));
  const offers = { initialR2T: true, immediateData: false, maxBurstLength: 32_768, maxOutstandingR2T: 2 };
  await withLun(places.unasked, { ...bothDigests, offers }, (lun) => verifyTransfers(lun, SIZES_BYTES));
  await withLun(places.plain, { timers: { nopIntervalMs: 200, sweepIntervalMs: 50 } }, async (lun, session) => {
    await session.nop();
    await delay(1000);
    await lun.flush();
  });
  // We are silent, so that the target asks.
  await withLun(places.pinging, { timers: { nopIntervalMs: 0 } }, async (lun) => {
    await delay(3500);
    await lun.flush();
  });
  await withLun(places.plain, bothDigests, async (lun) => {
    const unit = 4 * KIBIBYTE;
    const block = Buffer.alloc(unit, CONCURRENT_FILL);
    const writes = Array.from({ length: 200 }, (_, index) => lun.write(index * unit, block));
    const reads = Array.from({ length: 200 }, (_, index) => lun.read(index * unit, Buffer.alloc(unit)));
    await Promise.all([...writes, ...reads]);
  });
}

/** ABORT TASK for a read that hangs, which is returned, then LOGICAL UNIT RESET with another one at the target. */
export async function runTaskManagement(place: Place, hang: () => void, letGo: () => void): Promise<ScsiResult> {
  const session = await openSession(place, { ...bothDigests, timers: { sweepIntervalMs: 100 } });
  try {
    const lun = await openLun(session, place);
    const task = { lun: lunFromNumber(place.lun), cdb: read10({ lba: 8, blocks: 8 }), dataIn: Buffer.alloc(4096) };
    hang();
    const timedOut = execute(session, { ...task, timeoutMs: 300 });
    const letGoLater = delay(1200).then(letGo);
    const aborted = await timedOut;
    await letGoLater;
    hang();
    const reset = execute(session, { ...task, isRetryable: false });
    const resetting = session.taskManagement({ function: "lun-reset", lun: lunFromNumber(place.lun) });
    await delay(200);
    letGo();
    await resetting;
    await reset;
    // The unit attention that a reset leaves behind.
    await execute(session, { lun: task.lun, cdb: testUnitReady() });
    await lun.write(0, Buffer.alloc(512, 7));
    await session.logout();
    expect(session.status().reconnects).toBe(0);
    return aborted;
  } finally {
    session.close();
  }
}

export interface Judged {
  readonly pdus: readonly CapturedPdu[];
  readonly counts: Readonly<Record<string, number>>;
}

/** Everything that must hold for any recording. */
export function judge(path: string, ports: readonly number[]): Judged {
  const capture = new IscsiCapture(path, ports);
  expect(capture.complaints()).toEqual([]);
  const pdus = capture.pdus();
  const counts = countOpcodes(pdus);
  const notes = pdus.flatMap(({ digests }) => digests);
  const { violations, checked } = checkNumbering(pdus);
  process.stdout.write(
    `${JSON.stringify({ pdus: pdus.length, counts, digests: notes.length, checked }, undefined, 1)}\n`,
  );
  expect(violations).toEqual([]);
  expect(notes.filter((note) => !/\(Good CRC32\)/.test(note))).toEqual([]);
  expect(notes.filter((note) => note.startsWith("HeaderDigest")).length).toBeGreaterThan(500);
  expect(notes.filter((note) => note.startsWith("DataDigest")).length).toBeGreaterThan(200);
  return { pdus, counts };
}

export const everyRun: readonly (keyof typeof Opcode)[] = [
  ...(["nopOut", "scsiCommand", "taskManagementRequest", "loginRequest", "textRequest", "dataOut"] as const),
  ...(["logoutRequest", "nopIn", "scsiResponse", "taskManagementResponse", "loginResponse", "textResponse"] as const),
  ...(["dataIn", "logoutResponse", "readyToTransfer"] as const),
];

export function expectSeen(counts: Judged["counts"], opcodes: readonly (keyof typeof Opcode)[]): void {
  expect(opcodes.filter((opcode) => (counts[opcode] ?? 0) === 0)).toEqual([]);
}

/** Immediate data, unsolicited Data-Out, solicited Data-Out, pings of both sides: each must have been there. */
export function expectKindsOfTransfer(pdus: readonly CapturedPdu[]): void {
  const has = (isWanted: (pdu: CapturedPdu) => boolean): boolean => pdus.some(isWanted);
  const dataOut = pdus.filter(({ opcode }) => opcode === Opcode.dataOut);
  const isOfNone = (pdu: CapturedPdu, field: string): boolean => pdu.number(field) === 0xffff_ffff;
  expect({
    immediateData: has((pdu) => pdu.opcode === Opcode.scsiCommand && pdu.number("datasegmentlength") > 0),
    unsolicited: dataOut.some((pdu) => isOfNone(pdu, "targettransfertag")),
    solicited: dataOut.some((pdu) => !isOfNone(pdu, "targettransfertag")),
    laterR2t: has((pdu) => pdu.opcode === Opcode.readyToTransfer && pdu.number("r2tsn") > 2),
    ourPing: has((pdu) => pdu.opcode === Opcode.nopOut && !isOfNone(pdu, "initiatortasktag")),
    theirPing: has((pdu) => pdu.opcode === Opcode.nopIn && isOfNone(pdu, "initiatortasktag")),
    ourPong: has((pdu) => pdu.opcode === Opcode.nopOut && isOfNone(pdu, "initiatortasktag")),
    abortTask: has((pdu) => pdu.opcode === Opcode.taskManagementRequest && pdu.number("taskmanfun.function") === 1),
    lunReset: has((pdu) => pdu.opcode === Opcode.taskManagementRequest && pdu.number("taskmanfun.function") === 5),
    chap: has(({ keys, isFromInitiator }) => isFromInitiator && keys.some((pair) => pair.startsWith("CHAP_R="))),
    mutualChap: has(({ keys, isFromInitiator }) => !isFromInitiator && keys.some((pair) => pair.startsWith("CHAP_R="))),
  }).toEqual({
    ...{ immediateData: true, unsolicited: true, solicited: true, laterR2t: true, ourPing: true, theirPing: true },
    ...{ ourPong: true, abortTask: true, lunReset: true, chap: true, mutualChap: true },
  });
}
