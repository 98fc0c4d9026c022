import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { sleep } from "../base/clock.js";
import { errorMessage } from "../base/errors.js";
import { DEVICE_READY_TIMEOUT_MS, MAX_NBD_RECOVERY_ATTEMPTS } from "../base/limits.js";
import type { BlockDevice } from "../block/device.js";
import { deviceHolders } from "../host/device-holders.js";
import { HostError } from "../host/errors.js";
import { alignedBuffer, closeFd, socketPair } from "../host/ffi.js";
import {
  blockLogicalBytes,
  blockNumbers,
  blockSizeBytes,
  findKernelNbd,
  setIoTimeout,
  type BlockNumbers,
} from "../host/kernel-nbd.js";
import { NbdNetlink } from "../host/nbd-netlink.js";
import { wrapFd } from "../transport/unix.js";
import { refuseHeld, type BindDependencies, type BindOptions, type BoundDevice } from "./bound-device.js";
import { serveTransmission, type NbdTransmissionSession } from "./connection.js";
import { transmissionFlags } from "./export.js";

const DEFAULT_DEAD_CONNECTION_TIMEOUT_MS = 24 * 3600 * 1000;
const DEFAULT_IO_TIMEOUT_MS = 2000;
const POLL_MS = 50;
/** A socket the kernel did not take is closed by then: nobody else has its other end. */
const TAKEN_CHECK_MS = 100;
const DIRECT_READ_BYTES = 4096;

/** Runs `work` with the kernel's nbd interface open. */
async function withNbd<T>(dependencies: BindDependencies, work: (nbd: NbdNetlink) => Promise<T>): Promise<T> {
  const nbd = await NbdNetlink.open(dependencies);
  try {
    return await work(nbd);
  } finally {
    nbd.close();
  }
}

/** Serves `device` on one end of a socket pair while `give` hands the other to the kernel. */
async function serveKernel(
  device: BlockDevice,
  dependencies: BindDependencies,
  give: (socket: number) => Promise<void>,
): Promise<NbdTransmissionSession> {
  const [ours, theirs] = await socketPair();
  const session = serveTransmission(wrapFd(ours, dependencies), device, dependencies);
  try {
    await give(theirs);
    return session;
  } catch (error) {
    session.destroy();
    throw error;
  } finally {
    // The kernel has its own reference now, or did not want one.
    closeFd(theirs);
  }
}

async function waitUntil(what: string, dependencies: BindDependencies, isTrue: () => Promise<boolean>): Promise<void> {
  const deadlineMs = dependencies.clock.nowMs() + DEVICE_READY_TIMEOUT_MS;
  while (!(await isTrue())) {
    if (dependencies.clock.nowMs() > deadlineMs) throw new HostError("HOST_DEVICE_NOT_READY", what);
    await sleep(dependencies.clock, POLL_MS);
  }
}

/** Reads the first block past the page cache, so that the answer comes through the socket; HostError if it does not. */
async function readLive(devicePath: string, dependencies: BindDependencies): Promise<void> {
  const bytes = await alignedBuffer(DIRECT_READ_BYTES, DIRECT_READ_BYTES);
  const file = await open(devicePath, constants.O_RDONLY | constants.O_DIRECT);
  const read = file.read(bytes, 0, bytes.length, 0).finally(() => file.close());
  const timeout = sleep(dependencies.clock, DEVICE_READY_TIMEOUT_MS).then(() => undefined);
  const result = await Promise.race([read, timeout]);
  if (result === undefined) {
    // The read ends some time, well or not; it owns the descriptor until then.
    read.catch(() => undefined);
    throw new HostError("HOST_DEVICE_NOT_READY", `${devicePath} does not answer a read`);
  }
}

class KernelBoundDevice implements BoundDevice {
  readonly backend = "nbd";
  readonly devicePath: string;
  readonly major: number;
  readonly minor: number;
  readonly #index: number;
  readonly #options: BindOptions;
  readonly #session: NbdTransmissionSession;
  readonly #dependencies: BindDependencies;
  #isLeaving = false;

