import { AppError } from "../base/errors.js";
import { Emitter } from "../base/emitter.js";
import type { Logger } from "../base/logger.js";
import { type Lun, formatLun } from "../base/lun.js";
import {
  type BlockRange,
  getLbaStatus,
  readCdb,
  synchronizeCache10,
  synchronizeCache16,
  unmap,
  writeCdb,
  writeSame16,
} from "../scsi/cdb.js";
import { decodeLbaStatus, lbaStatusBytes } from "../scsi/lba-status.js";
import type { UnitAttentionKind } from "../scsi/verdict.js";
import { encodeUnmapList, unmapListBytes } from "../scsi/unmap.js";
import type { GuardVerdict } from "../session/reinstatement-guard.js";
import type { Session } from "../session/session.js";
import type { SessionEvent } from "../session/session-events.js";
import type {
  BlockDevice,
  BlockDeviceInfo,
  BlockExtent,
  ByteRange,
  DeviceEvent,
  WriteOptions,
  WriteZeroesOptions,
} from "./device.js";
import { BlockError } from "./errors.js";
import { asksForLook } from "./lun-attentions.js";
import type { IscsiLunDependencies, IscsiLunOptions } from "./iscsi-lun-options.js";
import { LunCommander } from "./lun-commands.js";
import {
  type FoundUnit,
  identityMismatch,
  isRefusal,
  isSameUnit,
  refusalOf,
  requireExpected,
  requireSameName,
} from "./lun-identity.js";
import { type LunProfile, lookAtUnit, readIdentity } from "./lun-inspection.js";
import { blockExtents, splitRange, toBlocks, unmapBatches, writePlainZeroes } from "./lun-ranges.js";

/** A cache with much in it takes its time. */
const FLUSH_TIMEOUT_MS = 180_000;
const LBA_STATUS_DESCRIPTORS = 256;
const MAX_LBA_10 = 0xffff_ffff;

/**
 * Opens one logical unit of a session as a block device: waits until it is ready, reads what it is, checks who it is.
 * Rejects with BlockError (BLOCK_IDENTITY_MISMATCH when it is not `expectedId`) or ScsiError. Closing the device does
 * not close the session.
 */
export async function openIscsiLun(
  session: Session,
  options: IscsiLunOptions,
  dependencies: IscsiLunDependencies,
): Promise<IscsiLun> {
  const device = new IscsiLun(session, options, dependencies);
  try {
    await device.open();
  } catch (error) {
    await device.close();
    throw error;
  }
  return device;
}

/** A logical unit behind an iSCSI session. */
export class IscsiLun implements BlockDevice {
  readonly #session: Session;
  readonly #lun: Lun;
  readonly #options: IscsiLunOptions;
  readonly #logger: Logger;
  readonly #events = new Emitter<DeviceEvent>();
  readonly #commander: LunCommander;
  readonly #stops: (() => void)[] = [];
  #profile: LunProfile | undefined;
  /** Nothing but its name is known of the unit as it is now. */
  #isHalfKnown = false;
  /** Why nothing may reach the unit now. */
  #refusal: BlockError | undefined;
  #isWriteSameRefused = false;
  #recheck: Promise<GuardVerdict> | undefined;

