import type { PortalAddress } from "../base/access.js";
import type { Logger } from "../base/logger.js";
import { SystemNetworkInterfaces } from "../host/network-interfaces.js";
import { connectVolume, type ConnectedVolume } from "../initiator/connect-volume.js";
import { createIsid } from "../initiator/isid.js";
import { TcpDialer } from "../transport/tcp.js";
import { settingsOf, type SettingOptions } from "./initiator-settings.js";
import { initiatorNameOf, readChap, type InitiatorOptions } from "./options.js";
import { withProgress } from "./progress.js";
import { corePorts, type Runtime } from "./runtime.js";

/** Logs in to the LUN a command names, saying so when it takes long. The caller closes it. */
export async function connectForCommand(
  options: InitiatorOptions &
    SettingOptions & {
      readonly portals: readonly [PortalAddress, ...PortalAddress[]];
      readonly target: string;
      readonly lun: number;
    },
  runtime: Runtime,
  logger: Logger,
): Promise<ConnectedVolume> {
  const settings = settingsOf(options);
  const chap = await readChap(options);
  const dependencies = {
    ...corePorts(runtime, logger),
    dialer: new TcpDialer(runtime),
    interfaces: new SystemNetworkInterfaces(),
  };
  return withProgress(`Logging in to ${options.target}`, { ...runtime, output: runtime.err }, () =>
    connectVolume(
      {
        portals: options.portals,
        targetName: options.target,
        lun: options.lun,
        expectedId: "",
        initiatorName: initiatorNameOf(options, runtime.hostName),
        isid: createIsid(runtime.random),
        headerDigest: options.headerDigest,
        dataDigest: options.dataDigest,
        settings,
        ...(chap === undefined ? {} : { chap }),
      },
      dependencies,
      runtime.signal,
    ),
  );
}
