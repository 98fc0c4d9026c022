import type { BlockDevice } from "../../src/block/device.js";
import type { DeviceBinder } from "../../src/dataplane/ports.js";
import { HostError } from "../../src/host/errors.js";
import type { BoundDevice } from "../../src/nbd/bind.js";

/** A device the fake kernel has. It outlives the process that made it, as a real one does. */
export interface FakeKernelDevice {
  readonly backend: "nbd" | "fuse";
  readonly backendId: string;
  readonly devicePath: string;
  readonly minor: number;
  sizeBytes: number;
  /** What answers its I/O; undefined after park or a crash. */
  server: BlockDevice | undefined;
  holders: string[];
}

function refuseHeld(device: FakeKernelDevice): void {
  if (device.holders.length === 0) return;
  throw new HostError("DEVICE_BUSY", `${device.devicePath} is in use: ${device.holders.join(", ")}`);
}

/** A kernel with nbd and fuse devices, and a DeviceBinder for it. Survives the dataplanes of a test. */
export class FakeKernel {
  readonly devices = new Map<string, FakeKernelDevice>();
  /** Every change, in order: `bind ID`, `recover ID`, `release ID`, `park ID`, `discard ID`. */
  readonly calls: string[] = [];
  defaultBackend: "nbd" | "fuse" = "nbd";
  #nextMinor = 0;

  /** What happens when the process dies: sockets close, fuse devices are dead, kernel devices wait. */
  crash(): void {
    for (const device of this.devices.values()) device.server = undefined;
  }

  /** What happens at a boot. */
  boot(): void {
    this.devices.clear();
  }

  only(): FakeKernelDevice {
    const [device, ...others] = [...this.devices.values()];
    if (device === undefined || others.length > 0) throw new Error(`${this.devices.size} devices instead of one`);
    return device;
  }

  binder(): DeviceBinder {
    return {
      bind: (server, { backend, backendId }) => {
        this.calls.push(`bind ${backendId}`);
        if (this.devices.has(backendId)) return Promise.reject(new HostError("DEVICE_ALREADY_BOUND", backendId));
        const chosen = backend === "auto" ? this.defaultBackend : backend;
        const minor = this.#nextMinor;
        this.#nextMinor += 1;
        const devicePath = `/dev/${chosen === "nbd" ? "nbd" : "loop"}${minor}`;
        const { sizeBytes } = server.info;
        const device = { backend: chosen, backendId, devicePath, minor, sizeBytes, server, holders: [] };
        this.devices.set(backendId, device);
        return Promise.resolve(this.#bound(device));
      },
      recover: (server, { backendId }) => {
        const device = this.devices.get(backendId);
        if (device?.backend !== "nbd") return Promise.resolve(undefined);
        this.calls.push(`recover ${backendId}`);
        if (device.server !== undefined) return Promise.reject(new HostError("DEVICE_STILL_SERVED", backendId));
        device.server = server;
        return Promise.resolve(this.#bound(device));
      },
      list: () =>
        Promise.resolve([...this.devices.values()].map(({ devicePath, backendId }) => ({ devicePath, backendId }))),
      discard: async ({ backendId }) => {
        await Promise.resolve();
        const device = this.devices.get(backendId);
        if (device === undefined) return false;
        refuseHeld(device);
        this.calls.push(`discard ${backendId}`);
        this.devices.delete(backendId);
        return true;
      },
    };
  }

  #bound(device: FakeKernelDevice): BoundDevice {
    return {
      backend: device.backend,
      devicePath: device.devicePath,
      major: 43,
      minor: device.minor,
      resize: (sizeBytes) => {
        device.sizeBytes = sizeBytes;
        return Promise.resolve();
      },
      holders: () => Promise.resolve([...device.holders]),
      release: async () => {
        await Promise.resolve();
        refuseHeld(device);
        this.calls.push(`release ${device.backendId}`);
        this.devices.delete(device.backendId);
      },
      park: () => {
        this.calls.push(`park ${device.backendId}`);
        device.server = undefined;
        return Promise.resolve();
      },
    };
  }
}
