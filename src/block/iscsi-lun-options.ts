import type { Logger } from "../base/logger.js";
import type { Lun } from "../base/lun.js";
import type { LunCommander, LunCommanderDependencies } from "./lun-commands.js";
import type { LunProfile } from "./lun-inspection.js";

/** How a logical unit is opened: see openIscsiLun. */
export interface IscsiLunOptions {
  readonly lun: Lun;
  /** What the unit must show (`naa.…`); absent or empty: whatever it shows is what it must show from then on. */
  readonly expectedId?: string;
  /** Least size of a unit whose name is not its own alone (no VPD 83 name); absent or 0: any. */
  readonly expectedSizeBytes?: number;
  /** What another path may do better fails at once, with retry advice `other-path`; default no: it is repeated here. */
  readonly isOneOfSeveralPaths?: boolean;
  /**
   * Asked once the unit is known to be the right one, before anything else is sent to it: at the opening, after every
   * reconnection, and when its reservations have changed. Its commands are probes. A rejection with an error of the layer
   * `initiator` keeps the unit from being used; any other means that it could not be told.
   */
  readonly admit?: (commander: LunCommander) => Promise<void>;
  /**
   * What the unit is like over another path. With it a unit whose port lets nothing through now, but the question who it is,
   * is opened all the same; it is looked at before anything is sent to it. Absent, or undefined: it is not.
   */
  readonly reference?: () => LunProfile | undefined;
  /** Access states have changed (SPC-5 §5.18): awaited before the command that heard of it is repeated. */
  readonly onAccessStatesChanged?: (commander: LunCommander) => Promise<void>;
}

export interface IscsiLunDependencies extends LunCommanderDependencies {
  readonly logger: Logger;
}
