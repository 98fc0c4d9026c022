import { isAbsolute, resolve } from "node:path";
import { AppError } from "../base/errors.js";

export type StoreArgument =
  { readonly kind: "file"; readonly directory: string } | { readonly kind: "memory" | "null" };

/** `file:DIR`, `memory` or `null`. */
export function parseStore(text: string): StoreArgument {
  if (text === "memory" || text === "null") return { kind: text };
  const directory = text.startsWith("file:") ? text.slice("file:".length) : "";
  if (directory === "")
    throw new AppError("cli", "STORE_INVALID", `"${text}" is not a store; write file:DIR, memory or null`);
  return { kind: "file", directory: isAbsolute(directory) ? directory : resolve(directory) };
}
