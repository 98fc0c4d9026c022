import { access, constants } from "node:fs/promises";
import { errorMessage } from "../base/errors.js";
import type { BlockDevice } from "../block/device.js";
import { HostError } from "../host/errors.js";
import { runCommand } from "../host/exec.js";
import { listKernelNbd } from "../host/kernel-nbd.js";
import { NbdNetlink } from "../host/nbd-netlink.js";
import { bindFuseDevice, discardFuseDevice, listFuseDevices } from "./bind-fuse.js";
import { bindKernelDevice, discardKernelDevice, recoverKernelDevice } from "./bind-kernel.js";
import type { BindBackend, BindDependencies, BindOptions, BoundDevice } from "./bound-device.js";

export type { BindBackend, BindDependencies, BindOptions, BoundDevice } from "./bound-device.js";

export interface BackendAvailability {
  readonly isAvailable: boolean;
  /** Why not, and what would help; empty when it is. */
  readonly reason: string;
}

/** Which ways there are on this host to give the kernel a block device. Loads the nbd module if that is all it takes. */
export async function detectBackends(
  dependencies: BindDependencies,
): Promise<Readonly<Record<BindBackend, BackendAvailability>>> {
  const [nbd, fuse] = await Promise.all([detectNbd(dependencies), detectFuse()]);
  return { nbd, fuse };
}

async function isNbdThere(dependencies: BindDependencies): Promise<boolean> {
  try {
    (await NbdNetlink.open(dependencies)).close();
    return true;
  } catch (error) {
    if (error instanceof HostError && error.code === "HOST_NBD_UNAVAILABLE") return false;
    throw error;
  }
}

async function detectNbd(dependencies: BindDependencies): Promise<BackendAvailability> {
  try {
    if (await isNbdThere(dependencies)) return { isAvailable: true, reason: "" };
    // Its devices are made as needed; none in advance.
    await runCommand("modprobe", ["nbd", "nbds_max=0"]);
    if (await isNbdThere(dependencies)) return { isAvailable: true, reason: "" };
    return { isAvailable: false, reason: "the nbd module is loaded and yet the kernel has no nbd interface" };
  } catch (error) {
    return {
      isAvailable: false,
      reason: `the kernel has no nbd driver and it cannot be loaded: ${errorMessage(error)}`,
    };
  }
}

async function detectFuse(): Promise<BackendAvailability> {
  try {
    await access("/dev/fuse", constants.R_OK | constants.W_OK);
    await access("/dev/loop-control", constants.R_OK | constants.W_OK);
    await runCommand("nbdfuse", ["--version"]);
    return { isAvailable: true, reason: "" };
  } catch (error) {
    return { isAvailable: false, reason: errorMessage(error) };
  }
}

async function chooseBackend(options: BindOptions, dependencies: BindDependencies): Promise<BindBackend> {
  if (options.backend !== "auto") return options.backend;
  const { nbd, fuse } = await detectBackends(dependencies);
  if (nbd.isAvailable) return "nbd";
  if (fuse.isAvailable) {
    dependencies.logger.warn("using fuse and loop: the device will not survive a restart of this process", {
      reason: nbd.reason,
      backendId: options.backendId,
    });
    return "fuse";
  }
  throw new HostError(
    "HOST_NO_BLOCK_BACKEND",
    `this host can give the kernel a block device neither by nbd (${nbd.reason}) nor by fuse (${fuse.reason})`,
  );
}

/**
 * Gives `device` to the kernel. The device stays the caller's and must live until `release` or `park`. HostError
 * DEVICE_ALREADY_BOUND when a device with this backend id exists, HOST_NO_BLOCK_BACKEND when the host has no way.
 */
export async function bindDevice(
  device: BlockDevice,
  options: BindOptions,
  dependencies: BindDependencies,
): Promise<BoundDevice> {
  const backend = await chooseBackend(options, dependencies);
  const bind = backend === "nbd" ? bindKernelDevice : bindFuseDevice;
  return bind(device, options, dependencies);
}

/**
 * Takes over the kernel's device that an earlier process left with this backend id, whether it parked it or was killed.
 * Undefined when there is none; always so with fuse. HostError DEVICE_STILL_SERVED while the earlier process lives,
 * DEVICE_CHANGED when block size or size do not fit.
 */
export async function recoverDevice(
  device: BlockDevice,
  options: BindOptions,
  dependencies: BindDependencies,
): Promise<BoundDevice | undefined> {
  return options.backend === "fuse" ? undefined : recoverKernelDevice(device, options, dependencies);
}

/**
 * Takes away what an earlier process left under this backend id. False when there is nothing; HostError DEVICE_BUSY,
 * naming the holders, when it is mounted or open.
 */
export async function discardDevice(
  options: Pick<BindOptions, "backendId" | "runtimeDirectory">,
  dependencies: BindDependencies,
): Promise<boolean> {
  const hadKernelDevice = await discardKernelDevice(options.backendId, dependencies);
  const hadFuseDevice = await discardFuseDevice(options, dependencies);
  return hadKernelDevice || hadFuseDevice;
}

export interface BoundBackend {
  /** Empty when the device itself is gone and only remains are left. */
  readonly devicePath: string;
  readonly backendId: string;
}

/** Every nbd device of the kernel with a backend id, and the fuse devices of a runtime directory if one is given. */
export async function listBoundBackends(
  options: { readonly runtimeDirectory?: string } = {},
): Promise<readonly BoundBackend[]> {
  const kernel = (await listKernelNbd()).filter(({ backendId }) => backendId !== "");
  const fuse = options.runtimeDirectory === undefined ? [] : await listFuseDevices(options.runtimeDirectory);
  return [...kernel.map(({ devicePath, backendId }) => ({ devicePath, backendId })), ...fuse];
}
