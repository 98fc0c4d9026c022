import { createHash } from "node:crypto";
import { AppError } from "./errors.js";

/**
 * Reservation keys (SPC-5 §5.13.7) as Hawser makes them: six bytes say which cluster, two which of its nodes. Held and
 * compared as lower-case hexadecimal text.
 */

const CLUSTER_DIGITS = 12;
const CLUSTER_BYTES = 6;
const MAX_NODE_NUMBER = 0xffff;

const CLUSTER_LABEL = "hawser reservation key, cluster part";
const NODE_LABEL = "hawser reservation key, node part";

/** The cluster's half of every key: 12 hexadecimal digits, never all zero. Throws RESERVATION_KEY_INVALID for an empty id. */
export function clusterPart(clusterId: string): string {
  if (clusterId === "")
    throw invalid("a reservation key needs the id of the cluster, and it is empty; name the cluster");
  const digits = digest(CLUSTER_LABEL, Buffer.from(clusterId, "utf8")).toString("hex", 0, CLUSTER_BYTES);
  return isZero(digits) ? "1".padStart(CLUSTER_DIGITS, "0") : digits;
}

/**
 * The node's half, from what tells it from other nodes (its public key, or its name): 1 to 65535. Two nodes may get the
 * same. Throws RESERVATION_KEY_INVALID for an empty identity.
 */
export function nodePart(identity: Buffer | string): number {
  const bytes = typeof identity === "string" ? Buffer.from(identity, "utf8") : identity;
  if (bytes.length === 0) throw invalid("a reservation key needs a name or key of the node, and it is empty");
  const number = digest(NODE_LABEL, bytes).readUInt16BE(0);
  return number === 0 ? MAX_NODE_NUMBER : number;
}

/** The key of 16 digits. Throws RESERVATION_KEY_INVALID when a part is not what the functions here give. */
export function reservationKey(parts: { readonly cluster: string; readonly node: number }): string {
  const { cluster, node } = parts;
  if (!isClusterPart(cluster)) throw invalidCluster(cluster);
  if (!isNodeNumber(node)) throw invalidNode(String(node));
  return cluster + node.toString(16).padStart(4, "0");
}

/**
 * A cluster part that an operator has set: 12 hexadecimal digits, in either case, with or without `0x`. Throws
 * RESERVATION_KEY_INVALID.
 */
export function parseClusterPart(text: string): string {
  const digits = text.trim().toLowerCase().replace(/^0x/, "");
  if (!isClusterPart(digits)) throw invalidCluster(text);
  return digits;
}

/** A node part that an operator has set: 1 to 65535, decimal or hexadecimal after `0x`. Throws RESERVATION_KEY_INVALID. */
export function parseNodePart(text: string): number {
  const trimmed = text.trim();
  const node = /^(?:[0-9]{1,5}|0[xX][0-9a-fA-F]{1,4})$/.test(trimmed) ? Number(trimmed) : Number.NaN;
  if (!isNodeNumber(node)) throw invalidNode(text);
  return node;
}

/** Do both keys begin with the same cluster part? Throws RESERVATION_KEY_INVALID for what is no key. */
export function isSameCluster(keyA: string, keyB: string): boolean {
  return clusterOf(keyA) === clusterOf(keyB);
}

function clusterOf(key: string): string {
  if (!/^[0-9a-f]{16}$/.test(key)) {
    throw invalid(`"${key}" is not a reservation key: it has 16 lower-case hexadecimal digits`, { key });
  }
  return key.slice(0, CLUSTER_DIGITS);
}

function isClusterPart(text: string): boolean {
  return /^[0-9a-f]{12}$/.test(text) && !isZero(text);
}

function isNodeNumber(node: number): boolean {
  return Number.isInteger(node) && node >= 1 && node <= MAX_NODE_NUMBER;
}

function isZero(digits: string): boolean {
  return /^0+$/.test(digits);
}

/** The label keeps the parts from being equal to other hashes of the same names. */
function digest(label: string, bytes: Buffer): Buffer {
  return createHash("sha256").update(`${label}\0`).update(bytes).digest();
}

function invalidCluster(cluster: string): AppError {
  return invalid(
    `"${cluster}" is not the cluster part of a reservation key: that is ${CLUSTER_DIGITS} hexadecimal digits, not all ` +
      "of them zero, and the same on all nodes of a cluster",
    { cluster },
  );
}

function invalidNode(node: string): AppError {
  return invalid(
    `"${node}" is not the node part of a reservation key: that is a number from 1 to ${MAX_NODE_NUMBER}, decimal or ` +
      "hexadecimal after 0x, and another one on every node of a cluster",
    { node },
  );
}

function invalid(message: string, details: Readonly<Record<string, unknown>> = {}): AppError {
  return new AppError("base", "RESERVATION_KEY_INVALID", message, { details });
}
