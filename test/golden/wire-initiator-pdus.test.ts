import { type GoldenPdu, testGolden } from "./golden.js";

/** SCSI commands, data and task management an initiator sends. Bytes by hand from the figures of RFC 7143 §11; see each section. */

const scsiCommandRead: GoldenPdu = {
  name: "SCSI Command, READ(10), §11.3",
  wire: `
    01 c1 00 00              # I=0, opcode 01; F=1 R=1 W=0, ATTR=1 simple
    00 00 00 00              # TotalAHSLength, DataSegmentLength
    00 05 00 00 00 00 00 00  # LUN 5, peripheral
    00 00 00 2a              # Initiator Task Tag
    00 00 10 00              # Expected Data Transfer Length 4096
    00 00 01 00              # CmdSN
    00 00 02 00              # ExpStatSN
    28 00 00 01 02 03 00 00 08 00 00 00 00 00 00 00  # CDB`,
  pdu: {
    type: "scsi-command",
    isImmediate: false,
    isFinal: true,
    isRead: true,
    isWrite: false,
    taskAttribute: 1,
    lun: { high: 0x0005_0000, low: 0 },
    initiatorTaskTag: 0x2a,
    expectedDataTransferLength: 4096,
    cmdSn: 0x100,
    expStatSn: 0x200,
    cdb: Buffer.from("28000001020300000800000000000000", "hex"),
    data: Buffer.alloc(0),
  },
};

const scsiCommandWrite: GoldenPdu = {
  name: "SCSI Command, immediate WRITE with five bytes of immediate data and more to follow, §11.3",
  wire: `
    41 22 00 00              # I=1; F=0 R=0 W=1, ATTR=2 ordered
    00 00 00 05              # DataSegmentLength excludes padding
    40 01 00 00 00 00 00 00  # LUN 1, flat
    ff ff ff fe              # the highest tag that is not reserved
    00 00 02 00
    ff ff ff ff              # CmdSN just before the wrap
    80 00 00 00
    2a 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
    61 62 63 64 65 00 00 00  # data, three bytes of padding (§11.1)`,
  pdu: {
    type: "scsi-command",
    isImmediate: true,
    isFinal: false,
    isRead: false,
    isWrite: true,
    taskAttribute: 2,
    lun: { high: 0x4001_0000, low: 0 },
    initiatorTaskTag: 0xffff_fffe,
    expectedDataTransferLength: 512,
    cmdSn: 0xffff_ffff,
    expStatSn: 0x8000_0000,
    cdb: Buffer.from("2a000000000000000100000000000000", "hex"),
    data: Buffer.from("abcde"),
  },
};

const scsiCommandExtended: GoldenPdu = {
  name: "SCSI Command, bidirectional with a CDB of 32 bytes, §11.2.2.3, §11.2.2.4",
  wire: `
    01 e3 00 00              # F=1 R=1 W=1, ATTR=3 head of queue
    07 00 00 00              # TotalAHSLength: 7 words (20 + 8 bytes)
    00 00 00 00 00 00 00 00
    00 00 00 07
    00 00 04 00              # write length
    00 00 00 01
    00 00 00 02
    7f 00 00 00 00 00 00 18 00 20 00 00 00 00 00 00  # CDB bytes 0-15
    00 11 01 00              # AHSLength = 32 - 15 = 17, type 1, reserved
    01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10  # CDB bytes 16-31
    00 05 02 00              # AHSLength 5, type 2, reserved
    00 00 08 00              # bidirectional read length`,
  pdu: {
    type: "scsi-command",
    isImmediate: false,
    isFinal: true,
    isRead: true,
    isWrite: true,
    taskAttribute: 3,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 7,
    expectedDataTransferLength: 1024,
    cmdSn: 1,
    expStatSn: 2,
    cdb: Buffer.from("7f0000000000001800200000000000000102030405060708090a0b0c0d0e0f10", "hex"),
    bidirectionalReadLength: 2048,
    data: Buffer.alloc(0),
  },
};

