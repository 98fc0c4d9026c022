import { formatLun, type Lun } from "../base/lun.js";
import { RESERVED_TAG } from "./constants.js";
import type { Pdu } from "./pdu.js";

/**
 * One line for a trace: the type and every field by its name, no payload, no text values, no CDB beyond its opcode.
 * Tags are hexadecimal, `-` for the reserved one; flags appear only when set; `data` is a length in bytes.
 */
export function describePdu(pdu: Pdu): string {
  const words: string[] = [pdu.type];
  for (const [name, value] of Object.entries(pdu) as [string, unknown][]) {
    if (name === "type") continue;
    const word = describeField(name, value);
    if (word !== undefined) words.push(word);
  }
  return words.join(" ");
}

function describeField(name: string, value: unknown): string | undefined {
  if (typeof value === "boolean") return value ? name.replace(/^(is|has)/, "").toLowerCase() : undefined;
  if (typeof value === "number") return `${name}=${name.endsWith("Tag") ? describeTag(value) : String(value)}`;
  if (name === "cdb" && Buffer.isBuffer(value)) return `operation=0x${value.toString("hex", 0, 1)}`;
  if (name === "isid" && Buffer.isBuffer(value)) return `isid=${value.toString("hex")}`;
  if (Buffer.isBuffer(value)) return value.length === 0 ? undefined : `${name}=${value.length}B`;
  if (isLun(value)) return `lun=${formatLun(value)}`;
  return undefined;
}

function describeTag(tag: number): string {
  return tag === RESERVED_TAG ? "-" : `0x${tag.toString(16).padStart(8, "0")}`;
}

function isLun(value: unknown): value is Lun {
  return typeof value === "object" && value !== null && "high" in value && "low" in value;
}