  /** Use openIscsiLun. */
  constructor(session: Session, options: IscsiLunOptions, dependencies: IscsiLunDependencies) {
    this.#session = session;
    this.#lun = options.lun;
    this.#options = options;
    this.#logger = dependencies.logger;
    this.#commander = new LunCommander(
      {
        ...{ session, lun: options.lun, isOneOfSeveralPaths: options.isOneOfSeveralPaths ?? false },
        onUnitAttention: (kind) => this.#onUnitAttention(kind),
      },
      dependencies,
    );
  }

  /** Use openIscsiLun. */
  async open(): Promise<void> {
    const { expectedId = "", expectedSizeBytes = 0 } = this.#options;
    const look = await lookAtUnit(this.#commander, this.#lun, async (found) => {
      requireExpected(found, { lun: this.#lun, expectedId, expectedSizeBytes });
      await this.#options.admit?.(this.#commander);
    });
    if (look.kind === "whole") {
      this.#profile = look.profile;
    } else {
      const reference = this.#options.reference?.();
      if (reference === undefined) throw look.cause;
      requireSameName(this.#lun, reference.info, look.identity);
      this.#profile = reference;
      this.#isHalfKnown = true;
    }
    this.#stops.push(
      this.#session.addGuard({ lun: this.#lun, verify: () => this.#verify() }),
      this.#session.events.on((event) => this.#onSessionEvent(event)),
    );
  }

  get info(): BlockDeviceInfo {
    return this.#known().info;
  }

  /** How the unit is to be talked to; undefined while that is known from another path alone. */
  get profile(): LunProfile | undefined {
    return this.#isHalfKnown ? undefined : this.#profile;
  }

  /** For measurements and tests: the commands as they are. */
  get commander(): LunCommander {
    return this.#commander;
  }

  async read(offsetBytes: number, target: Buffer): Promise<void> {
    if (this.#refusal !== undefined || this.#isHalfKnown) await this.#requireKnown();
    const blockBytes = this.info.logicalBlockBytes;
    const cdb = readCdb(offsetBytes / blockBytes, target.length / blockBytes);
    await this.#commander.run({ cdb, dataIn: target });
  }

  async write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void> {
    if (this.#refusal !== undefined || this.#isHalfKnown) await this.#requireKnown();
    const { info, honoursFua } = this.#known();
    const range = toBlocks({ offsetBytes, lengthBytes: source.length }, info);
    const wantsFua = options?.fua === true;
    const cdb = writeCdb(range.lba, range.blocks, wantsFua && honoursFua);
    await this.#commander.run({ cdb, dataOut: source });
    if (wantsFua && !honoursFua) await this.#synchronize(range);
  }

  async flush(): Promise<void> {
    await this.#synchronize({ lba: 0, blocks: 0 });
  }

  async unmap(ranges: readonly ByteRange[]): Promise<void> {
    const profile = this.#known();
    const blocks = ranges.map((range) => toBlocks(range, profile.info));
    if (profile.unmapBy === "none") throw this.#unsupported("release blocks");
    if (profile.unmapBy === "write-same") {
      for (const range of blocks) await this.#writeSame(range, true);
      return;
    }
    for (const batch of unmapBatches(blocks, profile)) {
      const dataOut = encodeUnmapList(batch);
      // Some targets report the list as a residual although they have worked it off.
      await this.#run({ cdb: unmap(unmapListBytes(batch.length)), dataOut, allowUnderflow: true });
    }
  }

  async writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void> {
    const profile = this.#known();
    const mayUnmap = options?.mayUnmap === true && profile.canWriteSameUnmap && profile.info.unmapReadsZeroes;
    const blocks = toBlocks(range, profile.info);
    const isDone = !this.#isWriteSameRefused && (await this.#tryWriteSame(blocks, mayUnmap));
    if (!isDone) await writePlainZeroes(this, range, options);
    else if (options?.fua === true) await this.#synchronize(blocks);
  }

  async blockStatus(range: ByteRange): Promise<readonly BlockExtent[]> {
    const { info } = this.#known();
    const dataIn = Buffer.alloc(lbaStatusBytes(LBA_STATUS_DESCRIPTORS));
    const { lba } = toBlocks(range, info);
    const bytes = await this.#run({ cdb: getLbaStatus(lba, dataIn.length), dataIn, allowUnderflow: true });
    return blockExtents(decodeLbaStatus(dataIn.subarray(0, bytes)), range, info);
  }

  onEvent(listener: (event: DeviceEvent) => void): () => void {
    return this.#events.on(listener);
  }

  /** Reads size, cache and identity again; resolves with what the device says now. Rejects with BlockError. */
  async refresh(): Promise<BlockDeviceInfo> {
    const verdict = await this.#verifyOnce();
    if (verdict.kind === "refused") throw verdict.reason;
    return this.info;
  }

  /**
   * Asks the unit who it is, for the case that it was exchanged and nothing told of it. Another one is refused, as after a
   * unit attention. Rejects with BlockError when it cannot be asked, or is refused.
   */
  async recognise(): Promise<void> {
    const before = this.info;
    const { identity } = await readIdentity(this.#commander, this.#lun, true);
    if (!isSameUnit(before, { ...before, identity })) await this.reconsider();
  }

  /** Looks at the unit as after a unit attention. Rejects with what keeps it from being used; the session looks on then. */
  async reconsider(): Promise<void> {
    const verdict = await this.#verifyOrReconnect();
    if (verdict?.kind === "refused") throw verdict.reason;
  }

  /** Waits for what is outstanding, but not for a path that is gone: closing the session ends that. */
  async close(): Promise<void> {
    this.#refusal = new BlockError("BLOCK_CLOSED", `LUN ${formatLun(this.#lun)} is closed`);
    const isUsable = this.#session.state === "ready";
    let stop: () => void = () => undefined;
    const lost = new Promise<void>((resolve) => {
      stop = this.#session.events.on(({ kind }) => {
        if (kind === "disconnected" || kind === "closed") resolve();
      });
    });
    if (isUsable) await Promise.race([this.#commander.idle(), lost]);
    stop();
    for (const end of this.#stops.splice(0)) end();
  }

  #known(): LunProfile {
    if (this.#profile !== undefined) return this.#profile;
    throw new BlockError("BLOCK_UNAVAILABLE", `LUN ${formatLun(this.#lun)} is not open yet`);
  }

  /** A command of the device's user: not while the unit is refused. */
  async #run(command: Parameters<LunCommander["run"]>[0]): Promise<number> {
    if (this.#refusal !== undefined || this.#isHalfKnown) await this.#requireKnown();
    return this.#commander.run(command);
  }

  /** Looks at what is not known yet; throws what keeps the unit from being used. */
  async #requireKnown(): Promise<void> {
    if (this.#refusal === undefined) {
      const verdict = await this.#verifyOnce();
      if (verdict.kind === "refused") throw verdict.reason;
    }
    if (this.#refusal !== undefined) throw this.#refusal;
    if (this.#isHalfKnown) {
      throw new BlockError("BLOCK_UNAVAILABLE", `LUN ${formatLun(this.#lun)} takes no commands through this port now`, {
        retry: "other-path",
      });
    }
  }

  /** SYNCHRONIZE CACHE; nothing to do only where the unit says that it has no volatile cache. */
  async #synchronize(range: BlockRange): Promise<void> {
    if (this.#refusal !== undefined || this.#isHalfKnown) await this.#requireKnown();
    if (!this.info.hasVolatileCache) return;
    const fits10 = range.lba + range.blocks <= MAX_LBA_10 && range.blocks <= 0xffff;
    const cdb = fits10 ? synchronizeCache10(range) : synchronizeCache16(range);
    await this.#run({ cdb, timeoutMs: FLUSH_TIMEOUT_MS });
  }

  async #tryWriteSame(range: BlockRange, mayUnmap: boolean): Promise<boolean> {
    try {
      await this.#writeSame(range, mayUnmap);
      return true;
    } catch (error) {
      if (!(error instanceof BlockError) || error.code !== "BLOCK_NOT_SUPPORTED") throw error;
      this.#logger.info("the unit does not know WRITE SAME, zeroes are written out", { lun: formatLun(this.#lun) });
      this.#isWriteSameRefused = true;
      return false;
    }
  }

  async #writeSame(range: BlockRange, mayUnmap: boolean): Promise<void> {
    const { info, maxWriteSameBlocks } = this.#known();
    const dataOut = Buffer.alloc(info.logicalBlockBytes);
    for (const piece of splitRange(range, maxWriteSameBlocks)) {
      await this.#run({ cdb: writeSame16({ ...piece, unmap: mayUnmap }), dataOut });
    }
  }

  async #onUnitAttention(kind: UnitAttentionKind): Promise<void> {
    this.#logger.info("unit attention", { lun: formatLun(this.#lun), attention: kind });
    if (kind === "alua-state-changed") await this.#options.onAccessStatesChanged?.(this.#commander);
    if (asksForLook(kind, this.#options.admit !== undefined)) await this.reconsider();
  }

  /**
   * Where it cannot be told whether the unit is the same one, nothing may be sent to it: the session reconnects, and its
   * guard keeps looking. The same when it is another one, so that an operator's correction is noticed.
   */
  async #verifyOrReconnect(): Promise<GuardVerdict | undefined> {
    try {
      const verdict = await this.#verifyOnce();
      if (verdict.kind === "refused") this.#session.reconnect(verdict.reason);
      return verdict;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      this.#session.reconnect(error);
      return undefined;
    }
  }

  /** Many commands hear of one change; one look is enough for all of them. */
  #verifyOnce(): Promise<GuardVerdict> {
    this.#recheck ??= this.#verify().finally(() => {
      this.#recheck = undefined;
    });
    return this.#recheck;
  }

  /** Looks whether the unit is still the one it was, and what it says of itself now. Rejects when it cannot tell. */
  async #verify(): Promise<GuardVerdict> {
    const before = this.#known().info;
    try {
      const look = await lookAtUnit(this.#commander, this.#lun, async (found) => {
        this.#requireSame(before, found);
        await this.#options.admit?.(this.#commander);
      });
      // Who else may write is asked when something can be written.
      if (look.kind === "limited") this.#requireSame(before, { ...before, identity: look.identity });
      const profile = look.kind === "whole" ? look.profile : this.#options.reference?.();
      if (look.kind === "limited" && this.#options.reference === undefined) throw look.cause;
      this.#isHalfKnown = look.kind === "limited";
      if (this.#refusal?.code !== "BLOCK_CLOSED") this.#refusal = undefined;
      if (profile !== undefined) this.#adopt(profile);
      return { kind: "accepted" };
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.#refuse(refusalOf(error));
      return { kind: "refused", reason: error };
    }
  }

  /** Throws BLOCK_IDENTITY_MISMATCH, and tells of it when it is news. */
  #requireSame(before: BlockDeviceInfo, found: FoundUnit): void {
    if (isSameUnit(before, found)) return;
    const { identity: expected } = before;
    this.#logger.error("the unit is not the one it was, I/O is refused", {
      lun: formatLun(this.#lun),
      expected: expected.id,
      found: found.identity.id,
    });
    if (this.#refusal === undefined) {
      this.#events.emit({ kind: "identity-changed", expected, found: found.identity });
    }
    throw identityMismatch(this.#lun, expected.id, found);
  }

  #refuse(reason: BlockError): void {
    if (this.#refusal?.code !== "BLOCK_CLOSED") this.#refusal = reason;
  }

  /** Takes over what the unit says; a new object only when something differs. */
  #adopt(profile: LunProfile): void {
    const before = this.#known().info;
    const hasChanged = JSON.stringify(before) !== JSON.stringify(profile.info);
    this.#profile = hasChanged ? profile : { ...profile, info: before };
    if (!hasChanged) return;
    this.#logger.info("the unit has changed", { lun: formatLun(this.#lun), sizeBytes: profile.info.sizeBytes });
    this.#events.emit({ kind: "info-changed", info: profile.info });
  }

  #onSessionEvent(event: SessionEvent): void {
    if (event.kind === "disconnected") {
      this.#events.emit({ kind: "unavailable", reason: event.reason.message });
    } else if (event.kind === "reconnected") {
      this.#events.emit({ kind: "available" });
    } else if (event.kind === "scsi-event") {
      // The sense is advice without a command: looking again is right whatever it says.
      void this.#verifyOrReconnect();
    }
  }

  #unsupported(what: string): BlockError {
    return new BlockError("BLOCK_NOT_SUPPORTED", `LUN ${formatLun(this.#lun)} cannot ${what}`);
  }
}
