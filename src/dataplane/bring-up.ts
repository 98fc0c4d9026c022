import type { Logger } from "../base/logger.js";
import { Mutex } from "../base/mutex.js";
import type { ReservationKey } from "../scsi/persistent-reserve.js";
import { errorCode, errorMessage } from "../base/errors.js";
import { BlockError } from "../block/errors.js";
import { formatBackendId } from "./backend-id.js";
import type { ChapVault } from "./chap-vault.js";
import { cancellationOf, DataplaneError, throwIfAborted } from "./errors.js";
import type { BoundDevice } from "../nbd/bind.js";
import type { ConnectedVolume, ConnectVolumeRequest } from "../initiator/connect-volume.js";
import { type InitiatorSettings, recallInitiatorSettings } from "../initiator/settings.js";
import type { ReservationOptions } from "../initiator/volume-reservation.js";
import type { BinderOptions, DeviceBinder, VolumeConnector } from "./ports.js";
import { ReadOnlyDevice } from "./read-only-device.js";
import type { VolumeRecord } from "./volume-record.js";

export interface BringUpOptions {
  readonly clusterId: string;
  readonly initiatorName: string;
  readonly backend: "auto" | "nbd" | "fuse";
  /** Under which this node reserves units. */
  readonly reservationKey: ReservationKey;
}

export interface BringUpDependencies {
  readonly connector: VolumeConnector;
  readonly binder: DeviceBinder;
  readonly vault: ChapVault;
  readonly logger: Logger;
  /** Writes the record; what is done next rests on it. */
  readonly save: (record: VolumeRecord) => Promise<void>;
  /** Changes the record of a volume that is brought up already. */
  readonly amend: (change: Partial<VolumeRecord>) => Promise<void>;
}

/**
 * `attach`: the record is fresh, a device left over from before is taken away if nobody holds it. `resume`: the kernel
 * has the device, and it is taken over. `rebind`: taken over if the kernel has it, else made anew.
 */
export type BringUpMode = "attach" | "resume" | "rebind";

export interface BroughtUp {
  readonly connected: ConnectedVolume;
  readonly bound: BoundDevice;
  readonly isTakenOver: boolean;
}

/**
 * Connects the volume, checks that it is the right one, and gives it to the kernel. The record is on disk before every
 * step that leaves something behind, so that the next process can go on from any point; a failure or an abort undoes
 * exactly what was done. Throws VOLUME_DEVICE_LOST in mode `resume` when the kernel has no such device.
 */
export async function bringUp(
  start: VolumeRecord,
  mode: BringUpMode,
  options: BringUpOptions,
  dependencies: BringUpDependencies,
  signal: AbortSignal,
): Promise<BroughtUp> {
  const undo: (() => Promise<void>)[] = [];
  const draft = new RecordDraft(start, dependencies);
  try {
    const connected = await connect(draft, mode, options, dependencies, signal);
    undo.push(() => connected.close({ isGivenUp: mode === "attach" }));
    throwIfAborted(signal);
    await learnIdentity(draft, connected);
    throwIfAborted(signal);
    const { record } = draft;
    const device = record.isReadOnly ? new ReadOnlyDevice(connected.device) : connected.device;
    const bindOptions = bindOptionsOf(record, options);

    const existing = await takeOver(record, mode, device, bindOptions, dependencies);
    if (existing !== undefined) undo.push(() => existing.park());
    throwIfAborted(signal);
    let bound = existing;
    if (bound === undefined) {
      // Another device than before: whoever remembers the last one must see that it is not the same.
      if (mode === "rebind") await draft.save({ generation: record.generation + 1 });
      const fresh = await dependencies.binder.bind(device, bindOptions);
      undo.push(() => fresh.release());
      bound = fresh;
    }
    throwIfAborted(signal);
    if (draft.record.phase !== "attached" || draft.record.backend !== bound.backend) {
      await draft.save({ phase: "attached", backend: bound.backend });
    }
    draft.finish();
    return { connected, bound, isTakenOver: existing !== undefined };
  } catch (error) {
    await unwind(undo, start.volumeHandle, dependencies.logger);
    throw signal.aborted ? cancellationOf(signal) : error;
  }
}

/** The record while the volume is brought up: changed step by step, also by paths that join meanwhile, one at a time. */
class RecordDraft {
  #record: VolumeRecord;
  readonly #dependencies: Pick<BringUpDependencies, "save" | "amend">;
  readonly #turn = new Mutex();
  #isFinished = false;

  constructor(record: VolumeRecord, dependencies: Pick<BringUpDependencies, "save" | "amend">) {
    this.#record = record;
    this.#dependencies = dependencies;
  }

  /** As it is on stable storage. */
  get record(): VolumeRecord {
    return this.#record;
  }

  save(change: Partial<VolumeRecord>): Promise<void> {
    return this.#turn.run(async () => {
      if (this.#isFinished) {
        await this.#dependencies.amend(change);
        return;
      }
      const next = { ...this.#record, ...change };
      await this.#dependencies.save(next);
      this.#record = next;
    });
  }

  /** From now on the record is the volume's, and changes to it take their turn there. */
  finish(): void {
    this.#isFinished = true;
  }
}

