import { byteAt, hasBit, readText, requireBytes } from "./bytes.js";
import { encodeVpd, VpdPage, vpdPayload } from "./vpd.js";

/** What a designator names, SPC-5 §7.7.6.2. */
export type DesignatorAssociation = "logical-unit" | "target-port" | "target-device" | "reserved";

/** The name itself. `hex` is lower case without prefix. */
export type DesignatorValue =
  | { readonly kind: "naa"; readonly hex: string }
  | { readonly kind: "eui"; readonly hex: string }
  | { readonly kind: "t10"; readonly vendor: string; readonly text: string }
  | { readonly kind: "scsi-name"; readonly text: string }
  | { readonly kind: "relative-port"; readonly port: number }
  | { readonly kind: "target-port-group"; readonly group: number }
  | { readonly kind: "logical-unit-group"; readonly group: number }
  | { readonly kind: "uuid"; readonly uuid: string }
  | { readonly kind: "other"; readonly type: number; readonly hex: string };

export type Designator = DesignatorValue & { readonly association: DesignatorAssociation };

const associations: readonly DesignatorAssociation[] = ["logical-unit", "target-port", "target-device", "reserved"];

const CODE_SET_BINARY = 1;
const CODE_SET_ASCII = 2;
const CODE_SET_UTF8 = 3;
const HEADER_BYTES = 4;
const ISCSI_PROTOCOL = 0x5;

/** Page 83h: all designators, in the device's order. One that overruns the page fails with ScsiError. */
export function decodeDeviceIdentification(bytes: Buffer): Designator[] {
  const payload = vpdPayload(bytes, VpdPage.deviceIdentification);
  const designators: Designator[] = [];
  let at = 0;
  while (at < payload.length) {
    requireBytes(payload, at + HEADER_BYTES, "designation descriptor");
    const next = at + HEADER_BYTES + byteAt(payload, at + 3);
    requireBytes(payload, next, "designation descriptor");
    const association = associations[(byteAt(payload, at + 1) >>> 4) & 3] ?? "reserved";
    const type = byteAt(payload, at + 1) & 0x0f;
    const isText = (byteAt(payload, at) & 0x0f) !== CODE_SET_BINARY;
    designators.push({ association, ...decodeValue(type, isText, payload.subarray(at + HEADER_BYTES, next)) });
    at = next;
  }
  return designators;
}

/** Page 83h of a logical unit behind iSCSI. */
export function encodeDeviceIdentification(designators: readonly Designator[]): Buffer {
  return encodeVpd(VpdPage.deviceIdentification, Buffer.concat(designators.map(encodeDesignator)));
}

function decodeValue(type: number, isText: boolean, value: Buffer): DesignatorValue {
  const hex = value.toString("hex");
  const other: DesignatorValue = { kind: "other", type, hex };
  switch (type) {
    case 1:
      return {
        kind: "t10",
        vendor: readText(value, 0, 8),
        text: isText ? readText(value, 8, value.length) : value.toString("hex", Math.min(8, value.length)),
      };
    case 2:
      return value.length === 8 || value.length === 12 || value.length === 16 ? { kind: "eui", hex } : other;
    case 3:
      return isNaa(value) ? { kind: "naa", hex } : other;
    case 4:
      return value.length === 4 ? { kind: "relative-port", port: value.readUInt16BE(2) } : other;
    case 5:
      return value.length === 4 ? { kind: "target-port-group", group: value.readUInt16BE(2) } : other;
    case 6:
      return value.length === 4 ? { kind: "logical-unit-group", group: value.readUInt16BE(2) } : other;
    case 8:
      return { kind: "scsi-name", text: value.toString("utf8").split("\0", 1)[0] ?? "" };
    case 10:
      return value.length === 18 && hasBit(value, 0, 0x10) ? { kind: "uuid", uuid: formatUuid(value) } : other;
    default:
      return other;
  }
}

/** NAA 6h has 16 bytes; 2h, 3h and 5h have 8 (SPC-5 §7.7.6.6). */
function isNaa(value: Buffer): boolean {
  const naa = byteAt(value, 0) >>> 4;
  return naa === 6 ? value.length === 16 : value.length === 8 && (naa === 2 || naa === 3 || naa === 5);
}

function formatUuid(value: Buffer): string {
  const hex = value.toString("hex", 2);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function encodeDesignator(designator: Designator): Buffer {
  const [type, codeSet, value] = encodeValue(designator);
  const association = associations.indexOf(designator.association);
  // PIV and the protocol identifier are meaningful only for ports and devices.
  const isProtocolValid = association === 1 || association === 2;
  const header = Buffer.from([
    (isProtocolValid ? ISCSI_PROTOCOL << 4 : 0) | codeSet,
    (isProtocolValid ? 0x80 : 0) | (association << 4) | type,
    0,
    value.length,
  ]);
  return Buffer.concat([header, value]);
}

function encodeValue(designator: DesignatorValue): readonly [type: number, codeSet: number, value: Buffer] {
  switch (designator.kind) {
    case "naa":
      return [3, CODE_SET_BINARY, Buffer.from(designator.hex, "hex")];
    case "eui":
      return [2, CODE_SET_BINARY, Buffer.from(designator.hex, "hex")];
    case "t10":
      return [1, CODE_SET_ASCII, Buffer.from(designator.vendor.padEnd(8).slice(0, 8) + designator.text, "latin1")];
    case "scsi-name": {
      const name = Buffer.from(`${designator.text}\0`, "utf8");
      return [8, CODE_SET_UTF8, Buffer.concat([name, Buffer.alloc((4 - (name.length % 4)) % 4)])];
    }
    case "relative-port":
      return [4, CODE_SET_BINARY, Buffer.from([0, 0, designator.port >>> 8, designator.port & 0xff])];
    case "target-port-group":
      return [5, CODE_SET_BINARY, Buffer.from([0, 0, designator.group >>> 8, designator.group & 0xff])];
    case "logical-unit-group":
      return [6, CODE_SET_BINARY, Buffer.from([0, 0, designator.group >>> 8, designator.group & 0xff])];
    case "uuid":
      return [10, CODE_SET_BINARY, Buffer.from(`1000${designator.uuid.replaceAll("-", "")}`, "hex")];
    case "other":
      return [designator.type, CODE_SET_BINARY, Buffer.from(designator.hex, "hex")];
  }
}
