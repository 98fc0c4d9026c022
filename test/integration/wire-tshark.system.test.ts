import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DigestUse, encodePdu, NO_DIGESTS } from "../../src/wire/encode.js";
import type { LoginRequestPdu, LoginResponsePdu, Pdu } from "../../src/wire/pdu.js";
import { encodeTextKeys } from "../../src/wire/text-keys.js";
import { describeNeeding } from "../support/needs.js";
import { capture, type CapturedSegment } from "../support/pcap.js";

/** What we put on the wire, read by somebody else: the iSCSI dissector of Wireshark. */

const lun = { high: 0x0003_0000, low: 0 };
const empty = Buffer.alloc(0);
const isid = Buffer.from("801234560007", "hex");
const sequence = { statSn: 301, expCmdSn: 101, maxCmdSn: 120 };
const TAG = 0x1234_5678;
const NONE = 0xffff_ffff;

type Fields = Readonly<Record<string, number>>;

const loginRequest: LoginRequestPdu = {
  ...{ type: "login-request", isTransit: true, isContinued: false, currentStage: 1, nextStage: 3 },
  ...{ versionMax: 0, versionMin: 0, isid, tsih: 0, initiatorTaskTag: TAG, cid: 9, cmdSn: 100, expStatSn: 0 },
  data: encodeTextKeys([
    ["InitiatorName", "iqn.2000-01.com.example:host"],
    ["HeaderDigest", "CRC32C"],
    ["DataDigest", "CRC32C"],
  ]),
};
const loginResponse: LoginResponsePdu = {
  ...{ type: "login-response", isTransit: true, isContinued: false, currentStage: 1, nextStage: 3 },
  ...{ versionMax: 0, versionActive: 0, isid, tsih: 77, initiatorTaskTag: TAG, ...sequence },
  ...{ statusClass: 0, statusDetail: 0 },
  data: encodeTextKeys([
    ["HeaderDigest", "CRC32C"],
    ["DataDigest", "CRC32C"],
  ]),
};

/** SNACK types 1 to 3 (RFC 7143 §11.16.1). Of the functions of RFC 7144 this dissector knows none. */
const snackPdus = ([1, 2, 3] as const).map((snackType): readonly [Pdu, Fields] => [
  {
    ...{ type: "snack-request", snackType, lun, initiatorTaskTag: snackType === 3 ? TAG : NONE },
    ...{ targetTransferTag: 0x70 + snackType, expStatSn: 304, begRun: 0, runLength: 0 },
  },
  {
    "iscsi.opcode": 16,
    "iscsi.snack.type": snackType,
    "iscsi.snack.begrun": 0,
    "iscsi.snack.runlength": 0,
    "iscsi.expstatsn": 304,
    "iscsi.initiatortasktag": snackType === 3 ? TAG : NONE,
  },
]);