  constructor(
    index: number,
    numbers: BlockNumbers,
    options: BindOptions,
    session: NbdTransmissionSession,
    dependencies: BindDependencies,
  ) {
    this.devicePath = `/dev/nbd${index}`;
    this.major = numbers.major;
    this.minor = numbers.minor;
    this.#index = index;
    this.#options = options;
    this.#session = session;
    this.#dependencies = dependencies;
    void session.closed.then(() => this.#sessionClosed());
  }

  #sessionClosed(): void {
    if (this.#isLeaving) return;
    this.#dependencies.logger.error("the kernel closed the device's socket; somebody disconnected it", {
      devicePath: this.devicePath,
      backendId: this.#options.backendId,
    });
  }

  async resize(sizeBytes: number): Promise<void> {
    const { backendId } = this.#options;
    await withNbd(this.#dependencies, (nbd) => nbd.reconfigure({ index: this.#index, backendId, sizeBytes }));
    await waitUntil(`${this.devicePath} did not take its new size`, this.#dependencies, async () => {
      return (await blockSizeBytes(`nbd${this.#index}`)) === sizeBytes;
    });
  }

  holders(): Promise<string[]> {
    return deviceHolders(this);
  }

  async release(): Promise<void> {
    refuseHeld(this.devicePath, await this.holders());
    this.#isLeaving = true;
    await withNbd(this.#dependencies, (nbd) => nbd.disconnect(this.#index));
    await this.#session.close();
  }

  async park(): Promise<void> {
    this.#isLeaving = true;
    await this.#session.close();
  }
}

/** Sets what the kernel does not take over netlink. Harmless when refused, so it only warns. */
async function tuneQueue(index: number, options: BindOptions, { logger }: BindDependencies): Promise<void> {
  try {
    await setIoTimeout(`nbd${index}`, options.ioTimeoutMs ?? DEFAULT_IO_TIMEOUT_MS);
  } catch (error) {
    logger.warn("requests lost in a crash will wait 30 s for their replay", { reason: errorMessage(error) });
  }
}

/** Makes an nbd device of the kernel. HostError DEVICE_ALREADY_BOUND when one with this backend id exists. */
export async function bindKernelDevice(
  device: BlockDevice,
  options: BindOptions,
  dependencies: BindDependencies,
): Promise<BoundDevice> {
  const [existing] = await findKernelNbd(options.backendId);
  if (existing !== undefined) {
    throw new HostError(
      "DEVICE_ALREADY_BOUND",
      `${existing.devicePath} carries the backend id "${options.backendId}" already; recover it or take it away first`,
      { details: { devicePath: existing.devicePath, backendId: options.backendId } },
    );
  }
  return withNbd(dependencies, async (nbd) => {
    let index = -1;
    const session = await serveKernel(device, dependencies, async (socket) => {
      index = await nbd.connect({
        sizeBytes: device.info.sizeBytes,
        blockBytes: device.info.logicalBlockBytes,
        serverFlags: transmissionFlags(device.info, { isStructured: false }),
        sockets: [socket],
        backendId: options.backendId,
        deadConnectionTimeoutMs: options.deadConnectionTimeoutMs ?? DEFAULT_DEAD_CONNECTION_TIMEOUT_MS,
      });
    });
    try {
      await tuneQueue(index, options, dependencies);
      const devicePath = `/dev/nbd${index}`;
      await waitUntil(`${devicePath} did not appear; is /dev the host's?`, dependencies, () => isOpenable(devicePath));
      await readLive(devicePath, dependencies);
      return new KernelBoundDevice(index, await blockNumbers(`nbd${index}`), options, session, dependencies);
    } catch (error) {
      await nbd.disconnect(index).catch((failure: unknown) => {
        dependencies.logger.warn("clean-up after a failed bind was not complete", { reason: errorMessage(failure) });
      });
      await session.close();
      throw error;
    }
  });
}

async function isOpenable(devicePath: string): Promise<boolean> {
  try {
    await (await open(devicePath, constants.O_RDONLY)).close();
    return true;
  } catch {
    return false;
  }
}

