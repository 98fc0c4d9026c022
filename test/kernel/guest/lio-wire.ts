import { writeFileSync } from "node:fs";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { RESERVED_TAG, type SnackType } from "../../../src/wire/constants.js";
import type { LoginResponsePdu, Pdu } from "../../../src/wire/pdu.js";
import { dataOuts, taskReassign, testUnitReady, transfer, WirePeer } from "./wire-peer.js";

/**
 * Sees, PDU by PDU, what LIO does with each means of recovery: `node lio-wire.js PORT TARGET`. Writes what it saw to
 * $RESULTS/wire.json.
 */
const [portText = "", targetName = "", ...chosen] = process.argv.slice(2);
const port = Number(portText);
const keys = {
  SessionType: "Normal",
  HeaderDigest: "None",
  DataDigest: "CRC32C",
  MaxConnections: "8",
  ErrorRecoveryLevel: "2",
  InitialR2T: "Yes",
  ImmediateData: "Yes",
  MaxOutstandingR2T: "1",
  MaxBurstLength: "262144",
  FirstBurstLength: "65536",
  DataPDUInOrder: "Yes",
  DataSequenceInOrder: "Yes",
  DefaultTime2Wait: "1",
  DefaultTime2Retain: "20",
};
const joinKeys = { HeaderDigest: "None", DataDigest: "CRC32C" };
const seen: Record<string, unknown> = {};
let sessions = 0;

/** A new session whose first unit attention is out of the way. CmdSN 2 is the next; `nextStatSn` is expected. */
async function openSession(
  more: Readonly<Record<string, string>> = {},
): Promise<{ peer: WirePeer; isid: Buffer; login: LoginResponsePdu; nextStatSn: number }> {
  sessions += 1;
  const isid = Buffer.from([0x80, 0, 0, 0, 0, sessions]);
  const peer = await WirePeer.connect(port);
  const login = await peer.logIn({ targetName, isid, keys: { ...keys, ...more } });
  peer.send(testUnitReady({ initiatorTaskTag: 0x100, cmdSn: 1, expStatSn: login.statSn + 1 }));
  await peer.next("scsi-response");
  return { peer, isid, login, nextStatSn: login.statSn + 2 };
}

async function join(
  session: { isid: Buffer; login: LoginResponsePdu },
  cid: number,
  cmdSn: number,
  expStatSn = 0,
): Promise<{ peer: WirePeer; login: LoginResponsePdu }> {
  const peer = await WirePeer.connect(port);
  const options = { targetName, isid: session.isid, tsih: session.login.tsih, cid, cmdSn, expStatSn };
  return { peer, login: await peer.logIn({ ...options, keys: joinKeys }) };
}

function snack(
  snackType: SnackType,
  initiatorTaskTag: number,
  begRun: number,
  runLength: number,
  tag = RESERVED_TAG,
): Pdu {
  const fields = { lun: LUN_ZERO, initiatorTaskTag, targetTransferTag: tag, begRun, runLength };
  return { type: "snack-request", snackType, expStatSn: 0, ...fields };
}

const nopOut = (initiatorTaskTag: number, cmdSn: number, expStatSn: number): Pdu => ({
  ...{ type: "nop-out", isImmediate: true, lun: LUN_ZERO, initiatorTaskTag, targetTransferTag: RESERVED_TAG },
  ...{ cmdSn, expStatSn, data: Buffer.alloc(0) },
});

const recoveryLogout = (cid: number, cmdSn: number, expStatSn: number): Pdu => ({
  ...{ type: "logout-request", isImmediate: true, reason: 2, initiatorTaskTag: 0x700 },
  ...{ cid, cmdSn, expStatSn },
});

/** Short words for a row of PDUs. */
function words(pdus: readonly Pdu[]): string[] {
  return pdus.map((pdu) => {
    switch (pdu.type) {
      case "scsi-data-in":
        return `data-in ${pdu.dataSn}${pdu.isFinal ? " F" : ""}${pdu.isAcknowledgeRequested ? " A" : ""}${pdu.hasStatus ? " S" : ""}`;
      case "ready-to-transfer":
        return `r2t ${pdu.r2tSn} ${pdu.bufferOffset}+${pdu.desiredDataTransferLength}`;
      case "reject":
        return `reject ${pdu.reason}`;
      case "scsi-response":
        return `response status ${pdu.status} expDataSn ${pdu.expDataSn}`;
      case "task-management-response":
        return `tmf ${pdu.response}`;
      case "logout-response":
        return `logout ${pdu.response} wait ${pdu.time2Wait} retain ${pdu.time2Retain}`;
      case "async-message":
        return `async ${pdu.asyncEvent} cid ${pdu.parameter1} ${pdu.parameter2} ${pdu.parameter3}`;
      default:
        return pdu.type;
    }
  });
}

