import { AppError } from "../base/errors.js";
import { MAX_NODE_NAME_BYTES } from "../base/limits.js";

/** A node name that breaks RFC 7143 §4.2.7. */
export class NodeNameError extends AppError {
  constructor(name: string, why: string) {
    super(
      "login",
      "NODE_NAME_INVALID",
      `${JSON.stringify(name.slice(0, 80))} is not an iSCSI node name: ${why}; write for example iqn.2026-01.dev.example:host1`,
      { details: { reason: why } },
    );
  }
}

const iqn = /^iqn\.[0-9]{4}-(?:0[1-9]|1[0-2])\.[^:]+(?::.*)?$/u;
const eui = /^eui\.[0-9a-f]{16}$/u;
const naa = /^naa\.(?:[0-9a-f]{16}|[0-9a-f]{32})$/u;

/**
 * The name as it is sent and compared: after the iSCSI stringprep profile (RFC 3722) as far as it concerns names in
 * use, that is compatibility normalisation and lower case. Throws NodeNameError.
 */
export function normalizeNodeName(name: string): string {
  const normalized = name.normalize("NFKC").toLowerCase().normalize("NFKC");
  if (Buffer.byteLength(normalized) > MAX_NODE_NAME_BYTES) {
    throw new NodeNameError(name, `it is longer than ${MAX_NODE_NAME_BYTES} bytes`);
  }
  // §4.2.7.2: of ASCII only letters, digits, dash, dot and colon; no white space or control characters at all.
  const forbidden = /[\0-,/;-`{-\x7f]|\p{White_Space}|\p{Cc}|\p{Cf}/u.exec(normalized);
  if (forbidden !== null) throw new NodeNameError(name, `it holds the character ${JSON.stringify(forbidden[0])}`);
  if (!iqn.test(normalized) && !eui.test(normalized) && !naa.test(normalized)) {
    throw new NodeNameError(
      name,
      "it has none of the forms iqn.YYYY-MM.DOMAIN[:TEXT], eui.16HEX, naa.16HEX or naa.32HEX",
    );
  }
  return normalized;
}

/** Does the name keep the rules, once normalised? */
export function isNodeName(name: string): boolean {
  try {
    normalizeNodeName(name);
    return true;
  } catch (error) {
    if (error instanceof NodeNameError) return false;
    throw error;
  }
}
