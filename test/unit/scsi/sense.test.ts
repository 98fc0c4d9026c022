import { ascName, decodeSense, describeSense, encodeSense, SenseKey } from "../../../src/scsi/sense.js";

const bytes = (hex: string): Buffer => Buffer.from(hex, "hex");

/** Bytes by hand from SPC-5 §4.4.2 (descriptor) and §4.4.3 (fixed format). */
describe("decodeSense", () => {
  it("reads fixed format with INFORMATION", () => {
    // F0: valid, current; key 3; information 0x00012345; length 0x0a; ASC 11 ASCQ 00
    const sense = decodeSense(bytes("f00003000123450a00000000110000000000"));
    expect(sense).toEqual({ isDeferred: false, key: 3, asc: 0x11, ascq: 0, information: 0x12345 });
    expect(describeSense(sense)).toBe("MEDIUM ERROR: unrecovered read error (3/11/00), information 74565");
  });

  it("does not trust INFORMATION without the VALID bit", () => {
    expect(decodeSense(bytes("700003000123450a00000000110000000000"))).not.toHaveProperty("information");
  });

  it("reads the field pointer of ILLEGAL REQUEST", () => {
    // SKSV, C/D, BPV, bit 3, byte 2
    const sense = decodeSense(bytes("70000500000000" + "0a00000000" + "2400" + "00" + "cb0002"));
    expect(sense.fieldPointer).toEqual({ isInCdb: true, byteOffset: 2, bit: 3 });
  });

  it("reads the progress of NOT READY", () => {
    const sense = decodeSense(bytes("70000200000000" + "0a00000000" + "0404" + "00" + "808000"));
    expect(sense.progress).toBe(0.5);
  });

  it("tells deferred errors apart", () => {
    expect(decodeSense(bytes("710003000000000a000000000c0000000000")).isDeferred).toBe(true);
    expect(decodeSense(bytes("73030c0000000000")).isDeferred).toBe(true);
  });

  it("reads descriptor format with information, command specific and key specific descriptors", () => {
    const sense = decodeSense(
      bytes(
        "72050000" +
          "00000020" +
          "000a8000" +
          "0000000100000002" +
          "010a0000" +
          "0000000000000007" +
          "02060000" +
          "40000300".replace("40", "c0"),
      ),
    );
    expect(sense).toMatchObject({
      key: 5,
      information: 0x1_0000_0002,
      commandSpecificInformation: 7,
      fieldPointer: { isInCdb: true, byteOffset: 3, bit: undefined },
    });
  });

  it("skips descriptors it does not know and stops at one that overruns", () => {
    expect(decodeSense(bytes("720b4700" + "00000008" + "09020000" + "000a8000"))).toEqual({
      isDeferred: false,
      key: 0xb,
      asc: 0x47,
      ascq: 0,
    });
  });

  it("ignores bytes beyond ADDITIONAL SENSE LENGTH", () => {
    expect(decodeSense(bytes("7000060000000002" + "00000000" + "2900"))).toMatchObject({ key: 6, asc: 0, ascq: 0 });
  });

  it("takes short fixed sense for what it has", () => {
    expect(decodeSense(bytes("700006"))).toEqual({ isDeferred: false, key: 6, asc: 0, ascq: 0 });
  });

  it.each([
    ["nothing", ""],
    ["no sense key in fixed format", "7000"],
    ["no codes in descriptor format", "720500"],
  ])("fails with a typed error on %s", (_name, hex) => {
    expect(() => decodeSense(bytes(hex))).toThrow(expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }));
  });

  it("fails with a typed error on an unknown response code", () => {
    expect(() => decodeSense(bytes("7f0000000000000000"))).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_INVALID" }),
    );
  });

  it("drops an INFORMATION beyond 2^53 instead of rounding it", () => {
    expect(decodeSense(bytes("72030000" + "0000000c" + "000a8000" + "ffffffffffffffff"))).not.toHaveProperty(
      "information",
    );
  });
});

describe("encodeSense", () => {
  it("writes fixed format", () => {
    const sense = {
      key: SenseKey.illegalRequest,
      asc: 0x24,
      ascq: 0,
      fieldPointer: { isInCdb: true, byteOffset: 7, bit: 2 },
    };
    expect(encodeSense(sense).toString("hex")).toBe("700005000000000a000000002400" + "00" + "ca0007");
  });

  it("writes descriptor format", () => {
    const sense = { key: SenseKey.miscompare, asc: 0x1d, ascq: 0, information: 0x200 };
    expect(encodeSense(sense, "descriptor").toString("hex")).toBe("720e1d000000000c" + "000a80000000000000000200");
  });

  it.each(["fixed", "descriptor"] as const)("is read back equal in %s format", (format) => {
    const sense = { isDeferred: true, key: 2, asc: 4, ascq: 4, information: 99, progress: 0.25 };
    expect(decodeSense(encodeSense(sense, format))).toEqual(sense);
  });
});

describe("ascName", () => {
  it("names what it knows and numbers what it does not", () => {
    expect(ascName(0x27, 0x07)).toBe("thin pool full: no space to allocate the block");
    expect(ascName(0x11, 0x7f)).toBe("unrecovered read error (detail 11/7F)");
    expect(ascName(0x99, 0x01)).toBe("vendor-specific condition 99/01");
    expect(ascName(0x40, 0x85)).toBe("diagnostic failure of component 85");
    expect(ascName(0x12, 0x34)).toBe("condition 12/34");
  });
});