async function seeLogin(): Promise<void> {
  const { peer, login } = await openSession();
  seen["login"] = login.data
    .toString("latin1")
    .split("\0")
    .filter((pair) => pair !== "");
  peer.kill();
}

async function seeDataSnack(): Promise<void> {
  const run = async (begRun: number, runLength: number): Promise<unknown> => {
    const { peer, nextStatSn } = await openSession();
    peer.send(transfer("read", 32_768, { initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn }));
    const first = words(await peer.all());
    peer.send(snack(0, 0x200, begRun, runLength));
    const again = words(await peer.all());
    const result = { first, again, closed: await peer.closes(300) };
    peer.kill();
    return result;
  };
  seen["data snack 1 of 4, run 1"] = await run(1, 1);
  seen["data snack 1 of 4, run 0"] = await run(1, 0);
  seen["data snack of the last, run 0"] = await run(3, 0);
  seen["data snack of the last, run 1"] = await run(3, 1);
}

async function seeStatusSnack(): Promise<void> {
  const run = async (
    request: (numbers: { initiatorTaskTag: number; cmdSn: number; expStatSn: number }) => Pdu,
  ): Promise<unknown> => {
    const { peer, nextStatSn } = await openSession();
    peer.send(request({ initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn }));
    const first = words(await peer.all());
    peer.send(snack(1, RESERVED_TAG, nextStatSn, 1));
    const again = words(await peer.all());
    const result = { first, again, closed: await peer.closes(300) };
    peer.kill();
    return result;
  };
  seen["status snack of a response"] = await run(testUnitReady);
  seen["status snack of a collapsed status"] = await run((numbers) => transfer("read", 512, numbers));
  seen["status snack of a ping's answer"] = await run((numbers) => nopOut(0x200, numbers.cmdSn, numbers.expStatSn));
}

async function seeDataAck(): Promise<void> {
  const { peer, nextStatSn } = await openSession({ MaxBurstLength: "16384", FirstBurstLength: "8192" });
  peer.send(transfer("read", 32_768, { initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn }));
  const arrived = await peer.all();
  const asking = arrived.find((pdu) => pdu.type === "scsi-data-in" && pdu.isAcknowledgeRequested);
  const tag = asking?.type === "scsi-data-in" ? asking.targetTransferTag : 0;
  const next = asking?.type === "scsi-data-in" ? asking.dataSn + 1 : 0;
  peer.send(snack(2, RESERVED_TAG, next, 0, tag));
  const once = { after: words(await peer.all()), closed: await peer.closes(300) };
  peer.send(snack(2, RESERVED_TAG, next, 0, tag));
  seen["data ack"] = {
    first: words(arrived),
    once,
    twice: { after: words(await peer.all()), closed: await peer.closes(500) },
  };
  peer.kill();
}

async function seeRDataSnack(): Promise<void> {
  const { peer, nextStatSn } = await openSession();
  peer.send(transfer("read", 8192, { initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn }));
  await peer.all();
  peer.send(snack(3, 0x200, 0, 0, 0x77));
  seen["r-data snack"] = { after: words(await peer.all()), closed: await peer.closes(500) };
  peer.kill();
}

async function seeBadDataOut(acknowledgesReject: boolean): Promise<void> {
  const { peer, nextStatSn } = await openSession();
  peer.send(transfer("write", 32_768, { initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn }));
  const r2t = await peer.next("ready-to-transfer");
  if (r2t === undefined) throw new Error("no R2T");
  dataOuts(r2t, nextStatSn).forEach((pdu, index) => peer.send(pdu, { spoilDigest: index === 1 }));
  const answers = await peer.all();
  const again = answers.find((pdu) => pdu.type === "ready-to-transfer");
  const expStatSn = acknowledgesReject ? nextStatSn + 1 : nextStatSn;
  peer.send(nopOut(0x300, 3, expStatSn));
  const afterPing = await peer.all();
  if (again?.type === "ready-to-transfer") for (const pdu of dataOuts(again, expStatSn)) peer.send(pdu);
  const end = words(await peer.all(1500));
  seen[`bad data-out, reject ${acknowledgesReject ? "acknowledged at once" : "held"}`] = {
    answers: words(answers),
    afterPing: words(afterPing),
    end,
    closed: await peer.closes(300),
  };
  peer.kill();
}

