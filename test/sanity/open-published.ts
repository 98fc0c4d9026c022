import { SystemRandom } from "../../src/base/system-random.js";
import { decodePublishContext } from "../../src/csi/publish-context.js";
import { loadNodeKey } from "../../src/dataplane/node-key.js";
import type { HawserHost } from "../support/hawser-processes.js";

/** The CHAP secrets of a publish context, opened with the node's own key as the node itself does. */
export async function openPublished(
  host: HawserHost,
  volumeHandle: string,
  publishContext: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const { nodeId } = await host.call("node", "NodeGetInfo");
  const keyPair = await loadNodeKey({ stateDirectory: host.stateDirectory }, { random: new SystemRandom() });
  const { chap } = decodePublishContext(publishContext, { keyPair, sealing: { volumeHandle, nodeId } });
  return [chap?.secret, chap?.mutualSecret].flatMap((secret) =>
    secret === undefined ? [] : [secret.reveal().toString()],
  );
}
