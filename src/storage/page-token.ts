import { StorageError } from "./backend.js";

/** A list token says after which id the next page begins, so that volumes that come and go shift nothing. */
export function encodePageToken(lastId: string): string {
  return `after.${Buffer.from(lastId).toString("base64url")}`;
}

/** The id to go on after; empty for the empty token. STORAGE_TOKEN_INVALID for a text that is no token. */
export function decodePageToken(token: string): string {
  if (token === "") return "";
  const encoded = /^after\.([A-Za-z0-9_-]{1,200})$/.exec(token)?.[1] ?? "";
  const id = Buffer.from(encoded, "base64url").toString();
  if (id !== "" && encodePageToken(id) === token) return id;
  throw new StorageError("STORAGE_TOKEN_INVALID", "the list token is not one of ours; list from the start");
}
