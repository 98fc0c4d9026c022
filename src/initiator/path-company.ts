import type { Lun } from "../base/lun.js";
import type { BlockDevice } from "../block/device.js";
import type { IscsiLun } from "../block/iscsi-lun.js";
import type { LunCommander } from "../block/lun-commands.js";
import type { LunProfile } from "../block/lun-inspection.js";
import type { SessionOptions } from "../session/session-options.js";
import type { FenceWay } from "./path-fence.js";

/** What a path needs of the volume that it belongs to. */
export interface PathCompany {
  /** Opens the unit of a session: knows what it must be. */
  openUnit(open: (expectedId: string) => Promise<IscsiLun>): Promise<IscsiLun>;
  /** See IscsiLunOptions of block/iscsi-lun-options.ts. */
  readonly admit: ((commander: LunCommander, pathId: string) => Promise<void>) | undefined;
  readonly expectedSizeBytes: number;
  /** What the unit is like, as another path has found it. */
  reference(pathId: string): LunProfile | undefined;
  /** What the path's unit is used through. */
  guard(unit: IscsiLun, pathId: string): BlockDevice;
  /** Ways over the other paths that are up. */
  waysBeside(pathId: string): readonly FenceWay[];
  /** The unit was reset for the sake of this path: the others' tasks may have ended without an answer. */
  afterUnitReset(pathId: string): Promise<void>;
}

export interface IscsiPathOptions {
  readonly id: string;
  readonly lun: Lun;
  /** Everything but `evacuation`; `chap` may be renewed. */
  readonly session: SessionOptions;
  /** How long requests wait for the path itself before they go over another (LinkDownTime). */
  readonly linkDownTimeMs: number;
  /** First logins repeated while this node has no network yet. */
  readonly networkReadyRetryCount: number;
}