const initiatorPdus: readonly (readonly [Pdu, Fields])[] = [
  ...snackPdus,
  [
    {
      ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: true, taskAttribute: 1 },
      ...{ lun, initiatorTaskTag: TAG, expectedDataTransferLength: 512, cmdSn: 101, expStatSn: 302 },
      ...{ cdb: Buffer.from("2a000000000000000100", "hex"), data: Buffer.alloc(509, 0x5a) },
    },
    {
      "iscsi.opcode": 1,
      "iscsi.scsicommand.W": 1,
      "iscsi.scsicommand.R": 0,
      "iscsi.scsicommand.attr": 1,
      "iscsi.scsicommand.expecteddatatransferlength": 512,
      "iscsi.datasegmentlength": 509,
      "iscsi.cmdsn": 101,
      "iscsi.expstatsn": 302,
      "scsi.lun": 3,
      "scsi_sbc.opcode": 0x2a,
    },
  ],
  [
    {
      ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: true, isWrite: true, taskAttribute: 1 },
      ...{ lun, initiatorTaskTag: TAG + 1, expectedDataTransferLength: 512, cmdSn: 102, expStatSn: 302 },
      ...{ cdb: Buffer.alloc(32, 0x7f), bidirectionalReadLength: 2048, data: empty },
    },
    { "iscsi.totalahslength": 7, "iscsi.ahs.length": 17, "iscsi.ahs.bidir.length": 2048 },
  ],
  [
    {
      ...{ type: "task-management-request", isImmediate: true, function: 8, lun, initiatorTaskTag: 3 },
      ...{ referencedTaskTag: TAG, cmdSn: 102, expStatSn: 302, refCmdSn: 101, expDataSn: 4 },
    },
    {
      "iscsi.opcode": 2,
      "iscsi.I": 1,
      "iscsi.taskmanfun.function": 8,
      "iscsi.taskmanfun.referencedtasktag": TAG,
      "iscsi.refcmdsn": 101,
    },
  ],
  [
    {
      ...{ type: "text-request", isImmediate: false, isFinal: true, isContinued: false, lun, initiatorTaskTag: 4 },
      ...{ targetTransferTag: NONE, cmdSn: 103, expStatSn: 303, data: encodeTextKeys([["SendTargets", "All"]]) },
    },
    { "iscsi.opcode": 4, "iscsi.text.F": 1, "iscsi.text.C": 0, "iscsi.targettransfertag": NONE, "iscsi.cmdsn": 103 },
  ],
  [
    {
      ...{ type: "scsi-data-out", isFinal: true, lun, initiatorTaskTag: TAG, targetTransferTag: 55, expStatSn: 303 },
      ...{ dataSn: 6, bufferOffset: 4096, data: Buffer.from("payload") },
    },
    {
      "iscsi.opcode": 5,
      "iscsi.scsidata.F": 1,
      "iscsi.targettransfertag": 55,
      "iscsi.datasn": 6,
      "iscsi.bufferOffset": 4096,
      "iscsi.expstatsn": 303,
    },
  ],
  [
    { type: "logout-request", isImmediate: true, reason: 2, initiatorTaskTag: 5, cid: 9, cmdSn: 104, expStatSn: 304 },
    { "iscsi.opcode": 6, "iscsi.logout.reason": 2, "iscsi.cid": 9, "iscsi.cmdsn": 104 },
  ],
  [
    {
      ...{ type: "snack-request", snackType: 0, lun, initiatorTaskTag: TAG, targetTransferTag: NONE },
      ...{ expStatSn: 304, begRun: 7, runLength: 2 },
    },
    { "iscsi.opcode": 16, "iscsi.snack.type": 0, "iscsi.snack.begrun": 7, "iscsi.snack.runlength": 2 },
  ],
  [
    {
      ...{ type: "nop-out", isImmediate: true, lun, initiatorTaskTag: NONE, targetTransferTag: 88 },
      ...{ cmdSn: 105, expStatSn: 305, data: empty },
    },
    { "iscsi.opcode": 0, "iscsi.I": 1, "iscsi.initiatortasktag": NONE, "iscsi.targettransfertag": 88 },
  ],
];

