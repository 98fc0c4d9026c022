import { describePdu } from "../../../src/wire/describe.js";

test("a PDU is one line: set flags, numbers, tags in hexadecimal, no payload", () => {
  expect(
    describePdu({
      ...{ type: "scsi-command", isImmediate: true, isFinal: true, isRead: false, isWrite: true, taskAttribute: 1 },
      ...{ lun: { high: 0x0001_0000, low: 0 }, initiatorTaskTag: 0x2a, expectedDataTransferLength: 512 },
      ...{ cmdSn: 7, expStatSn: 8, cdb: Buffer.from("2a00", "hex"), data: Buffer.from("secret data") },
    }),
  ).toBe(
    "scsi-command immediate final write taskAttribute=1 lun=1 initiatorTaskTag=0x0000002a" +
      " expectedDataTransferLength=512 cmdSn=7 expStatSn=8 operation=0x2a data=11B",
  );
});

test("the reserved tag is a dash and an empty data segment is not mentioned", () => {
  expect(
    describePdu({
      ...{ type: "nop-in", lun: { high: 0, low: 0 }, initiatorTaskTag: 0xffff_ffff, targetTransferTag: 5 },
      ...{ statSn: 1, expCmdSn: 2, maxCmdSn: 3, data: Buffer.alloc(0) },
    }),
  ).toBe("nop-in lun=0 initiatorTaskTag=- targetTransferTag=0x00000005 statSn=1 expCmdSn=2 maxCmdSn=3");
});

test("text values stay out of it", () => {
  const line = describePdu({
    ...{ type: "login-request", isTransit: false, isContinued: false, currentStage: 0, nextStage: 0 },
    ...{ versionMax: 0, versionMin: 0, isid: Buffer.from("800000000001", "hex"), tsih: 0, initiatorTaskTag: 1 },
    ...{ cid: 0, cmdSn: 1, expStatSn: 0, data: Buffer.from("CHAP_R=0xabcdef\0") },
  });
  expect(line).toContain("isid=800000000001");
  expect(line).toContain("data=16B");
  expect(line).not.toContain("CHAP_R");
});
