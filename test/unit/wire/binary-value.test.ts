import {
  decodeBinaryValue,
  encodeBase64Constant,
  encodeHexConstant,
  formatBoolean,
  formatNumericalRange,
  parseBoolean,
  parseLargeNumber,
  parseNumber,
  parseNumericalRange,
} from "../../../src/wire/binary-value.js";

const limits = { maxBytes: 16 };
const invalid = expect.objectContaining({ code: "TEXT_VALUE_INVALID" }) as Error;

describe("binary values (§6.1)", () => {
  test.each([
    ["0x00", "00"],
    ["0X1aF", "01af"],
    ["0x1", "01"],
    ["0x123456789", "0123456789"],
    ["0xDEADbeef", "deadbeef"],
    ["0bAQID", "010203"],
    ["0B3q2+7w==", "deadbeef"],
    ["0bZm8=", "666f"],
  ])("%s is %s", (text, hex) => {
    expect(decodeBinaryValue(text, limits).toString("hex")).toBe(hex);
  });

  test.each(["", "0x", "0b", "0xg1", "0x 1", "1234", "0b=", "0bA", "0bAQI", "0bZm9=", "0b A==", "x12", "0b****", "-1"])(
    "%j is refused",
    (text) => {
      expect(() => decodeBinaryValue(text, limits)).toThrow(invalid);
    },
  );

  test("bounds the length before it decodes", () => {
    expect(decodeBinaryValue(`0x${"ff".repeat(16)}`, limits)).toHaveLength(16);
    expect(() => decodeBinaryValue(`0x${"ff".repeat(17)}`, limits)).toThrow(invalid);
    expect(() => decodeBinaryValue(`0x${"ff".repeat(10_000_000)}`, limits)).toThrow(invalid);
    expect(() => decodeBinaryValue(encodeBase64Constant(Buffer.alloc(17)), limits)).toThrow(invalid);
    expect(decodeBinaryValue(encodeBase64Constant(Buffer.alloc(16)), limits)).toHaveLength(16);
  });

  test("reads a decimal number only where the key defines the length", () => {
    const exact = { maxBytes: 8, exactBytes: 4 };
    expect(decodeBinaryValue("258", exact).toString("hex")).toBe("00000102");
    expect(() => decodeBinaryValue("4294967296", exact)).toThrow(invalid);
    expect(() => decodeBinaryValue("0258", exact)).toThrow(invalid);
    expect(() => decodeBinaryValue("0x0102", exact)).toThrow(invalid);
    expect(() => decodeBinaryValue("5", { maxBytes: 16, exactBytes: 16 })).toThrow(invalid);
  });

  test("comes back as it was written", () => {
    const bytes = Buffer.from("00ff10203040", "hex");
    expect(encodeHexConstant(bytes)).toBe("0x00ff10203040");
    expect(decodeBinaryValue(encodeHexConstant(bytes), limits)).toEqual(bytes);
    expect(decodeBinaryValue(encodeBase64Constant(bytes), limits)).toEqual(bytes);
  });

  test("does not repeat the value in its message", () => {
    expect(() => decodeBinaryValue("s3cret", limits)).toThrow(/^(?!.*s3cret)/);
  });
});

describe("numbers (§6.1)", () => {
  test.each([
    ["0", 0n],
    ["0x0", 0n],
    ["0X1F", 31n],
    ["0x000000000000000000001", 1n],
    ["18446744073709551615", 0xffff_ffff_ffff_ffffn],
    ["0xffffffffffffffff", 0xffff_ffff_ffff_ffffn],
  ])("%s is read", (text, value) => {
    expect(parseLargeNumber(text)).toBe(value);
  });

  test.each(["", "01", "+1", "-1", "1 ", "1e3", "0x", "18446744073709551616", "0x10000000000000000", "9".repeat(256)])(
    "%j is refused",
    (text) => {
      expect(() => parseLargeNumber(text)).toThrow(invalid);
    },
  );

  test("keeps to the bounds of its key", () => {
    expect(parseNumber("512", 512, 0xff_ffff)).toBe(512);
    expect(parseNumber("16777215", 512, 0xff_ffff)).toBe(0xff_ffff);
    expect(() => parseNumber("511", 512, 0xff_ffff)).toThrow(invalid);
    expect(() => parseNumber("16777216", 512, 0xff_ffff)).toThrow(invalid);
  });

  test("reads ranges", () => {
    expect(parseNumericalRange("2048~0x1000", 0, 65_535)).toEqual({ lower: 2048, upper: 4096 });
    expect(parseNumericalRange("5~5", 0, 65_535)).toEqual({ lower: 5, upper: 5 });
    expect(formatNumericalRange({ lower: 1, upper: 2 })).toBe("1~2");
  });

  test.each(["5", "5~", "~5", "6~5", "1~2~3", "1~65536", "a~b"])("the range %j is refused", (text) => {
    expect(() => parseNumericalRange(text, 0, 65_535)).toThrow(invalid);
  });
});

describe("booleans (§6.1)", () => {
  test("are Yes and No, case included", () => {
    expect([parseBoolean("Yes"), parseBoolean("No")]).toEqual([true, false]);
    expect([formatBoolean(true), formatBoolean(false)]).toEqual(["Yes", "No"]);
  });

  test.each(["yes", "NO", "", "1", "true"])("%j is refused", (text) => {
    expect(() => parseBoolean(text)).toThrow(invalid);
  });
});
