import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, errorMessage } from "../base/errors.js";
import type { BlockDevice } from "../block/device.js";
import { deviceHolders } from "../host/device-holders.js";
import { HostError } from "../host/errors.js";
import { blockNumbers, type BlockNumbers } from "../host/kernel-nbd.js";
import { createLoop, listLoops, loopSequence, removeLoop, resizeLoop, type LoopDevice } from "../host/loop.js";
import { NbdFuse, removeFuseFile } from "../host/nbdfuse.js";
import { UnixListener } from "../transport/unix.js";
import { refuseHeld, type BindDependencies, type BindOptions, type BoundDevice } from "./bound-device.js";
import { GROWTH_ROOM_BYTES, withGrowthRoom } from "./growth-room.js";
import { NbdServer } from "./server.js";

/*
 * runtimeDirectory/fuse-<hash of the backend id>/
 *   backend-id   the backend id in full
 *   socket       our NBD server
 *   disk         the file that nbdfuse shows; /dev/loopN is over it
 *   loop         N and its sequence number: in a container, the name of the loop device's file goes away with us
 */

const FOLDER_PREFIX = "fuse-";

function folderOf(options: Pick<BindOptions, "backendId" | "runtimeDirectory">): string {
  const hash = createHash("sha256").update(options.backendId).digest("hex").slice(0, 16);
  return join(options.runtimeDirectory, `${FOLDER_PREFIX}${hash}`);
}

/** What was set up so far, to be taken down in the opposite order. */
interface FuseParts {
  readonly folder: string;
  readonly server: NbdServer;
  readonly fuse: NbdFuse;
  readonly loopIndex: number;
}

class FuseBoundDevice implements BoundDevice {
  readonly backend = "fuse";
  readonly devicePath: string;
  readonly major: number;
  readonly minor: number;
  readonly #parts: FuseParts;
  #isLeaving = false;

  constructor(parts: FuseParts, numbers: BlockNumbers, dependencies: BindDependencies) {
    this.devicePath = `/dev/loop${parts.loopIndex}`;
    this.major = numbers.major;
    this.minor = numbers.minor;
    this.#parts = parts;
    void parts.fuse.exited.then(() => {
      if (this.#isLeaving) return;
      dependencies.logger.error("nbdfuse ended: the device fails all I/O; unmount it and attach the volume again", {
        devicePath: this.devicePath,
      });
    });
  }

  async resize(sizeBytes: number): Promise<void> {
    try {
      await resizeLoop(this.#parts.loopIndex, sizeBytes);
    } catch (error) {
      if (errorCode(error) !== "HOST_EAGAIN") throw error;
      throw new HostError(
        "HOST_RESIZE_BUSY",
        `this kernel does not resize ${this.devicePath} while it is mounted; unmount it first, or use the nbd backend`,
        { cause: error },
      );
    }
  }

  holders(): Promise<string[]> {
    return deviceHolders(this);
  }

  async release(): Promise<void> {
    refuseHeld(this.devicePath, await this.holders());
    this.#isLeaving = true;
    const { folder, server, fuse, loopIndex } = this.#parts;
    await removeLoop(loopIndex);
    await fuse.stop();
    await server.close();
    await rm(folder, { recursive: true, force: true });
  }

  async park(): Promise<void> {
    if ((await this.holders()).length === 0) {
      await this.release();
      return;
    }
    this.#isLeaving = true;
    await this.#parts.server.close();
    // It would wait for its users, and this process for it.
    await this.#parts.fuse.kill();
  }
}

/** Makes a loop device over a file that nbdfuse shows. HostError DEVICE_ALREADY_BOUND when remains of one exist. */
export async function bindFuseDevice(
  device: BlockDevice,
  options: BindOptions,
  dependencies: BindDependencies,
): Promise<BoundDevice> {
  const folder = folderOf(options);
  await mkdir(options.runtimeDirectory, { recursive: true, mode: 0o700 });
  await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
    if (errorCode(error) !== "EEXIST") throw error;
    throw new HostError(
      "DEVICE_ALREADY_BOUND",
      `${folder} exists: the volume is bound, or an earlier process left it`,
      {
        details: { backendId: options.backendId },
      },
    );
  });
  const undo: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })];
  try {
    await writeFile(join(folder, "backend-id"), options.backendId, { mode: 0o600 });
    const socketPath = join(folder, "socket");
    const exports = new Map([["", withGrowthRoom(device)]]);
    const listener = new UnixListener({ mode: 0o600 }, dependencies);
    const server = new NbdServer(
      { endpoint: { kind: "unix", path: socketPath }, exports },
      { ...dependencies, listener },
    );
    await server.start();
    undo.push(() => server.destroy());
    const filePath = join(folder, "disk");
    const fuse = await NbdFuse.start({ socketPath, filePath, sizeBytes: GROWTH_ROOM_BYTES }, dependencies);
    undo.push(() => fuse.stop());
    const loopIndex = await createLoop({
      backingPath: filePath,
      sizeBytes: device.info.sizeBytes,
      blockBytes: device.info.logicalBlockBytes,
      isReadOnly: device.info.isReadOnly,
    });
    undo.push(() => removeLoop(loopIndex));
    await writeFile(join(folder, "loop"), `${loopIndex} ${await loopSequence(loopIndex)}`, { mode: 0o600 });
    const numbers = await blockNumbers(`loop${loopIndex}`);
    return new FuseBoundDevice({ folder, server, fuse, loopIndex }, numbers, dependencies);
  } catch (error) {
    for (const step of undo.reverse()) {
      await step().catch((failure: unknown) => {
        dependencies.logger.warn("clean-up after a failed bind was not complete", { reason: errorMessage(failure) });
      });
    }
    throw error;
  }
}

