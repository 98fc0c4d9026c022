import type { Logger } from "../base/logger.js";
import type { SealingKeyPair } from "../base/sealing.js";
import type { AttachedVolume, DataplaneApi } from "../dataplane/api.js";
import type { Filesystems } from "../host/filesystem.js";
import type { Mounter } from "../host/mounter.js";
import { CsiError } from "./errors.js";
import type { Finding } from "./events-rules.js";
import type { InFlight } from "./in-flight.js";
import type { StageRecords } from "./stage-record.js";

/** What every step of the Node service works with. */
export interface NodeDependencies {
  readonly dataplane: DataplaneApi;
  readonly mounter: Mounter;
  readonly filesystems: Filesystems;
  readonly records: StageRecords;
  readonly inFlight: InFlight;
  /** Opens the CHAP credentials that were sealed to this node. */
  readonly keyPair: SealingKeyPair;
  readonly nodeId: string;
  readonly logger: Logger;
  /** Hears what happened to a volume that its users should know; must not fail. */
  readonly notice?: (volumeHandle: string, finding: Finding) => void;
}

/** The volume's device. CSI_NOT_FOUND when the volume is not attached to this node. */
export async function requireAttached(dataplane: DataplaneApi, volumeId: string): Promise<AttachedVolume> {
  const status = await dataplane.get(volumeId);
  if (status?.volume !== undefined) return status.volume;
  const why = status === undefined || status.reason === "" ? "" : ` (${status.state}: ${status.reason})`;
  throw new CsiError("CSI_NOT_FOUND", `volume ${volumeId} is not attached to this node${why}`);
}
