import { decodePdu } from "../../../src/wire/decode.js";
import { ProtocolError } from "../../../src/wire/errors.js";

/** Field rules of RFC 7143 §11, one header each. Words are at their offset; the rest is zero. */

interface HeaderFields {
  /** Bytes 0 to 3. */
  readonly first: number;
  /** 32-bit words by offset. */
  readonly words?: Readonly<Record<number, number>>;
  readonly bytes?: Readonly<Record<number, number>>;
  readonly ahs?: string;
  readonly data?: string;
}

function decode(fields: HeaderFields): unknown {
  const header = Buffer.alloc(48);
  const data = Buffer.from(fields.data ?? "", "hex");
  const ahs = fields.ahs === undefined ? undefined : Buffer.from(fields.ahs, "hex");
  header.writeUInt32BE(fields.first >>> 0);
  header.writeUInt32BE((ahs?.length ?? 0) * 0x40_0000 + data.length, 4);
  for (const [offset, word] of Object.entries(fields.words ?? {})) header.writeUInt32BE(word >>> 0, Number(offset));
  for (const [offset, byte] of Object.entries(fields.bytes ?? {})) header.writeUInt8(byte, Number(offset));
  return decodePdu(header, ahs, data);
}

function refusal(fields: HeaderFields): ProtocolError {
  try {
    decode(fields);
  } catch (error) {
    if (error instanceof ProtocolError) return error;
    throw error;
  }
  throw new Error("the PDU was accepted");
}

const NONE = 0xffff_ffff;