async function seeMissingDataOut(): Promise<void> {
  const { peer, nextStatSn } = await openSession();
  peer.send(transfer("write", 32_768, { initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn }));
  const r2t = await peer.next("ready-to-transfer");
  if (r2t === undefined) throw new Error("no R2T");
  const startMs = Date.now();
  dataOuts(r2t, nextStatSn).forEach((pdu, index) => {
    if (index !== 1) peer.send(pdu);
  });
  const again = await peer.next("ready-to-transfer", 10_000);
  const waitedMs = Date.now() - startMs;
  if (again !== undefined) for (const pdu of dataOuts(again, nextStatSn)) peer.send(pdu);
  const end = words(await peer.all(1000));
  seen["missing data-out"] = {
    r2t: again === undefined ? [] : words([again]),
    waitedSeconds: Math.round(waitedMs / 1000),
    end,
  };
  peer.kill();
}

async function seeBadImmediateData(): Promise<void> {
  const { peer, nextStatSn } = await openSession();
  const command = transfer(
    "write",
    4096,
    { initiatorTaskTag: 0x200, cmdSn: 2, expStatSn: nextStatSn },
    Buffer.alloc(4096, 7),
  );
  peer.send(command, { spoilDigest: true });
  const answers = await peer.all();
  peer.send(nopOut(0x300, 2, nextStatSn));
  const ping = await peer.next("nop-in");
  peer.send(command);
  const retry = words(await peer.all());
  const rejected = answers.find((pdu) => pdu.type === "reject");
  seen["bad immediate data"] = {
    answers: words(answers),
    rejectedHeader: rejected?.type === "reject" ? rejected.data.subarray(0, 48).toString("hex") : "",
    expCmdSnAfter: ping?.expCmdSn,
    retry,
    closed: await peer.closes(300),
  };
  peer.kill();
}

async function seeReassign(): Promise<void> {
  const session = await openSession();
  const { peer } = session;
  const second = await join(session, 1, 2);
  const statSn = second.login.statSn + 1;
  const onSecond = (initiatorTaskTag: number, cmdSn: number) => ({ initiatorTaskTag, cmdSn, expStatSn: statSn });
  second.peer.send(transfer("write", 32_768, onSecond(0x200, 2)));
  await second.peer.next("ready-to-transfer");
  second.peer.send(transfer("read", 32_768, onSecond(0x201, 3)));
  second.peer.send(testUnitReady(onSecond(0x202, 4)));
  const before = words(await second.peer.all());
  const numbers = (initiatorTaskTag: number) => ({ initiatorTaskTag, cmdSn: 5, expStatSn: session.nextStatSn });
  peer.send(taskReassign(0x200, 1, numbers(0x400)));
  const early = words(await peer.all());
  second.peer.kill();
  const lost = words(await peer.all());
  peer.send(taskReassign(0x200, 1, numbers(0x401)));
  const beforeLogout = words(await peer.all());
  peer.send(recoveryLogout(1, 5, statSn));
  const logout = words(await peer.all());
  peer.send(taskReassign(0x200, 1, numbers(0x402)));
  const write = await peer.all();
  const r2t = write.find((pdu) => pdu.type === "ready-to-transfer");
  if (r2t?.type === "ready-to-transfer") for (const pdu of dataOuts(r2t, session.nextStatSn)) peer.send(pdu);
  const written = words(await peer.all());
  peer.send(taskReassign(0x201, 2, numbers(0x403)));
  const read = words(await peer.all());
  peer.send(taskReassign(0x202, 0, numbers(0x404)));
  const plain = words(await peer.all());
  peer.send(taskReassign(0x999, 0, numbers(0x405)));
  const unknown = words(await peer.all());
  peer.send(recoveryLogout(1, 5, statSn));
  const logoutAgain = words(await peer.all());
  seen["reassign"] = {
    before,
    early,
    lost,
    beforeLogout,
    logout,
    write: words(write),
    written,
    read,
    plain,
    unknown,
    logoutAgain,
    closed: peer.isClosed,
  };
  peer.kill();
}

