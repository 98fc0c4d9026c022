import { appendFileSync } from "node:fs";
import { SystemClock } from "../../src/base/system-clock.js";
import { SystemRandom } from "../../src/base/system-random.js";
import { startDataplane } from "../../src/dataplane/dataplane-process.js";
import { SystemNetworkInterfaces } from "../../src/host/network-interfaces.js";
import { SystemDialer } from "../../src/transport/system-transport.js";
import { LineLogger } from "./dataplane-world.js";

/**
 * A dataplane as a process of its own, to be killed by a test. Arguments: state directory, runtime directory, socket,
 * backend, log file. Prints `ready` when it serves; SIGTERM stops it in good order.
 */
async function main([stateDirectory, runtimeDirectory, socketPath, backend, logPath]: string[]): Promise<void> {
  if (
    stateDirectory === undefined ||
    runtimeDirectory === undefined ||
    socketPath === undefined ||
    logPath === undefined ||
    (backend !== "nbd" && backend !== "fuse")
  ) {
    throw new Error("five arguments are needed");
  }
  const clock = new SystemClock();
  const lines: string[] = [];
  const push = (line: string): number => {
    appendFileSync(logPath, `${line}\n`);
    return 0;
  };
  const logger = new LineLogger(Object.assign(lines, { push }));
  const dataplane = await startDataplane(
    {
      ...{ stateDirectory, runtimeDirectory, socketPath, backend },
      ...{ packageDirectory: process.cwd(), nodeName: "test-node", clusterId: "test", reconcileIntervalMs: 500 },
    },
    {
      ...{ clock, logger, random: new SystemRandom() },
      ...{ dialer: new SystemDialer({ clock }), interfaces: new SystemNetworkInterfaces() },
    },
  );
  process.once("SIGTERM", () => {
    void dataplane.stop().then(() => process.exit(0));
  });
  process.stdout.write("ready\n");
}

void main(process.argv.slice(2));
