import { SeededRandom } from "../../../src/base/seeded-random.js";
import { decodeSetTargetPortGroups, decodeTargetPortGroups } from "../../../src/scsi/alua.js";
import { decodeReadCapacity10, decodeReadCapacity16 } from "../../../src/scsi/capacity.js";
import { parseBlockCommand } from "../../../src/scsi/cdb-parse.js";
import { decodeDeviceIdentification } from "../../../src/scsi/designators.js";
import { ScsiError } from "../../../src/scsi/errors.js";
import { decodeInquiry } from "../../../src/scsi/inquiry.js";
import { decodeLbaStatus } from "../../../src/scsi/lba-status.js";
import { decodeModeData } from "../../../src/scsi/mode.js";
import * as pr from "../../../src/scsi/persistent-reserve.js";
import { decodeReportLuns } from "../../../src/scsi/report-luns.js";
import { decodeSense } from "../../../src/scsi/sense.js";
import { decodeUnmapList } from "../../../src/scsi/unmap.js";
import { decodeBlockLimits, decodeLogicalBlockProvisioning, decodeSupportedPages } from "../../../src/scsi/vpd.js";
import { classify } from "../../../src/scsi/verdict.js";

/** Headers that pass the first check, so that the inner walks are reached. */
const plausibleStarts = [
  "",
  "70",
  "72",
  "00830040",
  "00b0003c",
  "00000030",
  "0000000100000020",
  "00200018",
  "00b20004",
  "0000ffff00000200",
];

const decoders: Readonly<Record<string, (bytes: Buffer) => unknown>> = {
  decodeTargetPortGroups,
  decodeSetTargetPortGroups,
  decodeReadCapacity10,
  decodeReadCapacity16,
  parseBlockCommand,
  decodeDeviceIdentification,
  decodeInquiry,
  decodeLbaStatus,
  decodeMode6: (bytes) => decodeModeData(bytes, "mode6"),
  decodeMode10: (bytes) => decodeModeData(bytes, "mode10"),
  decodeReservationKeys: pr.decodeReservationKeys,
  decodeReservation: pr.decodeReservation,
  decodeReservationCapabilities: pr.decodeReservationCapabilities,
  decodeReservationFullStatus: pr.decodeReservationFullStatus,
  decodePersistentReserveOutList: pr.decodePersistentReserveOutList,
  decodeRegisterAndMoveList: pr.decodeRegisterAndMoveList,
  decodeReportLuns,
  senseAndVerdict: (bytes) => classify(2, decodeSense(bytes)),
  decodeUnmapList,
  decodeBlockLimits,
  decodeLogicalBlockProvisioning,
  decodeSupportedPages,
};

describe("decoders fed with random bytes", () => {
  it.each(Object.entries(decoders))("%s gives a value or a ScsiError", (_name, decode) => {
    const random = new SeededRandom(20_261_120);
    let answers = 0;
    for (let round = 0; round < 6_000; round += 1) {
      const start = Buffer.from(plausibleStarts[random.uint32() % plausibleStarts.length] ?? "", "hex");
      const bytes = Buffer.concat([start, random.bytes(random.uint32() % 80)]);
      // Small numbers make lengths that fit more often than random ones.
      if (round % 2 === 0) for (let at = start.length; at < bytes.length; at += 1) bytes[at] = (bytes[at] ?? 0) & 0x07;
      try {
        decode(bytes);
      } catch (error) {
        if (!(error instanceof ScsiError)) throw error;
      }
      answers += 1;
    }
    expect(answers).toBe(6_000);
  });
});
