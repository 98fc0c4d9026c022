import { decodeTextKeys, encodeTextKeys, splitText, TextAssembler } from "../../../src/wire/text-keys.js";

function codeOf(body: () => unknown): unknown {
  try {
    body();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return "accepted";
}

describe("encodeTextKeys", () => {
  test("ends every pair with a NUL (§6.1)", () => {
    expect(
      encodeTextKeys([
        ["InitiatorName", "iqn.2000-01.com.example:ä"],
        ["AuthMethod", "CHAP,None"],
        ["TargetAlias", ""],
      ]).toString("utf8"),
    ).toBe("InitiatorName=iqn.2000-01.com.example:ä\0AuthMethod=CHAP,None\0TargetAlias=\0");
    expect(encodeTextKeys([])).toHaveLength(0);
  });

  test.each([
    ["", "x"],
    ["K".repeat(64), "x"],
    ["A=B", "x"],
    ["A\0", "x"],
    ["A", "x\0y"],
  ])("refuses the pair %j=%j", (key, value) => {
    expect(() => encodeTextKeys([[key, value]])).toThrow();
  });
});

describe("decodeTextKeys", () => {
  test("splits at the first = and keeps order and repetitions", () => {
    expect(decodeTextKeys(Buffer.from("B=1\0A=x=y\0B=2\0C=\0"))).toEqual([
      ["B", "1"],
      ["A", "x=y"],
      ["B", "2"],
      ["C", ""],
    ]);
  });

  test("skips NULs where a pair should begin", () => {
    expect(decodeTextKeys(Buffer.from("\0A=1\0\0\0B=2\0\0"))).toEqual([
      ["A", "1"],
      ["B", "2"],
    ]);
    expect(decodeTextKeys(Buffer.alloc(0))).toEqual([]);
  });

  test.each([
    ["A=1", "TEXT_UNTERMINATED"],
    ["A=1\0B", "TEXT_UNTERMINATED"],
    ["A\0", "TEXT_KEY_INVALID"],
    ["=1\0", "TEXT_KEY_INVALID"],
    [`${"K".repeat(64)}=1\0`, "TEXT_KEY_INVALID"],
    [`${"K".repeat(63)}=1\0`, "accepted"],
    [`InitiatorName=${"x".repeat(256)}\0`, "TEXT_VALUE_TOO_LONG"],
    [`InitiatorName=${"x".repeat(255)}\0`, "accepted"],
    [`CHAP_R=0x${"ab".repeat(1024)}\0`, "accepted"],
    [`X-com.example.key=${"x".repeat(8192)}\0`, "accepted"],
    [`X-com.example.key=${"x".repeat(8193)}\0`, "TEXT_VALUE_TOO_LONG"],
  ])("%#: a text gives the code it should", (text, code) => {
    expect(codeOf(() => decodeTextKeys(Buffer.from(text)))).toBe(code);
  });

  test("refuses bytes that are not UTF-8", () => {
    expect(codeOf(() => decodeTextKeys(Buffer.from("413dff00", "hex")))).toBe("TEXT_NOT_UTF8");
  });

  test("does not repeat a value in its message", () => {
    const text = `MaxBurstLength=${"s3cret".repeat(50)}\0`;
    expect(() => decodeTextKeys(Buffer.from(text))).toThrow(/^(?!.*s3cret).*MaxBurstLength/);
  });

  test("bounds the number of pairs", () => {
    expect(codeOf(() => decodeTextKeys(Buffer.from("A=\0".repeat(262_145))))).toBe("TEXT_TOO_MANY_PAIRS");
  });

  test("reads back what encodeTextKeys wrote", () => {
    const pairs: [string, string][] = [
      ["SendTargets", "All"],
      ["TargetAddress", "[2001:db8::1]:3260,1"],
    ];
    expect(decodeTextKeys(encodeTextKeys(pairs))).toEqual(pairs);
  });
});

describe("splitText and TextAssembler", () => {
  test("cut anywhere and join again", () => {
    const text = encodeTextKeys([
      ["A", "1"],
      ["TargetName", "iqn.2000-01.com.example:disk"],
    ]);
    for (let size = 1; size <= text.length + 1; size += 1) {
      const parts = splitText(text, size);
      expect(parts.every((part) => part.length <= size)).toBe(true);
      const assembler = new TextAssembler(text.length);
      for (const part of parts) assembler.append(part);
      expect(assembler.pendingBytes).toBe(text.length);
      expect(assembler.finish().equals(text)).toBe(true);
      expect(assembler.pendingBytes).toBe(0);
    }
  });

  test("an empty text is one empty part", () => {
    expect(splitText(Buffer.alloc(0), 8192)).toEqual([Buffer.alloc(0)]);
    expect(new TextAssembler(10).finish()).toHaveLength(0);
  });

  test("accepts the limit and refuses one byte more", () => {
    const assembler = new TextAssembler(10);
    assembler.append(Buffer.alloc(10));
    expect(codeOf(() => assembler.append(Buffer.alloc(1)))).toBe("TEXT_TOO_LONG");
  });

  test("keeps nothing of a segment, and a finished text is left alone", () => {
    const assembler = new TextAssembler(100);
    const segment = Buffer.from("A=1\0");
    assembler.append(segment);
    segment.fill(0xff);
    const first = assembler.finish();
    assembler.append(Buffer.from("B=2\0"));
    expect(first.toString()).toBe("A=1\0");
    expect(assembler.finish().toString()).toBe("B=2\0");
  });
});