/**
 * Takes away what an earlier process left of a fuse device; false when there is nothing. HostError DEVICE_BUSY when it
 * is still mounted or open: its I/O fails, and only its users can end that.
 */
export async function discardFuseDevice(
  options: Pick<BindOptions, "backendId" | "runtimeDirectory">,
  dependencies: BindDependencies,
): Promise<boolean> {
  const folder = folderOf(options);
  const names = await readdir(folder).catch(() => undefined);
  if (names === undefined) return false;
  const filePath = join(folder, "disk");
  for (const { index } of await loopsOf(folder, await listLoops())) {
    const devicePath = `/dev/loop${index}`;
    refuseHeld(devicePath, await deviceHolders({ devicePath, ...(await blockNumbers(`loop${index}`)) }));
    await removeLoop(index);
  }
  await removeFuseFile(filePath, dependencies.clock);
  await rm(folder, { recursive: true, force: true });
  return true;
}

/**
 * The loop devices over the file of this folder: by the file's name, or, when that went away with the mount namespace of
 * the process that made it, by what that process noted. The sequence number tells it from every later device.
 */
async function loopsOf(folder: string, loops: readonly LoopDevice[]): Promise<readonly LoopDevice[]> {
  const noted = await readFile(join(folder, "loop"), "utf8").catch(() => "");
  const filePath = join(folder, "disk");
  return loops.filter(({ index, sequence, backingPath }) => {
    if (backingPath === filePath || backingPath.startsWith(`${filePath} `)) return true;
    return backingPath === "/" && sequence !== "" && noted === `${index} ${sequence}`;
  });
}

/** Fuse devices under a runtime directory, served or left behind. */
export async function listFuseDevices(
  runtimeDirectory: string,
): Promise<readonly { readonly devicePath: string; readonly backendId: string }[]> {
  const names = await readdir(runtimeDirectory).catch(() => []);
  const loops = await listLoops();
  const folders = names.filter((name) => name.startsWith(FOLDER_PREFIX)).map((name) => join(runtimeDirectory, name));
  return Promise.all(
    folders.map(async (folder) => {
      const [loop] = await loopsOf(folder, loops);
      const backendId = await readFile(join(folder, "backend-id"), "utf8").catch(() => "");
      return { devicePath: loop === undefined ? "" : `/dev/loop${loop.index}`, backendId };
    }),
  );
}
