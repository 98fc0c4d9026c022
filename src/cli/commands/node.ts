import { join } from "node:path";
import { Command } from "commander";
import { AppError } from "../../base/errors.js";
import type { Logger } from "../../base/logger.js";
import { createIdentityService } from "../../csi/identity.js";
import { InFlight } from "../../csi/in-flight.js";
import { KubeletRegistration } from "../../csi/kubelet-registration.js";
import { createNodeService } from "../../csi/node.js";
import { StageRecords } from "../../csi/stage-record.js";
import { DataplaneClient } from "../../dataplane/client.js";
import { loadNodeIdentity } from "../../dataplane/node-key.js";
import { LinuxFilesystems } from "../../host/filesystem.js";
import { LinuxMounter } from "../../host/mounter.js";
import { gatherHostFacts, gatherKubeletFolder } from "../../host/preflight-facts.js";
import { nodeFindings } from "../../host/preflight.js";
import { addCsiOptions, csiHealth, serveCsi, type Companion, type CsiOptions } from "../csi-options.js";
import { wholeNumber } from "../options.js";
import { readVersion } from "../package-version.js";
import { reportFindings } from "../preflight.js";
import { startNodeEvents } from "../node-events.js";
import type { Runtime } from "../runtime.js";
import { DEFAULT_DATAPLANE_SOCKET } from "./sessions.js";

interface NodeOptions extends CsiOptions {
  readonly dataplane: string;
  readonly stateDir: string;
  readonly nodeName?: string;
  readonly initiatorName?: string;
  readonly maxVolumes: number;
  readonly events?: boolean;
  readonly kubeletDir?: string;
  readonly kubeletRegistration?: string;
  readonly kubeletEndpoint?: string;
}

async function preflight({ kubeletDir }: NodeOptions, logger: Logger): Promise<void> {
  const facts = await gatherHostFacts();
  const kubelet = kubeletDir === undefined ? {} : { kubeletFolder: await gatherKubeletFolder(kubeletDir) };
  reportFindings(nodeFindings({ ...facts, ...kubelet }), logger);
}

/** The registration with the kubelet, when it is asked for. */
function registration(options: NodeOptions, runtime: Runtime, logger: Logger): readonly Companion[] {
  const { kubeletRegistration: directory, kubeletEndpoint: endpoint } = options;
  if ((directory === undefined) !== (endpoint === undefined)) {
    throw new AppError("cli", "REGISTRATION_INCOMPLETE", "--kubelet-registration and --kubelet-endpoint go together");
  }
  if (directory === undefined || endpoint === undefined) return [];
  if (!endpoint.startsWith("/")) {
    throw new AppError(
      "cli",
      "REGISTRATION_INCOMPLETE",
      `--kubelet-endpoint "${endpoint}" is no absolute path; give the path of the CSI socket as the kubelet sees it`,
    );
  }
  const protoDirectory = join(runtime.packageDirectory, "proto");
  return [new KubeletRegistration({ directory, endpoint, protoDirectory }, { clock: runtime.clock, logger })];
}

async function runNode(options: NodeOptions, runtime: Runtime): Promise<void> {
  const logger = runtime.logger("node", options.logLevel);
  await preflight(options, logger);
  const companions = [...csiHealth(options, runtime, logger), ...registration(options, runtime, logger)];
  const { nodeId, keyPair } = await loadNodeIdentity(
    {
      stateDirectory: options.stateDir,
      nodeName: options.nodeName ?? runtime.hostName,
      ...(options.initiatorName === undefined ? {} : { initiatorName: options.initiatorName }),
    },
    runtime,
  );
  const control = { socketPath: options.dataplane, packageDirectory: runtime.packageDirectory };
  const dataplane = new DataplaneClient(control);
  const events = await startNodeEvents(
    {
      isWanted: options.events === true,
      nodeName: options.nodeName ?? runtime.hostName,
      stateDirectory: options.stateDir,
    },
    { runtime, dataplane, logger },
  );
  const node = createNodeService(
    { specLevel: options.csiSpecLevel, maxVolumes: options.maxVolumes },
    {
      dataplane,
      mounter: new LinuxMounter(),
      filesystems: new LinuxFilesystems(),
      records: new StageRecords({ stateDirectory: options.stateDir }),
      inFlight: new InFlight(),
      keyPair,
      nodeId,
      logger,
      notice: events.notice,
    },
  );
  const version = await readVersion(runtime.packageDirectory);
  // Quick in any case: who asks how we are takes "no answer" for dead.
  const prober = new DataplaneClient({ ...control, reconnectWaitMs: 250, queryTimeoutMs: 1_000 });
  const probe = async (): Promise<void> => {
    await prober.list();
  };
  try {
    const services = [createIdentityService({ version }, { probe }), events.wrap(node)];
    await serveCsi(options, services, runtime, logger, companions);
  } finally {
    await events.stop();
    prober.close();
    dataplane.close();
  }
}

/** `hawser node`: the CSI Node service; may be killed at any time. */
export function nodeCommand(runtime: Runtime): Command {
  const command = new Command("node")
    .description("serve the CSI Node service: format, mount, grow, report")
    .option("--dataplane <SOCKET>", "control socket of the dataplane", DEFAULT_DATAPLANE_SOCKET)
    .option("--state-dir <DIR>", "folder that it shares with the dataplane", "/var/lib/hawser")
    .option("--node-name <NAME>", "name of this node (default: the host's name)")
    .option("--initiator-name <IQN>", "initiator name (default: made once from the node's name and kept)")
    .option("--events", "report events to Kubernetes through the pod's service account")
    .option("--max-volumes <N>", "volumes the scheduler may place here; 0: no limit", wholeNumber(0, 100_000), 0)
    .option("--kubelet-dir <DIR>", "the kubelet's folder: refuse to start when mounts made there do not reach the host")
    .option(
      "--kubelet-registration <DIR>",
      "register with the kubelet by a socket in this folder, its plugins_registry",
    )
    .option("--kubelet-endpoint <PATH>", "the CSI socket as the kubelet sees it, for --kubelet-registration");
  return addCsiOptions(command)
    .addHelpText("after", "\nExample:\n  hawser node --endpoint unix:///csi/csi.sock --node-name worker-1\n")
    .action((options: NodeOptions) => runNode(options, runtime));
}