describe("a field rule that is broken", () => {
  const broken: readonly (readonly [string, string, HeaderFields])[] = [
    ["SCSI Command without W and F", "11.3.1", { first: 0x0140_0000 }],
    ["SCSI Command with attribute 5", "11.3.1", { first: 0x01c5_0000 }],
    ["SCSI Command with attribute 7", "11.3.1", { first: 0x01c7_0000 }],
    ["SCSI Command with the reserved task tag", "11.2.1.8", { first: 0x01c1_0000, words: { 16: NONE } }],
    ["SCSI Command with a transfer without direction", "11.3.1", { first: 0x0181_0000, words: { 20: 512 } }],
    ["SCSI Command, bidirectional without read length", "11.3.4", { first: 0x01e1_0000, words: { 20: 512 } }],
    ["SCSI Command, read length without direction", "11.3.1", { first: 0x0181_0000, ahs: "0005020000000200" }],
    ["SCSI Command, all data immediate but F=0", "11.3.4", { first: 0x0121_0000, words: { 20: 4 }, data: "01020304" }],
    ["SCSI Command, AHS cut short", "11.2.2.2", { first: 0x01c1_0000, ahs: "00090100" }],
    ["SCSI Command, AHS one byte too long", "11.2.2.2", { first: 0x01c1_0000, ahs: "00020100" }],
    ["SCSI Command, AHS of type 3", "11.2.2.1", { first: 0x01c1_0000, ahs: "00010300" }],
    ["SCSI Command, AHS of type 0", "11.2.2.1", { first: 0x01c1_0000, ahs: "00000000" }],
    ["SCSI Command, extended CDB without bytes", "11.2.2.3", { first: 0x01c1_0000, ahs: "00010100" }],
    ["SCSI Command, two extended CDBs", "11.2.2.3", { first: 0x01c1_0000, ahs: "00020100aa0000000002010000000000" }],
    ["SCSI Command, read length of four bytes", "11.2.2.4", { first: 0x01c1_0000, ahs: "0004020000000200" }],
    ["SCSI Command, two read lengths", "11.2.2.4", { first: 0x01c1_0000, ahs: "00050200000002000005020000000200" }],
    ["SCSI Response with O and U", "11.4.1", { first: 0x2186_0000 }],
    ["SCSI Response with o and u", "11.4.1", { first: 0x2198_0000 }],
    ["SCSI Response with response 2", "11.4.3", { first: 0x2180_0200 }],
    ["SCSI Response with response 0x7f", "11.4.3", { first: 0x2180_7f00 }],
    ["SCSI Response with the reserved task tag", "11.2.1.8", { first: 0x2180_0000, words: { 16: NONE } }],
    ["ABORT TASK without a task", "11.5.4", { first: 0x4281_0000, words: { 20: NONE } }],
    ["QUERY TASK without a task", "11.5.4", { first: 0x4289_0000, words: { 20: NONE } }],
    ["ABORT TASK SET with a task", "11.5.4", { first: 0x4282_0000, words: { 20: 5 } }],
    ["I_T NEXUS RESET with a task", "11.5.4", { first: 0x428b_0000, words: { 20: 5 } }],
    ["TASK REASSIGN that is not immediate", "11.5.1", { first: 0x0288_0000, words: { 20: 5 } }],
    ["Task Management Request with data", "11.5.2", { first: 0x4281_0000, words: { 20: 5 }, data: "00" }],
    ["Task Management Response with data", "11.6.2", { first: 0x2280_0000, data: "00" }],
    ["Task Management Response 8", "11.6.1", { first: 0x2280_0800 }],
    ["Data-Out with the reserved task tag", "11.2.1.8", { first: 0x0580_0000, words: { 16: NONE } }],
    ["Data-In with S but not F", "11.7.3", { first: 0x2501_0000 }],
    ["Data-In with S, O and U", "11.4.1", { first: 0x2587_0000 }],
    ["Data-In with CHECK CONDITION", "11.7.3", { first: 0x2581_0002 }],
    ["Data-In with BUSY", "11.7.3", { first: 0x2581_0008 }],
    ["Data-In with the reserved task tag", "11.2.1.8", { first: 0x2580_0000, words: { 16: NONE } }],
    ["R2T with the reserved transfer tag", "11.8.5", { first: 0x3180_0000, words: { 20: NONE, 44: 512 } }],
    ["R2T of length 0", "11.8.4", { first: 0x3180_0000, words: { 20: 1 } }],
    ["R2T with data", "11.8.1", { first: 0x3180_0000, words: { 20: 1, 44: 512 }, data: "00" }],
    ["R2T with the reserved task tag", "11.2.1.8", { first: 0x3180_0000, words: { 16: NONE, 20: 1, 44: 512 } }],
    ["Text Request with C and F", "11.10.2", { first: 0x04c0_0000 }],
    ["Text Request with the reserved task tag", "11.2.1.8", { first: 0x0480_0000, words: { 16: NONE } }],
    ["Text Response with C and F", "11.11.2", { first: 0x24c0_0000, words: { 20: NONE } }],
    ["Text Response, not final, without tag", "11.11.1", { first: 0x2400_0000, words: { 20: NONE } }],
    ["Login Request with C and T", "11.12.2", { first: 0x43c1_0000 }],
    ["Login Request in stage 2", "11.12.3", { first: 0x4308_0000 }],
    ["Login Request to stage 2", "11.12.3", { first: 0x4382_0000 }],
    ["Login Request with an ISID of type 11b", "11.12.5", { first: 0x4300_0000, bytes: { 8: 0xc0 } }],
    ["Login Request with the reserved task tag", "11.2.1.8", { first: 0x4300_0000, words: { 16: NONE } }],
    ["Login Response with C and T", "11.13.7", { first: 0x23c1_0000 }],
    ["Login Response in stage 2", "11.12.3", { first: 0x2308_0000 }],
    ["Logout Request with reason 3", "11.14.1", { first: 0x4683_0000 }],
    ["Logout Request with data", "11.14.2", { first: 0x4680_0000, data: "00" }],
    ["Logout Response 4", "11.15.1", { first: 0x2680_0400 }],
    ["Logout Response with data", "11.15.2", { first: 0x2680_0000, data: "00" }],
    ["SNACK of type 4", "11.16.1", { first: 0x1084_0000 }],
    ["Status SNACK with a task", "11.16.4", { first: 0x1081_0000, words: { 16: 1, 20: NONE } }],
    ["Data SNACK without a task", "11.16.4", { first: 0x1080_0000, words: { 16: NONE, 20: NONE } }],
    ["Data SNACK with a transfer tag", "11.16.5", { first: 0x1080_0000, words: { 16: 1, 20: 5 } }],
    ["DataACK without transfer tag", "11.16.5", { first: 0x1082_0000, words: { 16: NONE, 20: NONE } }],
    ["DataACK with a run length", "11.16.7", { first: 0x1082_0000, words: { 16: NONE, 20: 5, 44: 1 } }],
    ["R-Data SNACK with tag 0", "11.16.5", { first: 0x1083_0000, words: { 16: 1, 20: 0 } }],
    ["R-Data SNACK with the reserved tag", "11.16.5", { first: 0x1083_0000, words: { 16: 1, 20: NONE } }],
    ["R-Data SNACK with BegRun", "11.16.6", { first: 0x1083_0000, words: { 16: 1, 20: 5, 40: 1 } }],
    ["R-Data SNACK with RunLength", "11.16.7", { first: 0x1083_0000, words: { 16: 1, 20: 5, 44: 1 } }],
    ["SNACK with data", "11.2.1.6", { first: 0x1080_0000, words: { 16: 1, 20: NONE }, data: "00" }],
    ["NOP-Out, no answer wanted, not immediate", "11.18.1", { first: 0x0080_0000, words: { 16: NONE, 20: NONE } }],
    ["NOP-In with both tags", "11.19.1", { first: 0x2080_0000, words: { 16: 1, 20: 2 } }],
    ["NOP-In, unasked, with data", "11.19", { first: 0x2080_0000, words: { 16: NONE, 20: 2 }, data: "00" }],
    ["NOP-In with AHS", "11.2.1.5", { first: 0x2080_0000, words: { 20: NONE }, ahs: "00010300" }],
    ["SCSI Response with AHS", "11.2.1.5", { first: 0x2180_0000, ahs: "00020100aa000000" }],
  ];

  test.each(broken)("%s is refused by §%s", (_name, section, fields) => {
    const error = refusal(fields);
    expect(error.code).toBe("PDU_FIELD_INVALID");
    expect(error.details["section"]).toBe(`RFC 7143 §${section}`);
    expect(error.details["opcode"]).toBe((fields.first >>> 24) & 0x3f);
    expect(error.message).toContain(section);
  });
});

