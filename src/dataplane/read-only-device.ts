import type { BlockDeviceInfo, DeviceEvent } from "../block/device.js";
import { BlockError } from "../block/errors.js";
import { ForwardingDevice } from "../block/forwarding-device.js";

/** A device that nobody may change through this object, whatever the device behind would allow. */
export class ReadOnlyDevice extends ForwardingDevice {
  /** The info it was made from, and what was made of it: a new object only when the device has a new one. */
  #source: BlockDeviceInfo | undefined;
  #info: BlockDeviceInfo | undefined;

  override get info(): BlockDeviceInfo {
    const source = this.inner.info;
    if (this.#info === undefined || this.#source !== source) {
      this.#source = source;
      this.#info = readOnlyInfo(source);
    }
    return this.#info;
  }

  override write(): Promise<void> {
    return refuse("write");
  }

  override unmap(): Promise<void> {
    return refuse("unmap");
  }

  override writeZeroes(): Promise<void> {
    return refuse("write zeroes");
  }

  override onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.inner.onEvent((event) =>
      listener(event.kind === "info-changed" ? { ...event, info: readOnlyInfo(event.info) } : event),
    );
  }
}

function readOnlyInfo(info: BlockDeviceInfo): BlockDeviceInfo {
  return Object.freeze({ ...info, isReadOnly: true, canUnmap: false, canWriteZeroes: false });
}

function refuse(what: string): Promise<never> {
  return Promise.reject(new BlockError("BLOCK_READ_ONLY", `cannot ${what}: the volume is attached read-only`));
}