const targetPdus: readonly (readonly [Pdu, Fields])[] = [
  [
    {
      ...{ type: "scsi-response", response: 0, status: 2, initiatorTaskTag: TAG, snackTag: 0, ...sequence },
      ...{ expDataSn: 3, isBidirectionalOverflow: false, isBidirectionalUnderflow: true, isOverflow: true },
      ...{ isUnderflow: false, bidirectionalResidualCount: 11, residualCount: 22 },
      data: Buffer.from("0012" + "700005000000000a00000000240000000000", "hex"),
    },
    {
      "iscsi.opcode": 0x21,
      "iscsi.scsiresponse.status": 2,
      "iscsi.scsiresponse.u": 1,
      "iscsi.scsiresponse.o": 0,
      "iscsi.scsiresponse.O": 1,
      "iscsi.scsiresponse.U": 0,
      "iscsi.scsiresponse.bidireadresidualcount": 11,
      "iscsi.scsiresponse.residualcount": 22,
      "iscsi.scsiresponse.senselength": 18,
      "iscsi.statsn": 301,
      "iscsi.expcmdsn": 101,
      "iscsi.maxcmdsn": 120,
      "iscsi.expdatasn": 3,
    },
  ],
  [
    { type: "task-management-response", response: 5, initiatorTaskTag: 3, additionalResponse: 0, ...sequence },
    { "iscsi.opcode": 0x22, "iscsi.taskmanfun.response": 5, "iscsi.statsn": 301 },
  ],
  [
    {
      ...{ type: "text-response", isFinal: false, isContinued: true, lun, initiatorTaskTag: 4, targetTransferTag: 9 },
      ...{ ...sequence, data: encodeTextKeys([["TargetName", "iqn.2000-01.com.example:disk"]]) },
    },
    { "iscsi.opcode": 0x24, "iscsi.text.F": 0, "iscsi.text.C": 1, "iscsi.targettransfertag": 9 },
  ],
  [
    {
      ...{ type: "scsi-data-in", isFinal: true, isAcknowledgeRequested: true, hasStatus: true, isOverflow: false },
      ...{ isUnderflow: true, status: 0, lun, initiatorTaskTag: TAG + 1, targetTransferTag: 66, ...sequence },
      ...{ dataSn: 2, bufferOffset: 8192, residualCount: 33, data: Buffer.alloc(510, 1) },
    },
    {
      "iscsi.opcode": 0x25,
      "iscsi.scsidata.F": 1,
      "iscsi.scsidata.A": 1,
      "iscsi.scsidata.S": 1,
      "iscsi.scsidata.U": 1,
      "iscsi.scsidata.O": 0,
      "iscsi.scsidata.readresidualcount": 33,
      "iscsi.datasn": 2,
      "iscsi.bufferOffset": 8192,
      "iscsi.statsn": 301,
    },
  ],
  [
    { type: "logout-response", response: 3, initiatorTaskTag: 5, ...sequence, time2Wait: 2, time2Retain: 20 },
    { "iscsi.opcode": 0x26, "iscsi.logout.response": 3, "iscsi.time2wait": 2, "iscsi.time2retain": 20 },
  ],
  [
    {
      ...{ type: "ready-to-transfer", lun, initiatorTaskTag: TAG, targetTransferTag: 55, ...sequence },
      ...{ r2tSn: 1, bufferOffset: 65_536, desiredDataTransferLength: 131_072 },
    },
    {
      "iscsi.opcode": 0x31,
      "iscsi.r2tsn": 1,
      "iscsi.bufferOffset": 65_536,
      "iscsi.desireddatalength": 131_072,
      "iscsi.targettransfertag": 55,
    },
  ],
  [
    {
      ...{ type: "async-message", lun, ...sequence, asyncEvent: 2, asyncVCode: 0 },
      ...{ parameter1: 9, parameter2: 2, parameter3: 20, data: empty },
    },
    {
      "iscsi.opcode": 0x32,
      "iscsi.asyncevent": 2,
      "iscsi.parameter1": 9,
      "iscsi.parameter2": 2,
      "iscsi.parameter3": 20,
    },
  ],
  [
    {
      ...{ type: "async-message", lun, ...sequence, asyncEvent: 5, asyncVCode: 0 },
      ...{ parameter1: 0, parameter2: 0, parameter3: 0, data: empty },
    },
    { "iscsi.opcode": 0x32, "iscsi.asyncevent": 5, "scsi.lun": 3 },
  ],
  [
    { type: "reject", reason: 9, ...sequence, dataSnOrR2tSn: 4, data: Buffer.alloc(48) },
    { "iscsi.opcode": 0x3f, "iscsi.reject.reason": 9, "iscsi.datasn": 4 },
  ],
  [
    {
      ...{ type: "nop-in", lun, initiatorTaskTag: NONE, targetTransferTag: 88, ...sequence, data: empty },
    },
    { "iscsi.opcode": 0x20, "iscsi.initiatortasktag": NONE, "iscsi.targettransfertag": 88, "iscsi.statsn": 301 },
  ],
];