test.each([0x07, 0x0f, 0x11, 0x1c, 0x1e, 0x1f, 0x27, 0x30, 0x33, 0x3c, 0x3e])("opcode %i is unknown", (opcode) => {
  const error = refusal({ first: opcode * 0x0100_0000 });
  expect(error.code).toBe("OPCODE_UNKNOWN");
  expect(error.details).toMatchObject({ opcode, section: "RFC 7143 §11.2.1.2" });
});

test("parts that are not as long as the header says are refused", () => {
  const header = Buffer.alloc(48);
  header.writeUInt32BE(0x2080_0000);
  header.writeUInt32BE(4, 4);
  header.writeUInt32BE(NONE, 20);
  expect(() => decodePdu(header, undefined, Buffer.alloc(3))).toThrow(
    expect.objectContaining({ code: "PDU_LENGTH_MISMATCH" }) as Error,
  );
  expect(decodePdu(header, undefined, Buffer.alloc(4)).type).toBe("nop-in");
});

describe("what a receiver must ignore", () => {
  test("reserved bits and fields, §11", () => {
    // Byte 0 bit 0, R2T's byte 1 below F and bytes 2 and 3.
    const plain = decode({ first: 0x3180_0000, words: { 20: 1, 44: 512 } });
    expect(decode({ first: 0xf1ff_ffff, words: { 20: 1, 44: 512 } })).toEqual(plain);
  });

  test("an F bit that is drawn as 1 but missing", () => {
    expect(decode({ first: 0x3100_0000, words: { 20: 1, 44: 512 } })).toMatchObject({ type: "ready-to-transfer" });
  });

  test("status, StatSN and residual of Data-In without S, §11.7.3", () => {
    expect(decode({ first: 0x2586_0002, words: { 24: 9, 44: 7 } })).toMatchObject({
      hasStatus: false,
      status: 0,
      statSn: 0,
      isOverflow: false,
      isUnderflow: false,
      residualCount: 0,
    });
  });

  test("the flags of a SCSI Response that is a target failure, §11.4.3", () => {
    expect(decode({ first: 0x219e_0102, words: { 40: 5, 44: 7 } })).toMatchObject({
      response: 1,
      isOverflow: false,
      isUnderflow: false,
      isBidirectionalOverflow: false,
      isBidirectionalUnderflow: false,
      residualCount: 0,
      bidirectionalResidualCount: 0,
    });
  });

  test("a residual count without its flag, §11.4.5.1", () => {
    expect(decode({ first: 0x2180_0000, words: { 44: 7 } })).toMatchObject({ residualCount: 0 });
  });

  test("the tag of a final Text Response, §11.10.4", () => {
    expect(decode({ first: 0x2480_0000, words: { 20: 77 } })).toMatchObject({ targetTransferTag: NONE });
  });

  test("the next stage without T, §11.12.3", () => {
    expect(decode({ first: 0x4306_0000 })).toMatchObject({ isTransit: false, currentStage: 1, nextStage: 1 });
  });

  test("the I bit of a Login Request, §11.12", () => {
    expect(decode({ first: 0x0387_0000 })).toMatchObject({ type: "login-request", currentStage: 1, nextStage: 3 });
  });

  test("the stages of a Login Response that refuses, §11.13.5", () => {
    expect(decode({ first: 0x23ca_0000, bytes: { 36: 2, 37: 1 } })).toMatchObject({
      isTransit: false,
      isContinued: false,
      statusClass: 2,
      statusDetail: 1,
    });
  });

  test("reserved bits of AHSType, §11.2.2.1", () => {
    expect(decode({ first: 0x01c1_0000, ahs: "0002c100aa000000" })).toMatchObject({
      cdb: Buffer.from(`${"00".repeat(16)}aa`, "hex"),
    });
  });
});

test("nothing of the header is kept, and the data is the caller's own", () => {
  const header = Buffer.alloc(48);
  header.writeUInt32BE(0x0121_0000);
  header.writeUInt32BE(4, 4);
  header.writeUInt32BE(0x2a00_0000, 32);
  const data = Buffer.from("abcd");
  const pdu = decodePdu(header, undefined, data);
  header.fill(0xff);
  expect(pdu).toMatchObject({ type: "scsi-command", cdb: Buffer.from(`2a${"00".repeat(15)}`, "hex") });
  expect("data" in pdu && pdu.data).toBe(data);
});

test("an unassigned task management function is for the target to answer, not a format error", () => {
  expect(decode({ first: 0x428d_0000, words: { 20: NONE } })).toMatchObject({ function: 13 });
});
