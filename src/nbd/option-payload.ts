import { MAX_NBD_OPTION_BYTES } from "../base/limits.js";

export interface InfoOption {
  readonly exportName: string;
  readonly infoTypes: readonly number[];
}

export interface MetaContextOption {
  readonly exportName: string;
  readonly queries: readonly string[];
}

/** A string with a length of four bytes before it, and where it ends; undefined when it does not fit. */
function readString(bytes: Buffer, position: number): { readonly text: string; readonly end: number } | undefined {
  if (bytes.length - position < 4) return undefined;
  const start = position + 4;
  const end = start + bytes.readUInt32BE(position);
  if (end > bytes.length || end - start > MAX_NBD_OPTION_BYTES) return undefined;
  return { text: bytes.toString("utf8", start, end), end };
}

/** The data of INFO and GO: name, count (16 bits), that many types (16 bits). Undefined when malformed. */
export function parseInfoOption(payload: Buffer): InfoOption | undefined {
  const name = readString(payload, 0);
  if (name === undefined || payload.length - name.end < 2) return undefined;
  const count = payload.readUInt16BE(name.end);
  const start = name.end + 2;
  if (payload.length !== start + 2 * count) return undefined;
  const infoTypes = Array.from({ length: count }, (_, index) => payload.readUInt16BE(start + 2 * index));
  return { exportName: name.text, infoTypes };
}

/** The data of LIST and SET_META_CONTEXT: name, count (32 bits), that many strings. Undefined when malformed. */
export function parseMetaContextOption(payload: Buffer): MetaContextOption | undefined {
  const name = readString(payload, 0);
  if (name === undefined || payload.length - name.end < 4) return undefined;
  const count = payload.readUInt32BE(name.end);
  let position = name.end + 4;
  const queries: string[] = [];
  // Each string takes four bytes at least, so the loop ends with the payload whatever the count says.
  for (let index = 0; index < count; index += 1) {
    const query = readString(payload, position);
    if (query === undefined) return undefined;
    queries.push(query.text);
    position = query.end;
  }
  return position === payload.length ? { exportName: name.text, queries } : undefined;
}
