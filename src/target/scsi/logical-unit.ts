import { createHash } from "node:crypto";
import type { Logger } from "../../base/logger.js";
import type { BlockDevice, BlockDeviceInfo } from "../../block/device.js";
import type { AccessStates } from "./access-states.js";
import { Condition } from "./check-condition.js";
import { PersistentReservations, type ReservationStore } from "./persistent-reservations.js";
import { RangeLock } from "./range-lock.js";
import { TaskSet } from "./task-set.js";
import { UnitAttentions } from "./unit-attentions.js";

export interface LogicalUnitOptions {
  readonly number: number;
  /** The target the unit belongs to: part of its port names. */
  readonly targetName: string;
  readonly device: BlockDevice;
  /** Of the target's port groups, which are those of all its units. */
  readonly accessStates: AccessStates;
  /** The device keeps an atomic write whole even when power is lost midway. */
  readonly hasAtomicWrites?: boolean;
}

export interface LogicalUnitDependencies {
  readonly logger: Logger;
  readonly reservationStore?: ReservationStore;
}

export type MediumState =
  | { readonly kind: "ready" }
  | { readonly kind: "stopped" }
  | { readonly kind: "sanitizing"; progress: number }
  | { readonly kind: "sanitize-failed" };

/** Status as COPY STATUS has it: 0 in progress, 1 done, 2 failed. */
export interface CopyResults {
  readonly listId: number;
  status: number;
  segmentsDone: number;
}

/** Our limit on one transfer: large enough to be no limit, small enough that 128 of them fit in memory. */
export const MAX_TRANSFER_BYTES = 8_388_608;

/** One logical unit: a device with the state SCSI keeps about it. Lives as long as the target has the LUN. */
export class LogicalUnit {
  readonly number: number;
  readonly targetName: string;
  readonly device: BlockDevice;
  readonly accessStates: AccessStates;
  readonly attentions = new UnitAttentions();
  readonly ranges = new RangeLock();
  readonly taskSet = new TaskSet();
  readonly reservations: PersistentReservations;
  readonly serial: string;
  readonly hasAtomicWrites: boolean;
  /** Locally assigned NAA or the device's own, as the bytes of the designator. */
  readonly naa: Buffer;
  /** Control mode page: software write protect and descriptor sense, set by MODE SELECT. */
  isSoftwareProtected = false;
  usesDescriptorSense = false;
  isWriteCacheEnabled: boolean;
  medium: MediumState = { kind: "ready" };
  /** RESERVE(6): the nexus that holds the whole unit. */
  legacyHolder: string | undefined;
  /** What the last EXTENDED COPY of each nexus came to, until it is asked for. */
  readonly copyResults = new Map<string, CopyResults>();
  /** Nexuses that prevent medium removal. */
  readonly removalPreventers = new Set<string>();
  readonly #knownNexuses = new Set<string>();
  readonly #stopListening: () => void;
  #info: BlockDeviceInfo;

