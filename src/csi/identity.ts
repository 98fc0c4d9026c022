import type { CsiService } from "./service.js";

/** The name Kubernetes knows the driver by. */
export const DRIVER_NAME = "csi.hawser.dev";

export interface IdentityOptions {
  readonly driverName?: string;
  readonly version: string;
}

/**
 * Who we are. The plugin's capabilities are those of the plugin as a whole, whichever of its parts is asked.
 * `probe` rejects when this part cannot work now.
 */
export function createIdentityService(
  options: IdentityOptions,
  dependencies: { readonly probe: () => Promise<void> },
): CsiService {
  return {
    name: "Identity",
    methods: {
      GetPluginInfo: () =>
        Promise.resolve({
          name: options.driverName ?? DRIVER_NAME,
          vendorVersion: options.version,
          manifest: {},
        }),
      GetPluginCapabilities: () =>
        Promise.resolve({
          capabilities: [{ service: { type: "CONTROLLER_SERVICE" } }, { volumeExpansion: { type: "ONLINE" } }],
        }),
      Probe: async (_request, { logger }) => {
        try {
          await dependencies.probe();
          return { ready: { value: true } };
        } catch (error) {
          // Not ready yet is an answer, not an error: an error would have us restarted.
          logger.warn("not ready", { reason: error instanceof Error ? error.message : String(error) });
          return { ready: { value: false } };
        }
      },
    },
  };
}
