import { type Lun, LUN_ZERO } from "../base/lun.js";
import { MAX_REPORT_LUNS_BYTES } from "../base/limits.js";
import { reportLuns } from "../scsi/cdb.js";
import { decodeReportLuns, reportLunsRequiredBytes } from "../scsi/report-luns.js";
import { decodeSense } from "../scsi/sense.js";
import { classify } from "../scsi/verdict.js";
import { MAX_UNIT_ATTENTIONS_PER_COMMAND } from "../base/limits.js";
import type { Session } from "../session/session.js";
import type { ScsiResult } from "../session/task.js";
import { DiscoveryError } from "./errors.js";

const FIRST_ALLOCATION_BYTES = 2048;

/**
 * The logical units of a session's target (REPORT LUNS to LUN 0, SPC-5 §6.33), however many there are up to
 * MAX_REPORT_LUNS_BYTES. Absorbs unit attentions. Rejects with SessionError, ScsiError or DiscoveryError.
 */
export async function listLuns(session: Session): Promise<Lun[]> {
  let allocationBytes = FIRST_ALLOCATION_BYTES;
  for (;;) {
    const bytes = await ask(session, allocationBytes);
    const requiredBytes = reportLunsRequiredBytes(bytes);
    if (requiredBytes <= bytes.length) return decodeReportLuns(bytes);
    if (requiredBytes <= allocationBytes || requiredBytes > MAX_REPORT_LUNS_BYTES) {
      throw new DiscoveryError(
        "DISCOVERY_ANSWER_INVALID",
        `the target announced ${requiredBytes} bytes of REPORT LUNS data and gave ${bytes.length}`,
      );
    }
    allocationBytes = requiredBytes;
  }
}

async function ask(session: Session, allocationBytes: number): Promise<Buffer> {
  const dataIn = Buffer.alloc(allocationBytes);
  for (let attempt = 0; attempt < MAX_UNIT_ATTENTIONS_PER_COMMAND; attempt += 1) {
    dataIn.fill(0);
    const result = await new Promise<ScsiResult>((resolve) => {
      session.execute({
        lun: LUN_ZERO,
        cdb: reportLuns(allocationBytes),
        dataIn,
        allowUnderflow: true,
        onDone: resolve,
      });
    });
    if (result.kind === "failed") throw result.error;
    const verdict = classify(result.status, result.sense === undefined ? undefined : decodeSense(result.sense));
    if (verdict.action === "success") return dataIn.subarray(0, result.transferredBytes);
    if (verdict.action !== "unit-attention" && verdict.action !== "retry") {
      throw new DiscoveryError("DISCOVERY_ANSWER_INVALID", `REPORT LUNS failed: ${verdict.name}`, {
        details: { verdict: verdict.code },
      });
    }
  }
  throw new DiscoveryError("DISCOVERY_ANSWER_INVALID", "REPORT LUNS was answered with unit attentions only");
}
