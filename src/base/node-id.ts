import { AppError } from "./errors.js";
import { MAX_CSI_NODE_ID_BYTES, MAX_NODE_NAME_BYTES } from "./limits.js";

/** Who a node is: the initiator name it logs in with and the X25519 public key secrets are sealed to. */
export interface NodeIdentity {
  readonly iqn: string;
  /** 32 bytes. */
  readonly publicKey: Buffer;
}

const PUBLIC_KEY_BYTES = 32;

/** iSCSI names as RFC 7143 §4.2.7 allows them after stringprep: no white space, no `;`, which is our separator. */
const ISCSI_NAME =
  /^(?:iqn\.\d{4}-\d{2}\.[a-z0-9.-]+(?::[a-z0-9.:-]*)?|eui\.[0-9a-fA-F]{16}|naa\.(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{32}))$/;

/** Is `name` a well-formed iSCSI name (`iqn.`, `eui.` or `naa.`)? */
export function isIscsiName(name: string): boolean {
  return name.length <= MAX_NODE_NAME_BYTES && ISCSI_NAME.test(name);
}

/** The `node_id` of CSI: `IQN;base64url(public key)`. Throws NODE_ID_INVALID when a part is ill-formed or too long. */
export function formatNodeId(identity: NodeIdentity): string {
  const nodeId = `${identity.iqn};${identity.publicKey.toString("base64url")}`;
  if (parseNodeId(nodeId) === undefined) {
    throw new AppError(
      "base",
      "NODE_ID_INVALID",
      `no node id can be made of initiator name "${identity.iqn}" and a key of ${identity.publicKey.length} bytes: ` +
        `the name must be an iSCSI name, the key 32 bytes, the whole at most ${MAX_CSI_NODE_ID_BYTES} bytes`,
      { details: { iqn: identity.iqn } },
    );
  }
  return nodeId;
}

/** The parts of a `node_id`, or undefined when it is not one that `formatNodeId` could have made. */
export function parseNodeId(nodeId: string): NodeIdentity | undefined {
  if (Buffer.byteLength(nodeId) > MAX_CSI_NODE_ID_BYTES) return undefined;
  const [iqn = "", key = "", ...rest] = nodeId.split(";");
  const publicKey = Buffer.from(key, "base64url");
  // Decoding ignores what is not base64url: only a text that encodes back to itself is a key.
  const isCanonical = publicKey.length === PUBLIC_KEY_BYTES && publicKey.toString("base64url") === key;
  return rest.length === 0 && isIscsiName(iqn) && isCanonical ? { iqn, publicKey } : undefined;
}