/** Did the kernel keep the socket? If not, nobody has its other end, and it closes. */
async function isTaken(session: NbdTransmissionSession, dependencies: BindDependencies): Promise<boolean> {
  const closed = session.closed.then(() => false);
  const open = sleep(dependencies.clock, TAKEN_CHECK_MS).then(() => true);
  return Promise.race([closed, open]);
}

async function takeOver(
  index: number,
  device: BlockDevice,
  options: BindOptions,
  dependencies: BindDependencies,
): Promise<NbdTransmissionSession> {
  const { backendId } = options;
  const deadConnectionTimeoutMs = options.deadConnectionTimeoutMs ?? DEFAULT_DEAD_CONNECTION_TIMEOUT_MS;
  return withNbd(dependencies, async (nbd) => {
    for (let attempt = 0; attempt < MAX_NBD_RECOVERY_ATTEMPTS; attempt += 1) {
      // Success says nothing: the kernel reports it even when it had no dead socket to replace.
      const session = await serveKernel(device, dependencies, (socket) =>
        nbd.reconfigure({ index, backendId, sockets: [socket], deadConnectionTimeoutMs }),
      );
      if (await isTaken(session, dependencies)) return session;
      await sleep(dependencies.clock, TAKEN_CHECK_MS);
    }
    throw new HostError(
      "DEVICE_STILL_SERVED",
      `/dev/nbd${index} is still served by another process; end that process, then try again`,
      { details: { devicePath: `/dev/nbd${index}`, backendId } },
    );
  });
}

/**
 * Takes over the nbd device that a dead or parked process left with this backend id; undefined when there is none.
 * The device must already be the only one that can write to the medium (session reinstatement), because requests of the
 * dead process are repeated at once.
 */
export async function recoverKernelDevice(
  device: BlockDevice,
  options: BindOptions,
  dependencies: BindDependencies,
): Promise<BoundDevice | undefined> {
  const [found, second] = await findKernelNbd(options.backendId);
  if (found === undefined) return undefined;
  if (second !== undefined) {
    throw new HostError(
      "DEVICE_AMBIGUOUS",
      `${found.devicePath} and ${second.devicePath} both carry the backend id "${options.backendId}"; disconnect one`,
    );
  }
  const name = `nbd${found.index}`;
  const [blockBytes, sizeBytes] = await Promise.all([blockLogicalBytes(name), blockSizeBytes(name)]);
  if (blockBytes !== device.info.logicalBlockBytes || sizeBytes > device.info.sizeBytes) {
    throw new HostError(
      "DEVICE_CHANGED",
      `${found.devicePath} has ${sizeBytes} bytes in blocks of ${blockBytes}, the volume now has ` +
        `${device.info.sizeBytes} in blocks of ${device.info.logicalBlockBytes}; it is not taken over`,
    );
  }
  const session = await takeOver(found.index, device, options, dependencies);
  await tuneQueue(found.index, options, dependencies);
  const bound = new KernelBoundDevice(found.index, await blockNumbers(name), options, session, dependencies);
  try {
    if (sizeBytes < device.info.sizeBytes) await bound.resize(device.info.sizeBytes);
    await readLive(found.devicePath, dependencies);
  } catch (error) {
    // It is ours all the same, and requests wait for us: to hang up now would only make them wait longer.
    dependencies.logger.warn("the device taken over does not answer yet", { reason: errorMessage(error) });
  }
  return bound;
}

/** Takes away a device that another process left; false when there is none. HostError DEVICE_BUSY when it is held. */
export async function discardKernelDevice(backendId: string, dependencies: BindDependencies): Promise<boolean> {
  const devices = await findKernelNbd(backendId);
  for (const { index, devicePath } of devices) {
    refuseHeld(devicePath, await deviceHolders({ devicePath, ...(await blockNumbers(`nbd${index}`)) }));
    await withNbd(dependencies, (nbd) => nbd.disconnect(index));
  }
  return devices.length > 0;
}