const scsiCommandOddCdb: GoldenPdu = {
  name: "SCSI Command, CDB of 17 bytes: the shortest that is extended, §11.2.2.3",
  wire: `
    01 80 00 00              # F=1, no transfer, ATTR=0 untagged
    02 00 00 00              # 2 words
    00 00 00 00 00 00 00 00
    00 00 00 08
    00 00 00 00
    00 00 00 03
    00 00 00 04
    7e 00 00 00 00 00 00 00 00 00 00 00 00 00 00 0f
    00 02 01 00              # AHSLength 17 - 15 = 2
    10 00 00 00              # CDB byte 16, padding`,
  pdu: {
    type: "scsi-command",
    isImmediate: false,
    isFinal: true,
    isRead: false,
    isWrite: false,
    taskAttribute: 0,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 8,
    expectedDataTransferLength: 0,
    cmdSn: 3,
    expStatSn: 4,
    cdb: Buffer.from("7e00000000000000000000000000000f10", "hex"),
    data: Buffer.alloc(0),
  },
};

const abortTask: GoldenPdu = {
  name: "Task Management Function Request, ABORT TASK, §11.5",
  wire: `
    42 81 00 00              # I=1, opcode 02; 1, function 1
    00 00 00 00
    00 02 00 00 00 00 00 00  # LUN 2
    00 00 00 31
    00 00 00 2a              # Referenced Task Tag
    00 00 01 05              # CmdSN
    00 00 02 03              # ExpStatSN
    00 00 01 04              # RefCmdSN
    00 00 00 00              # ExpDataSN
    00 00 00 00 00 00 00 00`,
  pdu: {
    type: "task-management-request",
    isImmediate: true,
    function: 1,
    lun: { high: 0x0002_0000, low: 0 },
    initiatorTaskTag: 0x31,
    referencedTaskTag: 0x2a,
    cmdSn: 0x105,
    expStatSn: 0x203,
    refCmdSn: 0x104,
    expDataSn: 0,
  },
};

const taskReassign: GoldenPdu = {
  name: "Task Management Function Request, TASK REASSIGN is 8, §11.5.1, §11.5.6",
  wire: `
    42 88 00 00
    00 00 00 00
    00 00 00 00 00 00 00 00
    00 00 00 32
    00 00 00 2b
    00 00 01 06
    00 00 02 04
    00 00 00 00
    00 00 00 09              # ExpDataSN
    00 00 00 00 00 00 00 00`,
  pdu: {
    type: "task-management-request",
    isImmediate: true,
    function: 8,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x32,
    referencedTaskTag: 0x2b,
    cmdSn: 0x106,
    expStatSn: 0x204,
    refCmdSn: 0,
    expDataSn: 9,
  },
};

const queryAsyncEvent: GoldenPdu = {
  name: "Task Management Function Request, QUERY ASYNCHRONOUS EVENT is 12, RFC 7144 §6.3",
  wire: `
    02 8c 00 00
    00 00 00 00
    00 03 00 00 00 00 00 00
    00 00 00 33
    ff ff ff ff              # no referenced task (RFC 7144 §6.3.2)
    00 00 01 07
    00 00 02 05
    00 00 00 00
    00 00 00 00
    00 00 00 00 00 00 00 00`,
  pdu: {
    type: "task-management-request",
    isImmediate: false,
    function: 12,
    lun: { high: 0x0003_0000, low: 0 },
    initiatorTaskTag: 0x33,
    referencedTaskTag: 0xffff_ffff,
    cmdSn: 0x107,
    expStatSn: 0x205,
    refCmdSn: 0,
    expDataSn: 0,
  },
};

const dataOut: GoldenPdu = {
  name: "SCSI Data-Out, §11.7",
  wire: `
    05 80 00 00              # F=1
    00 00 00 04
    00 01 00 00 00 00 00 00  # LUN, copied from the R2T
    00 00 00 2c
    00 00 00 99              # Target Transfer Tag
    00 00 00 00              # reserved
    00 00 02 01              # ExpStatSN
    00 00 00 00              # reserved
    00 00 00 03              # DataSN
    00 00 60 00              # Buffer Offset
    00 00 00 00              # reserved
    de ad be ef`,
  pdu: {
    type: "scsi-data-out",
    isFinal: true,
    lun: { high: 0x0001_0000, low: 0 },
    initiatorTaskTag: 0x2c,
    targetTransferTag: 0x99,
    expStatSn: 0x201,
    dataSn: 3,
    bufferOffset: 0x6000,
    data: Buffer.from("deadbeef", "hex"),
  },
};

testGolden([
  scsiCommandRead,
  scsiCommandWrite,
  scsiCommandExtended,
  scsiCommandOddCdb,
  abortTask,
  taskReassign,
  queryAsyncEvent,
  dataOut,
]);
