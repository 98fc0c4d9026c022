import type { ChapCredentials } from "../base/access.js";
import { parseNodeId } from "../base/node-id.js";
import type { Random } from "../base/random.js";
import { Secret } from "../base/secret.js";
import type { StorageBackend } from "../storage/backend.js";
import { CsiError } from "./errors.js";
import type { InFlight } from "./in-flight.js";
import { encodePublishContext } from "./publish-context.js";
import { controllerPublishRequest, controllerUnpublishRequest, parseRequest } from "./requests.js";
import { isReaderMode, isSingleNodeMode, rejectSecrets, requireText, requireUse } from "./validate.js";

/** Bytes of a generated CHAP secret before encoding: RFC 7143 §9.2.1 recommends at least 128 random bits. */
const CHAP_SECRET_BYTES = 24;
const CHAP_USER_BYTES = 8;

export interface ControllerPublicationDependencies {
  readonly backend: StorageBackend;
  readonly inFlight: InFlight;
  readonly random: Random;
}

/** ControllerPublishVolume and its undoing: who may log in to a volume, and with which secrets. */
export class ControllerPublication {
  readonly #dependencies: ControllerPublicationDependencies;

  constructor(dependencies: ControllerPublicationDependencies) {
    this.#dependencies = dependencies;
  }

  /** Grants the volume to the node and tells it how to get there. */
  async publish(wire: unknown): Promise<object> {
    const { backend, inFlight, random } = this.#dependencies;
    const request = parseRequest(controllerPublishRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    const nodeId = requireText(request.nodeId, "node_id");
    const use = requireUse(request.volumeCapability);
    rejectSecrets(request.volumeContext, "volume_context");
    const isReadOnly = request.readonly || isReaderMode(use.mode);
    return inFlight.run(`volume ${volumeId}`, "ControllerPublishVolume", async () => {
      if (!(await backend.exists(volumeId, request.volumeContext))) {
        throw new CsiError("CSI_NOT_FOUND", `there is no volume ${volumeId}`);
      }
      const node = parseNodeId(nodeId);
      if (node === undefined) {
        throw new CsiError("CSI_NOT_FOUND", `there is no node "${nodeId}": a node of this driver is named IQN;key`);
      }
      const access = await backend.grant(
        volumeId,
        {
          iqn: node.iqn,
          holder: nodeId,
          isReadOnly,
          isExclusive: isSingleNodeMode(use.mode),
          chap: generateChap(random),
        },
        request.volumeContext,
      );
      const sealing = { volumeHandle: volumeId, nodeId };
      const options = { isReadOnly, nodePublicKey: node.publicKey, sealing };
      return { publishContext: encodePublishContext(access, options, { random }) };
    });
  }

  /** Revokes the grant and ends the node's sessions; without a node id, every node's. */
  async unpublish(wire: unknown): Promise<object> {
    const { backend, inFlight } = this.#dependencies;
    const request = parseRequest(controllerUnpublishRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    return inFlight.run(`volume ${volumeId}`, "ControllerUnpublishVolume", async () => {
      for (const iqn of await this.#initiators(volumeId, request.nodeId)) await backend.revoke(volumeId, iqn);
      return {};
    });
  }

  async #initiators(volumeId: string, nodeId: string): Promise<readonly string[]> {
    if (nodeId === "") {
      const volume = await this.#dependencies.backend.get(volumeId);
      return volume?.grants.map((grant) => grant.iqn) ?? [];
    }
    // A node that is none cannot hold anything: there is nothing to take away.
    const node = parseNodeId(nodeId);
    return node === undefined ? [] : [node.iqn];
  }
}

/** A pair for both directions, for one volume and one node. */
function generateChap(random: Random): ChapCredentials {
  const text = (lengthBytes: number): string => random.bytes(lengthBytes).toString("base64url");
  return {
    user: `hawser-${random.bytes(CHAP_USER_BYTES).toString("hex")}`,
    secret: Secret.from(text(CHAP_SECRET_BYTES)),
    mutualUser: `target-${random.bytes(CHAP_USER_BYTES).toString("hex")}`,
    mutualSecret: Secret.from(text(CHAP_SECRET_BYTES)),
  };
}