/** A moved task whose status is then acknowledged: LIO frees it. */
async function seeReassignAcknowledged(): Promise<void> {
  const session = await openSession();
  const { peer } = session;
  for (let round = 1; round <= 10; round += 1) {
    const second = await join(session, round, 1 + round);
    const statSn = second.login.statSn + 1;
    second.peer.send(transfer("read", 32_768, { initiatorTaskTag: 0x200, cmdSn: 1 + round, expStatSn: statSn }));
    await second.peer.all(200);
    second.peer.kill();
    peer.send(recoveryLogout(round, 2 + round, statSn));
    await peer.next("logout-response");
    peer.send(taskReassign(0x200, 0, { initiatorTaskTag: 0x402, cmdSn: 2 + round, expStatSn: session.nextStatSn }));
    const read = await peer.all(300);
    const last = read.at(-1);
    const statSnNow = last?.type === "scsi-data-in" ? last.statSn + 1 : 0;
    peer.send(nopOut(0x300, 2 + round, statSnNow));
    const ping = await peer.next("nop-in");
    seen["reassign acknowledged"] = { round, read: words(read), ping: ping !== undefined };
    writeFileSync(`${process.env["RESULTS"] ?? "/tmp"}/wire.json`, JSON.stringify(seen, undefined, 1));
  }
  peer.kill();
}

async function seeReinstatement(): Promise<void> {
  const session = await openSession();
  const second = await join(session, 1, 2);
  const statSn = second.login.statSn + 1;
  second.peer.send(transfer("read", 32_768, { initiatorTaskTag: 0x201, cmdSn: 2, expStatSn: statSn }));
  await second.peer.all();
  const replaced = await join(session, 1, 3, statSn);
  const onFirst = words(await session.peer.all());
  const numbers = { initiatorTaskTag: 0x402, cmdSn: 3, expStatSn: replaced.login.statSn + 1 };
  replaced.peer.send(taskReassign(0x201, 1, numbers));
  const read = words(await replaced.peer.all());
  seen["reinstatement of a live connection"] = { oldClosed: await second.peer.closes(500), onFirst, read };
  session.peer.kill();
  replaced.peer.kill();
}

async function seeAllLost(): Promise<void> {
  const session = await openSession();
  const { peer, nextStatSn } = session;
  peer.send(transfer("read", 32_768, { initiatorTaskTag: 0x201, cmdSn: 2, expStatSn: nextStatSn }));
  await peer.all();
  peer.kill();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const again = await join(session, 0, 3, nextStatSn);
  const status = again.login.statusClass * 256 + again.login.statusDetail;
  again.peer.send(taskReassign(0x201, 0, { initiatorTaskTag: 0x402, cmdSn: 3, expStatSn: again.login.statSn + 1 }));
  seen["login after all connections were lost"] = { status, read: words(await again.peer.all()) };
  again.peer.kill();
}

async function seeLossAtLevel(level: string): Promise<void> {
  const session = await openSession({ ErrorRecoveryLevel: level });
  const second = await join(session, 1, 2);
  second.peer.kill();
  const closed = await session.peer.closes(3000);
  const again = await join(session, 2, 2);
  seen[`loss of one connection at level ${level}`] = {
    otherClosed: closed,
    joinStatus: again.login.statusClass * 256 + again.login.statusDetail,
  };
  session.peer.kill();
  again.peer.kill();
}

const steps: readonly [string, () => Promise<void>][] = [
  ["login", seeLogin],
  ["data snack", seeDataSnack],
  ["status snack", seeStatusSnack],
  ["data ack", seeDataAck],
  ["r-data", seeRDataSnack],
  ["immediate", seeBadImmediateData],
  ["missing", seeMissingDataOut],
  ["reassign", seeReassign],
  ["reassign acknowledged", seeReassignAcknowledged],
  ["reinstatement", seeReinstatement],
  ["all lost", seeAllLost],
  ["level 1", () => seeLossAtLevel("1")],
  ["level 0", () => seeLossAtLevel("0")],
  ["bad data-out held", () => seeBadDataOut(false)],
  ["bad data-out acknowledged", () => seeBadDataOut(true)],
];
for (const [name, step] of steps) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  try {
    await step();
  } catch (error) {
    seen[`${name} failed`] = String(error);
  }
  // Written after every step: a step may bring the kernel down.
  writeFileSync(`${process.env["RESULTS"] ?? "/tmp"}/wire.json`, JSON.stringify(seen, undefined, 1));
}
process.exit(0);
