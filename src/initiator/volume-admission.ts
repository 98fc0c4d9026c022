import { AppError, asAppError, errorCode } from "../base/errors.js";
import { Emitter } from "../base/emitter.js";
import type { WriteOptions, WriteZeroesOptions, BlockDevice, ByteRange } from "../block/device.js";
import { ForwardingDevice } from "../block/forwarding-device.js";
import type { IscsiLun } from "../block/iscsi-lun.js";
import { refusalOf } from "../block/lun-identity.js";
import type { LunCommander } from "../block/lun-commands.js";
import { LunReservation } from "../block/lun-reservation.js";
import type { SessionDependencies } from "../session/session-options.js";
import type { NexusAct } from "./path-nexus.js";
import { pathKeptOut } from "./reservation-errors.js";
import type { ReservationStatus } from "./reservation-status.js";
import { type OtherNexuses, type ReservationOptions, VolumeReservation } from "./volume-reservation.js";

/** The other paths of the volume. */
export interface AdmissionCompany {
  /** Is no path up but this one? */
  isAlone(pathId: string): boolean;
  /**
   * Does something over the nexus of each other path, reached over the portal of this one where that path is down, until it
   * resolves with true. Resolves with whether it did; does not reject.
   */
  overOthers(pathId: string, act: NexusAct): Promise<boolean>;
}

/** Lets the paths of a volume to its unit as the reservations there allow, and says when that is over for good. */
export class VolumeAdmission {
  readonly #reservation: VolumeReservation;
  readonly #lost = new Emitter<AppError>();
  readonly #company: AdmissionCompany | undefined;
  readonly #keptOut = new Set<string>();
  #isLost = false;

  /** `company`: for a volume of several paths. */
  constructor(options: ReservationOptions, dependencies: SessionDependencies, company?: AdmissionCompany) {
    this.#reservation = new VolumeReservation(options, dependencies);
    this.#company = company;
  }

  /** Rejects with what keeps the path out: see VolumeReservation.admit, and keepOut. */
  async admit(commander: LunCommander, pathId: string): Promise<void> {
    const unit = new LunReservation(commander);
    try {
      await this.#reservation.admit(unit, pathId);
      if (this.#keptOut.has(pathId)) await this.#letInIfAlone(unit, pathId);
    } catch (error) {
      if (error instanceof AppError && error.code === "RESERVATION_LOST") this.#tellLost(error);
      throw error;
    }
  }

  /**
   * The target lets only one path of ours write (LIO does, within one portal group), and it is not this one: it is admitted
   * again when no other path is up. Returns false for a volume of one path, which needs another explanation.
   */
  keepOut(pathId: string): boolean {
    if (this.#company === undefined) return false;
    this.#keptOut.add(pathId);
    return true;
  }

  #others(pathId: string): OtherNexuses {
    return { pathId, act: (act) => this.#company?.overOthers(pathId, act) ?? Promise.resolve(false) };
  }

  async #letInIfAlone(unit: LunReservation, pathId: string): Promise<void> {
    if (this.#company?.isAlone(pathId) !== true) throw pathKeptOut(this.#reservation.status().key);
    await this.#reservation.moveTo(unit, this.#others(pathId));
    this.#keptOut.delete(pathId);
  }

  /** Another node has the volume: nothing that this one still writes may be carried out. Told once. */
  onLost(listener: (reason: AppError) => void): () => void {
    return this.#lost.on(listener);
  }

  #tellLost(reason: AppError): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#lost.emit(reason);
  }

  /** See VolumeReservation.abandon. */
  abandon(commander: LunCommander, pathId: string): Promise<boolean> {
    return this.#reservation.abandon(new LunReservation(commander), this.#others(pathId));
  }

  status(): ReservationStatus {
    return this.#reservation.status();
  }

  /** Gives the reservation back over the ways that are left. Does not fail. */
  async leave(ways: readonly { readonly pathId: string; readonly commander: LunCommander }[]): Promise<void> {
    await this.#reservation.leave(
      ways.map(({ pathId, commander }) => ({ pathId, reservation: new LunReservation(commander) })),
    );
  }
}

/** The unit with its conflicts looked into: see GuardedDevice. */
export function guardedDevice(unit: IscsiLun, admission: VolumeAdmission, pathId: string): BlockDevice {
  return new GuardedDevice(unit, admission, pathId);
}

/**
 * A unit whose answer RESERVATION CONFLICT is not taken as it is: the target may have forgotten this nexus' registration,
 * which is put right, or another node may have taken the unit, which ends with RESERVATION_LOST. Reads never conflict with
 * the reservations we take.
 */
class GuardedDevice extends ForwardingDevice {
  readonly #unit: IscsiLun;
  readonly #admission: VolumeAdmission;
  readonly #pathId: string;

  constructor(unit: IscsiLun, admission: VolumeAdmission, pathId: string) {
    super(unit);
    this.#unit = unit;
    this.#admission = admission;
    this.#pathId = pathId;
  }

  override write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    return this.#lookInto(() => this.inner.write(offsetBytes, source, options));
  }

  override unmap(ranges: readonly ByteRange[]): Promise<void> {
    return this.#lookInto(() => this.inner.unmap(ranges));
  }

  override writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    return this.#lookInto(() => this.inner.writeZeroes(range, options));
  }

  override flush(): Promise<void> {
    return this.#lookInto(() => this.inner.flush());
  }

  async #lookInto(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (errorCode(error) !== "BLOCK_RESERVATION_CONFLICT") throw error;
      // Asks who holds the unit; rejects with what was found when we must not use it.
      await this.#unit.refresh();
      await this.#repeat(act);
    }
  }

  /**
   * This nexus is registered, and the volume is ours: a target that lets it write no more than before lets only one path of
   * ours write. With `auto` the reservation is given up then; otherwise this path is not used while there is another.
   */
  async #repeat(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (errorCode(error) !== "BLOCK_RESERVATION_CONFLICT") throw error;
      if (!(await this.#admission.abandon(this.#unit.commander, this.#pathId))) {
        if (!this.#admission.keepOut(this.#pathId)) throw error;
        await this.#unit.reconsider().catch((reason: unknown) => {
          throw refusalOf(asAppError(reason));
        });
      }
      await act();
    }
  }
}