const loginFields: readonly (readonly [Pdu, Fields])[] = [
  [
    loginRequest,
    {
      "iscsi.opcode": 3,
      "iscsi.login.T": 1,
      "iscsi.login.C": 0,
      "iscsi.login.csg": 1,
      "iscsi.login.nsg": 3,
      "iscsi.isid.t": 2,
      "iscsi.isid.b": 0x1234,
      "iscsi.isid.c": 0x56,
      "iscsi.isid.d": 7,
      "iscsi.cid": 9,
      "iscsi.cmdsn": 100,
    },
  ],
  [loginResponse, { "iscsi.opcode": 0x23, "iscsi.login.T": 1, "iscsi.tsih": 77, "iscsi.login.status": 0 }],
];

describeNeeding(["tshark"], "Wireshark's dissector", () => {
  let folder = "";
  const allPdus = [...loginFields, ...initiatorPdus, ...targetPdus];

  /** The login without digests and all else with `digests`, one PDU a packet. */
  function writeCapture(digests: DigestUse): string {
    const segments = allPdus.map(([pdu], index): CapturedSegment => {
      const isFromTarget = "maxCmdSn" in pdu;
      const bytes = Buffer.concat(encodePdu(pdu, index < loginFields.length ? NO_DIGESTS : digests));
      return { from: isFromTarget ? "server" : "client", bytes };
    });
    const path = join(folder, "session.pcap");
    writeFileSync(path, capture({ serverPort: 3260, segments }));
    return path;
  }

  function tshark(path: string, ...args: string[]): string {
    const options = ["-n", "-o", "iscsi.bogus_pdu_filter:FALSE", "-r", path, ...args];
    return execFileSync("tshark", options, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  }

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "hawser-wire-"));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  test("reads every PDU as we meant it", () => {
    const names = [...new Set(allPdus.flatMap(([, fields]) => Object.keys(fields)))];
    const columns = names.flatMap((name) => ["-e", name]);
    const output = tshark(writeCapture(NO_DIGESTS), "-T", "fields", "-E", "occurrence=f", ...columns);
    const rows = output.trimEnd().split("\n");
    expect(rows).toHaveLength(allPdus.length);
    for (const [index, [pdu, expected]] of allPdus.entries()) {
      const cells = (rows[index] ?? "").split("\t");
      const read: Record<string, number | string> = { type: pdu.type };
      for (const [column, name] of names.entries()) {
        const cell = cells[column] ?? "";
        if (name in expected)
          read[name] = cell === "" ? "absent" : Number(cell.replace("True", "1").replace("False", "0"));
      }
      expect(read).toEqual({ type: pdu.type, ...expected });
    }
  });

  test("finds every header and data digest good", () => {
    const text = tshark(writeCapture({ header: true, data: true }), "-V", "-O", "iscsi");
    const withData = [...initiatorPdus, ...targetPdus].filter(([pdu]) => "data" in pdu && pdu.data.length > 0);
    const lines = text.split("\n").filter((line) => /Digest: .*CRC/i.test(line));
    expect(lines.filter((line) => !/good/i.test(line))).toEqual([]);
    // The dissector takes the header inside Reject for a PDU of its own, and the data digest for that one's digest.
    expect(lines.filter((line) => /HeaderDigest/.test(line))).toHaveLength(
      initiatorPdus.length + targetPdus.length + 1,
    );
    expect(lines.filter((line) => /DataDigest/.test(line))).toHaveLength(withData.length - 1);
  });
});
