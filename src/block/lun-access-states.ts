import {
  type TargetPortGroupChange,
  type TargetPortGroups,
  decodeTargetPortGroups,
  encodeSetTargetPortGroups,
} from "../scsi/alua.js";
import { inquiry, reportTargetPortGroups, setTargetPortGroups, testUnitReady } from "../scsi/cdb.js";
import { decodeDeviceIdentification } from "../scsi/designators.js";
import { STANDARD_INQUIRY_BYTES, decodeInquiry } from "../scsi/inquiry.js";
import { VpdPage } from "../scsi/vpd.js";
import type { LunCommander } from "./lun-commands.js";
import { ask, readVpd, tolerate } from "./lun-inspection.js";

/** What a unit says of asymmetric access over the port it was asked through (SPC-5 §5.18). */
export interface AccessStateFacts {
  /** The target port group the port belongs to; undefined where the unit has no access states. */
  readonly portGroup: number | undefined;
  /** SET TARGET PORT GROUPS is taken (explicit asymmetric access). */
  readonly canSetPortGroups: boolean;
}

/** Sixteen groups of eight ports fit; a unit with more says how much it has. */
const PORT_GROUPS_BYTES = 1_024;

const EXPLICIT = 2;

/** Reads TPGS of INQUIRY and the port's group of VPD page 83h. Rejects with BlockError when it cannot be asked now. */
export async function readAccessStateFacts(commander: LunCommander): Promise<AccessStateFacts> {
  const data = decodeInquiry(
    await ask(commander, inquiry({ allocationLength: STANDARD_INQUIRY_BYTES }), STANDARD_INQUIRY_BYTES),
  );
  if (data.targetPortGroupSupport === 0) return { portGroup: undefined, canSetPortGroups: false };
  const designators = await tolerate(async () =>
    decodeDeviceIdentification(await readVpd(commander, VpdPage.deviceIdentification)),
  );
  const groups = (designators ?? []).flatMap((designator) =>
    designator.kind === "target-port-group" && designator.association === "target-port" ? [designator.group] : [],
  );
  return { portGroup: groups[0], canSetPortGroups: (data.targetPortGroupSupport & EXPLICIT) !== 0 };
}

/**
 * REPORT TARGET PORT GROUPS; undefined where the unit does not know it. Rejects with BlockError. No probe: whatever unit
 * attention it meets is acted upon.
 */
export async function readPortGroups(commander: LunCommander): Promise<TargetPortGroups | undefined> {
  return tolerate(async () => {
    const first = await ask(commander, reportTargetPortGroups(PORT_GROUPS_BYTES), PORT_GROUPS_BYTES, false);
    const wantedBytes = first.length < 4 ? 0 : 4 + first.readUInt32BE(0);
    if (wantedBytes <= PORT_GROUPS_BYTES) return decodeTargetPortGroups(first);
    const allocation = Math.min(wantedBytes, MAX_PORT_GROUPS_BYTES);
    return decodeTargetPortGroups(await ask(commander, reportTargetPortGroups(allocation), allocation, false));
  });
}

/** 65,536 groups would be more; no array has a hundredth of it. */
const MAX_PORT_GROUPS_BYTES = 65_536;

/** TEST UNIT READY, acting upon the unit attentions it meets. Rejects with BlockError when the unit takes no commands. */
export async function checkReady(commander: LunCommander): Promise<void> {
  await commander.run({ cdb: testUnitReady() });
}

/** SET TARGET PORT GROUPS. Rejects with BlockError. */
export async function setPortGroups(commander: LunCommander, changes: readonly TargetPortGroupChange[]): Promise<void> {
  const dataOut = encodeSetTargetPortGroups(changes);
  await commander.run({ cdb: setTargetPortGroups(dataOut.length), dataOut });
}
