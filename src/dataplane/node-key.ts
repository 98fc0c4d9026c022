import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errorCode, errorMessage } from "../base/errors.js";
import { isIscsiName, formatNodeId } from "../base/node-id.js";
import type { Random } from "../base/random.js";
import { generateSealingKeyPair, sealingKeyPairFromPrivate, type SealingKeyPair } from "../base/sealing.js";
import { Secret } from "../base/secret.js";
import { createFileDurably, makePrivateDirectory } from "../host/durable-file.js";
import { DataplaneError } from "./errors.js";

const keyFileSchema = z.object({ version: z.literal(1), privateKey: z.base64() });
const initiatorFileSchema = z.object({ version: z.literal(1), initiatorName: z.string() });

/** What names of nodes without a configured one begin with. */
const INITIATOR_NAME_PREFIX = "iqn.2026-11.dev.hawser:";

/** Longest node part: prefix, part, hash, `;` and key stay within the 256 bytes of a node id. */
const MAX_NODE_PART_CHARACTERS = 170;

/**
 * The node's X25519 key pair from `node.key` (0600) in the state directory, made once: several processes may ask at
 * the same time, all get the same pair. Throws STATE_FAILED.
 */
export async function loadNodeKey(
  options: { readonly stateDirectory: string },
  dependencies: { readonly random: Random },
): Promise<SealingKeyPair> {
  const content = await readOrCreate(join(options.stateDirectory, "node.key"), () => {
    const { privateKey } = generateSealingKeyPair(dependencies.random);
    return { version: 1, privateKey: privateKey.reveal().toString("base64") };
  });
  const parsed = keyFileSchema.safeParse(content);
  const privateKey = Buffer.from(parsed.data?.privateKey ?? "", "base64");
  // Never made anew by itself: what was sealed to the old key would be lost without a word.
  if (privateKey.length !== 32) {
    throw new DataplaneError(
      "STATE_FAILED",
      `${join(options.stateDirectory, "node.key")} is damaged; restore it, or remove it, restart and publish the ` +
        "volumes to this node again",
    );
  }
  try {
    return sealingKeyPairFromPrivate(Secret.from(privateKey));
  } finally {
    privateKey.fill(0);
  }
}

/**
 * The initiator name of this node: the configured one, else the one in `initiator.json` of the state directory, which
 * is made once from the node's name. Throws VOLUME_INVALID for a configured name that is none, STATE_FAILED.
 */
export async function loadInitiatorName(options: {
  readonly stateDirectory: string;
  readonly nodeName: string;
  readonly initiatorName?: string;
}): Promise<string> {
  if (options.initiatorName !== undefined) {
    const name = options.initiatorName.toLowerCase();
    if (isIscsiName(name)) return name;
    throw new DataplaneError(
      "VOLUME_INVALID",
      `the initiator name "${options.initiatorName}" is not an iSCSI name; write for example ${INITIATOR_NAME_PREFIX}host1`,
    );
  }
  const path = join(options.stateDirectory, "initiator.json");
  const content = await readOrCreate(path, () => ({
    version: 1,
    initiatorName: initiatorNameOf(options.nodeName),
  }));
  const name = initiatorFileSchema.safeParse(content).data?.initiatorName ?? "";
  if (isIscsiName(name)) return name;
  throw new DataplaneError("STATE_FAILED", `${path} is damaged: it holds no initiator name; restore or remove it`);
}

/** The `node_id` of this node, and the keys behind it. */
export async function loadNodeIdentity(
  options: { readonly stateDirectory: string; readonly nodeName: string; readonly initiatorName?: string },
  dependencies: { readonly random: Random },
): Promise<{ readonly nodeId: string; readonly initiatorName: string; readonly keyPair: SealingKeyPair }> {
  const keyPair = await loadNodeKey(options, dependencies);
  const initiatorName = await loadInitiatorName(options);
  return { nodeId: formatNodeId({ iqn: initiatorName, publicKey: keyPair.publicKey }), initiatorName, keyPair };
}

/** `iqn.2026-11.dev.hawser:<node name>`; a name that had to be changed gets a hash, so that no two become one. */
export function initiatorNameOf(nodeName: string): string {
  const part = nodeName
    .toLowerCase()
    .replace(/[^a-z0-9.-]/g, "-")
    .slice(0, MAX_NODE_PART_CHARACTERS);
  if (part === nodeName && part !== "") return INITIATOR_NAME_PREFIX + part;
  const hash = createHash("sha256").update(nodeName).digest("hex").slice(0, 12);
  return `${INITIATOR_NAME_PREFIX}${part}${part === "" ? "" : "-"}${hash}`;
}

/** The JSON in a file; the file is made first when there is none. */
async function readOrCreate(path: string, create: () => object): Promise<unknown> {
  try {
    const existing = await readIfThere(path);
    if (existing !== undefined) return parseOrUndefined(existing);
    await makePrivateDirectory(join(path, ".."));
    // False means another process was first: its file counts.
    await createFileDurably(path, `${JSON.stringify(create())}\n`);
    return parseOrUndefined((await readIfThere(path)) ?? "");
  } catch (error) {
    throw new DataplaneError("STATE_FAILED", `cannot read or make ${path}: ${errorMessage(error)}`, { cause: error });
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Without the parser's error, which would quote the file. */
function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