/** What the kernel keeps beside the device of this volume, and the backend asked for. */
export function bindOptionsOf(record: VolumeRecord, options: BringUpOptions): BinderOptions {
  return {
    backend: record.requestedBackend ?? options.backend,
    backendId: formatBackendId({
      clusterId: options.clusterId,
      volumeHandle: record.volumeHandle,
      deviceId: record.deviceId,
    }),
  };
}

function connect(
  draft: RecordDraft,
  mode: BringUpMode,
  options: BringUpOptions,
  { connector, vault }: BringUpDependencies,
  signal: AbortSignal,
): Promise<ConnectedVolume> {
  const { record } = draft;
  const { volumeHandle, sealedChap, isids, sizeBytes, pathIds } = record;
  const settings = record.settings === undefined ? undefined : recallInitiatorSettings(record.settings);
  const request: ConnectVolumeRequest = {
    portals: record.portals,
    targetName: record.targetName,
    lun: record.lun,
    expectedId: record.deviceId === "" ? record.requestedId : record.deviceId,
    initiatorName: options.initiatorName,
    isid: Buffer.from(isids[0] ?? "", "hex"),
    headerDigest: record.headerDigest,
    dataDigest: record.dataDigest,
    ...(settings === undefined ? {} : { settings }),
    ...(sealedChap === undefined ? {} : { chap: vault.open(volumeHandle, sealedChap) }),
    ...(sizeBytes === undefined ? {} : { expectedSizeBytes: sizeBytes }),
    // The devices of an earlier process send again what it had under way: none of that may still be carried out.
    hasFormerSessions: mode !== "attach",
    ...(pathIds === undefined ? {} : { formerPathIds: pathIds }),
    rememberPaths: (ids) => draft.save({ pathIds: [...ids] }),
    // Who only reads is kept away by nobody, and keeps nobody away.
    ...(record.isReadOnly ? {} : { reservation: reservationOf(record, mode, settings, options) }),
  };
  return connector.connect(request, signal);
}

function reservationOf(
  record: VolumeRecord,
  mode: BringUpMode,
  settings: InitiatorSettings | undefined,
  { reservationKey, initiatorName }: BringUpOptions,
): ReservationOptions {
  return {
    mode: settings?.fencing ?? "auto",
    key: reservationKey,
    initiatorName,
    isShared: record.wasShared ?? false,
    isTakeOver: mode !== "attach",
  };
}

/** The identity the device shows: learned at the first attach, demanded at every other. */
async function learnIdentity(draft: RecordDraft, connected: ConnectedVolume): Promise<void> {
  const { record } = draft;
  const { identity, sizeBytes } = connected.device.info;
  const expected = record.deviceId === "" ? record.requestedId : record.deviceId;
  // The connector checked this already, at every login; it is too important to rest on one place.
  if (expected !== "" && identity.id !== expected) {
    throw new BlockError(
      "BLOCK_IDENTITY_MISMATCH",
      `LUN ${record.lun} of ${record.targetName} shows identity "${identity.id}", but volume ${record.volumeHandle} is ` +
        `"${expected}"; the LUN was mapped to another volume`,
      { details: { volumeHandle: record.volumeHandle, expected, found: identity.id } },
    );
  }
  if (identity.id !== record.deviceId || sizeBytes !== record.sizeBytes) {
    await draft.save({ deviceId: identity.id, sizeBytes });
  }
}

async function takeOver(
  record: VolumeRecord,
  mode: BringUpMode,
  device: ConnectedVolume["device"],
  bindOptions: BinderOptions,
  { binder, logger }: BringUpDependencies,
): Promise<BoundDevice | undefined> {
  if (mode === "attach") {
    // A device of before may have pages cached that are old by now: away with it, unless somebody is on it.
    const isGone = await binder.discard(bindOptions).then(
      () => true,
      (error: unknown) => {
        if (errorCode(error) === "DEVICE_BUSY") return false;
        throw error;
      },
    );
    if (isGone) return undefined;
    logger.warn("a device of this volume is in use already and is taken over", { volumeHandle: record.volumeHandle });
  }
  const existing = await binder.recover(device, bindOptions);
  if (existing !== undefined) return existing;
  if (mode !== "rebind") {
    throw new DataplaneError(
      "VOLUME_DEVICE_LOST",
      `the kernel has no device of volume ${record.volumeHandle} any more; unmount what used it and attach it again`,
      { details: { volumeHandle: record.volumeHandle } },
    );
  }
  // Remains of a fuse device cannot be taken over, only taken away.
  await binder.discard(bindOptions);
  return undefined;
}

/** Last done, first undone. A step that fails does not keep the others from being undone. */
async function unwind(undo: readonly (() => Promise<void>)[], volumeHandle: string, logger: Logger): Promise<void> {
  for (const step of [...undo].reverse()) {
    try {
      await step();
    } catch (error) {
      logger.warn("undoing a failed attach met an error", { volumeHandle, reason: errorMessage(error) });
    }
  }
}
