import { decodePdu } from "../../src/wire/decode.js";
import { encodePdu } from "../../src/wire/encode.js";
import type { Pdu } from "../../src/wire/pdu.js";

/** One PDU as bytes laid out by hand from the figure of its section, and as the value they stand for. */
export interface GoldenPdu {
  readonly name: string;
  /** Hexadecimal, one line per word or field; what follows a `#` is a comment. */
  readonly wire: string;
  readonly pdu: Pdu;
}

/** The bytes of commented hexadecimal. */
export function fromHex(text: string): Buffer {
  const digits = text.replace(/#.*$/gm, "").replace(/\s+/g, "");
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hexadecimal: ${digits}`);
  return Buffer.from(digits, "hex");
}

export function decodeWhole(bytes: Buffer): Pdu {
  const ahsEnd = 48 + bytes.readUInt8(4) * 4;
  const dataEnd = ahsEnd + bytes.readUIntBE(5, 3);
  const ahs = ahsEnd > 48 ? bytes.subarray(48, ahsEnd) : undefined;
  return decodePdu(bytes.subarray(0, 48), ahs, bytes.subarray(ahsEnd, dataEnd));
}

/** Declares both directions of every vector as tests. */
export function testGolden(vectors: readonly GoldenPdu[]): void {
  test.each(vectors)("$name is encoded to the bytes of the figure", ({ wire, pdu }) => {
    const bytes = Buffer.concat(encodePdu(pdu, { header: false, data: false }));
    expect(bytes.toString("hex")).toBe(fromHex(wire).toString("hex"));
  });

  test.each(vectors)("$name is decoded from the bytes of the figure", ({ wire, pdu }) => {
    expect(decodeWhole(fromHex(wire))).toEqual(pdu);
  });
}
