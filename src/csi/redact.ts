import type protobuf from "protobufjs";
import { isSecretLikeName } from "../storage/secret-names.js";

const REDACTED = "[redacted]";
/** Sealed to a node, so no secret; but no use in a log either. */
const SEALED = /^v1\.[A-Za-z0-9_-]{40,}$/;

/**
 * A copy of a message fit for a log: fields the interface marks `csi_secret` are replaced whole, whatever they hold,
 * and so is every map entry whose key looks like a secret's, since people do put secrets where they do not belong.
 */
export function redactMessage(type: protobuf.Type, message: unknown): Readonly<Record<string, unknown>> {
  if (!isRecord(message)) return {};
  const entries = type.fieldsArray.flatMap((field) => {
    const value = message[field.name];
    return value === undefined || value === null ? [] : [[field.name, redactField(field, value)]];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
}

function redactField(field: protobuf.Field, value: unknown): unknown {
  if (field.getOption("(csi_secret)") === true) return isEmpty(value) ? {} : REDACTED;
  if (field.map) return redactMap(value);
  const { resolvedType } = field;
  if (resolvedType === null || !("fieldsArray" in resolvedType)) return value;
  if (Array.isArray(value)) return value.map((item) => redactMessage(resolvedType, item));
  return redactMessage(resolvedType, value);
}

function redactMap(value: unknown): unknown {
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => {
      if (isSecretLikeName(key)) return [key, REDACTED];
      return [key, typeof entry === "string" && SEALED.test(entry) ? "[sealed]" : entry];
    }),
  );
}

function isEmpty(value: unknown): boolean {
  return isRecord(value) && Object.keys(value).length === 0;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
