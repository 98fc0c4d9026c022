import type { Sense } from "../../../src/scsi/sense.js";
import { ScsiStatus } from "../../../src/scsi/status.js";
import { classify, unitAttentionKind } from "../../../src/scsi/verdict.js";

const sense = (key: number, asc = 0, ascq = 0): Sense => ({ isDeferred: false, key, asc, ascq });
const check = (key: number, asc: number, ascq: number): ReturnType<typeof classify> =>
  classify(ScsiStatus.checkCondition, sense(key, asc, ascq));

describe("classify", () => {
  it.each<[number, string, string]>([
    [ScsiStatus.good, "success", "success"],
    [ScsiStatus.conditionMet, "success", "success"],
    [ScsiStatus.busy, "wait", "busy"],
    [ScsiStatus.taskSetFull, "wait", "task-set-full"],
    [ScsiStatus.acaActive, "wait", "busy"],
    [ScsiStatus.taskAborted, "retry", "aborted"],
    [ScsiStatus.reservationConflict, "fail", "reservation-conflict"],
    [0x22, "fail", "unknown"],
  ])("status %d is %s (%s)", (status, action, reason) => {
    expect(classify(status)).toMatchObject({ action, reason });
  });

  it.each<[number, number, number, string, string]>([
    [0x1, 0x17, 0x01, "success", "recovered"],
    [0x2, 0x04, 0x01, "wait", "becoming-ready"],
    [0x2, 0x04, 0x0a, "wait", "alua-transitioning"],
    [0x2, 0x04, 0x0b, "other-path", "alua-standby"],
    [0x2, 0x04, 0x0c, "other-path", "alua-unavailable"],
    [0x5, 0x04, 0x0c, "other-path", "alua-unavailable"],
    [0x2, 0x04, 0x12, "other-path", "alua-offline"],
    [0x2, 0x04, 0x14, "wait", "not-ready"],
    [0x2, 0x3a, 0x00, "other-path", "not-ready"],
    [0x3, 0x11, 0x00, "fail", "medium-error"],
    [0x4, 0x44, 0x00, "other-path", "internal-failure"],
    [0x5, 0x20, 0x00, "fail", "invalid-command"],
    [0x5, 0x20, 0x02, "fail", "access-denied"],
    [0x5, 0x21, 0x00, "fail", "out-of-range"],
    [0x5, 0x24, 0x00, "fail", "invalid-field"],
    [0x5, 0x25, 0x00, "other-path", "no-such-lun"],
    [0x5, 0x26, 0x00, "fail", "invalid-field"],
    [0x7, 0x27, 0x00, "fail", "write-protected"],
    [0x7, 0x27, 0x07, "fail", "thin-full"],
    [0xb, 0x00, 0x00, "retry", "aborted"],
    [0xb, 0x10, 0x01, "fail", "protection-error"],
    [0xb, 0x47, 0x03, "retry", "transport-failure"],
    [0xb, 0x4e, 0x00, "retry", "overlapped-command"],
    [0xe, 0x1d, 0x00, "fail", "miscompare"],
  ])("sense %d/%d/%d is %s (%s)", (key, asc, ascq, action, reason) => {
    expect(check(key, asc, ascq)).toMatchObject({ action, reason });
  });

  it("gives a stable code and a name for people", () => {
    expect(check(0x7, 0x27, 0x07)).toMatchObject({
      code: "SCSI_7_27_07",
      name: "DATA PROTECT: thin pool full: no space to allocate the block (7/27/07)",
    });
    expect(classify(ScsiStatus.busy)).toMatchObject({ code: "SCSI_STATUS_08", name: "BUSY" });
  });

  it("never takes CHECK CONDITION without sense for success", () => {
    expect(classify(ScsiStatus.checkCondition)).toMatchObject({ action: "other-path", reason: "unknown" });
  });

  it("never takes a deferred error for success, whatever its key", () => {
    for (const key of [0x0, 0x1, 0x3, 0x6]) {
      const verdict = classify(ScsiStatus.checkCondition, { ...sense(key, 0x0c), isDeferred: true });
      expect(verdict).toMatchObject({ action: "fail", reason: "deferred-error" });
    }
  });
});

describe("unit attentions", () => {
  it.each<[number, number, string]>([
    [0x29, 0x00, "power-on-or-reset"],
    [0x29, 0x04, "power-on-or-reset"],
    [0x29, 0x07, "nexus-loss"],
    [0x2a, 0x00, "parameters-changed"],
    [0x2a, 0x01, "mode-parameters-changed"],
    [0x2a, 0x02, "parameters-changed"],
    [0x2a, 0x03, "reservations-preempted"],
    [0x2a, 0x04, "reservations-released"],
    [0x2a, 0x05, "registrations-preempted"],
    [0x2a, 0x06, "alua-state-changed"],
    [0x2a, 0x09, "capacity-changed"],
    [0x2f, 0x00, "commands-cleared"],
    [0x38, 0x07, "thin-soft-threshold"],
    [0x3f, 0x01, "firmware-changed"],
    [0x3f, 0x03, "inquiry-data-changed"],
    [0x3f, 0x05, "identifier-changed"],
    [0x3f, 0x0e, "luns-changed"],
    [0x28, 0x00, "medium-changed"],
    [0x5a, 0x01, "other"],
  ])("%d/%d is %s", (asc, ascq, kind) => {
    expect(check(6, asc, ascq)).toMatchObject({ action: "unit-attention", attention: kind });
  });

  it("are none with another sense key", () => {
    expect(unitAttentionKind(sense(5, 0x2a, 0x09))).toBeUndefined();
  });
});
