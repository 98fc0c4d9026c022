import { Mutex } from "../base/mutex.js";
import type { AttachedVolume, VolumeCondition, VolumeStatus } from "./api.js";
import type { ConnectedVolume } from "../initiator/connect-volume.js";
import type { BoundDevice } from "../nbd/bind.js";
import type { VolumeRecord } from "./volume-record.js";
import { pathConditions } from "./volume-paths.js";
import { nextVolumeState, type VolumeInput, type VolumeMachineState } from "./volume-state.js";

/** What a volume holds while the kernel has it through this process. */
export interface LiveVolume {
  readonly connected: ConnectedVolume;
  readonly bound: BoundDevice;
  /** The size the kernel knows. */
  sizeBytes: number;
  /** Stops listening to the device. */
  readonly stopListening: () => void;
}

/**
 * One volume of this node. Everything but `status` and `apply` of connection events happens under `mutex`: one step at
 * a time for one volume.
 */
export class Volume {
  readonly handle: string;
  readonly mutex = new Mutex();
  /** As it is on stable storage. */
  record: VolumeRecord | undefined;
  live: LiveVolume | undefined;
  /** Ends the attempts to bring it back after a restart. */
  resuming: AbortController | undefined;
  #state: VolumeMachineState = "detached";
  #reason = "";
  #code = "";
  readonly #onChange: (volume: Volume) => void;

  /** `onChange` is called whenever the condition may have changed. */
  constructor(handle: string, onChange: (volume: Volume) => void = () => undefined) {
    this.handle = handle;
    this.#onChange = onChange;
  }

  get state(): VolumeMachineState {
    return this.#state;
  }

  get reason(): string {
    return this.#reason;
  }

  /**
   * Moves the machine; `reason` says why the volume is not in order, empty when it is, and `code` is that of the error
   * behind it, if there is one.
   */
  apply(input: VolumeInput, reason = "", code = ""): void {
    this.#state = nextVolumeState(this.#state, input);
    this.#reason = reason;
    this.#code = code;
    this.changed();
  }

  /** To be called when what the condition shows has changed otherwise: the device, its size, the LUN's. */
  changed(): void {
    this.#onChange(this);
  }

  /** Undefined when it is not attached here. */
  condition(): VolumeCondition | undefined {
    if (this.#state === "detached") return undefined;
    return {
      volumeHandle: this.handle,
      state: this.#state,
      code: this.#code,
      reason: this.#reason,
      targetName: this.record?.targetName ?? "",
      backend: this.live?.bound.backend ?? "",
      deviceBytes: this.live?.sizeBytes ?? 0,
      lunBytes: this.live?.connected.device.info.sizeBytes ?? 0,
      ...pathConditions(this.live?.connected.paths),
    };
  }

  /** What callers see; undefined when it is not attached here. */
  attached(): AttachedVolume | undefined {
    if (this.live === undefined || this.record === undefined) return undefined;
    const { bound, connected, sizeBytes } = this.live;
    return {
      volumeHandle: this.handle,
      devicePath: bound.devicePath,
      deviceMajor: bound.major,
      deviceMinor: bound.minor,
      backend: bound.backend,
      sizeBytes,
      logicalBlockBytes: connected.device.info.logicalBlockBytes,
      isReadOnly: this.record.isReadOnly || connected.device.info.isReadOnly,
      deviceId: this.record.deviceId,
      generation: this.record.generation,
      wasFormatted: this.record.wasFormatted,
    };
  }

  status(): VolumeStatus | undefined {
    if (this.#state === "detached") return undefined;
    const connected = this.live?.connected;
    const multipath = connected?.paths?.status();
    const reservation = connected?.reservation?.();
    return {
      volume: this.attached(),
      volumeHandle: this.handle,
      state: this.#state,
      reason: this.#reason,
      sessions: connected?.sessions() ?? [],
      ...(multipath === undefined ? {} : { multipath }),
      ...(reservation === undefined ? {} : { reservation }),
    };
  }
}