  constructor(options: LogicalUnitOptions, dependencies: LogicalUnitDependencies) {
    this.number = options.number;
    this.targetName = options.targetName;
    this.device = options.device;
    this.accessStates = options.accessStates;
    this.hasAtomicWrites = options.hasAtomicWrites ?? false;
    this.#info = options.device.info;
    this.isWriteCacheEnabled = this.#info.hasVolatileCache;
    this.naa = naaOf(this.#info);
    this.serial = this.#info.identity.serial === "" ? this.naa.toString("hex") : this.#info.identity.serial;
    this.reservations = new PersistentReservations(
      { unitId: this.naa.toString("hex") },
      {
        logger: dependencies.logger,
        ...(dependencies.reservationStore === undefined ? {} : { store: dependencies.reservationStore }),
      },
    );
    this.#stopListening = options.device.onEvent((event) => {
      if (event.kind === "info-changed") this.#onInfoChanged(event.info);
    });
  }

  get info(): BlockDeviceInfo {
    return this.#info;
  }

  get blockBytes(): number {
    return this.#info.logicalBlockBytes;
  }

  get blockCount(): number {
    return Math.floor(this.#info.sizeBytes / this.#info.logicalBlockBytes);
  }

  get maxTransferBlocks(): number {
    return Math.floor(MAX_TRANSFER_BYTES / this.blockBytes);
  }

  get isWriteProtected(): boolean {
    return this.#info.isReadOnly || this.isSoftwareProtected;
  }

  /** A nexus came into being: it owes the initiator a unit attention (SAM-5 §6.3). */
  nexusStarted(nexusId: string): void {
    this.attentions.add(nexusId, this.#knownNexuses.has(nexusId) ? Condition.nexusLoss : Condition.powerOn);
    this.#knownNexuses.add(nexusId);
  }

  /** The nexus is gone: RESERVE(6) and medium-removal prevention end with it; persistent reservations stay. */
  nexusLost(nexusId: string): void {
    if (this.legacyHolder === nexusId) this.legacyHolder = undefined;
    this.removalPreventers.delete(nexusId);
    this.copyResults.delete(nexusId);
    this.attentions.forget(nexusId);
  }

  /** A logical unit reset (SAM-5 §6.3.3): tasks were ended by the caller; every other nexus is told. */
  reset(activeNexuses: Iterable<string>): void {
    this.legacyHolder = undefined;
    this.removalPreventers.clear();
    this.isSoftwareProtected = false;
    this.usesDescriptorSense = false;
    this.isWriteCacheEnabled = this.#info.hasVolatileCache;
    if (this.medium.kind === "stopped") this.medium = { kind: "ready" };
    for (const nexusId of activeNexuses) this.attentions.add(nexusId, Condition.busDeviceReset);
  }

  /** Establishes a unit attention for every nexus known except `exceptNexus`. */
  attentionForAll(condition: (typeof Condition)[keyof typeof Condition], exceptNexus?: string): void {
    for (const nexusId of this.#knownNexuses) {
      if (nexusId !== exceptNexus) this.attentions.add(nexusId, condition);
    }
  }

  /** Set by the target: ends the tasks these nexuses have on this unit (PREEMPT AND ABORT); resolves when none runs. */
  abortTasksOf: (nexusIds: readonly string[]) => Promise<void> = () => Promise.resolve();

  /** Set by the target: tells all nexuses but this one of a change of access states (SET TARGET PORT GROUPS). */
  announceAccessChange: (byNexus: string) => void = () => undefined;

  /** Stops listening to the device, which is the caller's to close. */
  dispose(): void {
    this.#stopListening();
  }

  /** Reads into all of `target`, in pieces the device takes. */
  async read(offsetBytes: number, target: Buffer): Promise<void> {
    const limit = this.#info.maxTransferBytes;
    if (target.length <= limit) return this.device.read(offsetBytes, target);
    for (let done = 0; done < target.length; done += limit) {
      await this.device.read(offsetBytes + done, target.subarray(done, Math.min(done + limit, target.length)));
    }
  }

  /** Writes all of `source`, on stable storage when `fua` or when the write cache is off. */
  async write(offsetBytes: number, source: Buffer, fua: boolean): Promise<void> {
    const limit = this.#info.maxTransferBytes;
    const options = { fua: fua || (this.#info.hasVolatileCache && !this.isWriteCacheEnabled) };
    if (source.length <= limit) return this.device.write(offsetBytes, source, options);
    for (let done = 0; done < source.length; done += limit) {
      const piece = source.subarray(done, Math.min(done + limit, source.length));
      await this.device.write(offsetBytes + done, piece, options);
    }
  }

  #onInfoChanged(info: BlockDeviceInfo): void {
    const hasNewSize = info.sizeBytes !== this.#info.sizeBytes;
    const hasNewProtection = info.isReadOnly !== this.#info.isReadOnly;
    this.#info = info;
    if (hasNewSize) this.attentionForAll(Condition.capacityChanged);
    if (hasNewProtection) this.attentionForAll(Condition.modeParametersChanged);
  }
}

/**
 * The device's own NAA name, or a locally assigned one (NAA 3h, SPC-5 §7.7.6.5.4: 60 bits that need be unique only
 * within one installation, and no company identifier, which we do not have) hashed from its strongest name.
 */
function naaOf(info: BlockDeviceInfo): Buffer {
  const own = /^naa\.((?:[0-9a-f]{16}){1,2})$/i.exec(info.identity.id)?.[1];
  if (own !== undefined) return Buffer.from(own, "hex");
  const { id, vendor, product, serial } = info.identity;
  const name = id === "" ? `${vendor}\0${product}\0${serial}` : id;
  const naa = createHash("sha256").update("hawser naa\0").update(name).digest().subarray(0, 8);
  naa[0] = 0x30 | ((naa[0] ?? 0) & 0x0f);
  return Buffer.from(naa);
}
