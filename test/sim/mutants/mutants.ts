/** One mistake, put into a copy of the sources. */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  /** Must be in the file once. */
  readonly search: string;
  readonly replacement: string;
  /** A unit test that catches it, for mistakes that only make us slower or are caught twice. Default: the simulation. */
  readonly unitTest?: string;
}

/** Mistakes that other initiators and targets make, or that this one had. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: "Time2Wait negotiated as the smaller value",
    file: "src/login/keys.ts",
    search: '["DefaultTime2Wait", "RFC 7143 §13.15", number(0, 3600, "maximum")',
    replacement: '["DefaultTime2Wait", "RFC 7143 §13.15", number(0, 3600, "minimum")',
  },
  {
    name: "no Time2Wait before coming back",
    file: "src/session/session-links.ts",
    search: "return announced?.waitMs ?? connection.parameters.defaultTime2Wait * 1000;",
    replacement: "return 0 * (announced?.waitMs ?? connection.parameters.defaultTime2Wait);",
  },
  {
    name: "another ISID when the session comes back",
    file: "src/session/session-login.ts",
    search: "    isid: options.isid,",
    replacement:
      "    isid: Buffer.from(options.isid.map((byte, index) => (index === 5 ? (globalThis.logins = (globalThis.logins ?? 0) + 1) & 0xff : byte))),",
  },
  {
    name: "SNACK after the status was acknowledged",
    file: "src/session/connection.ts",
    search: "      if (this.channel.isOver || !this.#transfers.isWhole(pdu)) return;",
    replacement:
      "      if (this.channel.isOver) return;\n      if (!this.#transfers.isWhole(pdu)) {\n        this.#sequence.advance();\n        continue;\n      }",
  },
  {
    name: "TASK REASSIGN without a logout of the lost connection",
    file: "src/session/connection-recovery.ts",
    search: "    if (lost.isLoggedOut || over === undefined) return;",
    replacement:
      "    if (lost.isLoggedOut || over === undefined || lost.connection.parameters.errorRecoveryLevel === 2) return;",
  },
  {
    name: "ExpStatSN moves over a gap",
    file: "src/session/status-sequence.ts",
    search: "    this.note((pdu.statSn + 1) >>> 0);\n  }",
    replacement: "    this.note((pdu.statSn + 1) >>> 0);\n    if (isDone) this.#expStatSn = pdu.statSn;\n  }",
  },
  {
    name: "commands beyond the window",
    file: "src/session/command-window.ts",
    search: "    return ((this.#maxCmdSn - this.#cmdSn) | 0) >= 0;",
    replacement: "    return ((this.#maxCmdSn - this.#cmdSn) | 0) >= -2;",
  },
  {
    name: "MaxCmdSN may shrink",
    file: "src/session/command-window.ts",
    search: "    if (((maxCmdSn - this.#maxCmdSn) | 0) > 0) this.#maxCmdSn = maxCmdSn;",
    replacement: "    this.#maxCmdSn = maxCmdSn;",
    unitTest: "test/unit/session/command-window.test.ts",
  },
  {
    name: "GOOD without all of the data is taken for success",
    file: "src/session/data-transfer.ts",
    search: 'const isComplete = residual.kind === "none" && movedBytes === expectedBytes;',
    replacement: 'const isComplete = residual.kind === "none" && movedBytes <= expectedBytes;',
    unitTest: "test/unit/session/data-path.test.ts",
  },
  {
    name: "a write is acknowledged when its last data is sent",
    file: "src/session/task-transfers.ts",
    search: "    record.sentBytes = Math.max(record.sentBytes, end);",
    replacement:
      '    record.sentBytes = Math.max(record.sentBytes, end);\n    if (end === record.expectedBytes) {\n      const residual = { kind: "none" } as const;\n      record.task.onDone({ kind: "status", status: 0, sense: undefined, residual, transferredBytes: end });\n    }',
  },
  {
    name: "a retried command gets a new CmdSN",
    file: "src/session/dispatcher.ts",
    search: "    record.retries += 1;",
    replacement: "    record.retries += 1;\n    record.cmdSn = this.#window.take();",
  },
  {
    name: "a rejected command leaves its CmdSN unused",
    file: "src/session/peer-requests.ts",
    search: "  plugCommandGap(context, connection, record.cmdSn);",
    replacement: "",
    unitTest: "test/unit/session/requests.test.ts",
  },
  {
    name: "data is used although its digest is wrong",
    file: "src/session/connection.ts",
    search: "    if (!isDataDigestGood) {\n      this.#onBadDigest(pdu);",
    replacement: '    if (!isDataDigestGood && pdu.type !== "scsi-data-in") {\n      this.#onBadDigest(pdu);',
  },
  {
    name: "a ping is answered with another tag",
    file: "src/session/connection.ts",
    search: "      targetTransferTag: pdu.targetTransferTag,\n      cmdSn: this.#window.nextCmdSn,",
    replacement: "      targetTransferTag: RESERVED_TAG,\n      cmdSn: this.#window.nextCmdSn,",
  },
  {
    name: "the last Data-Out says that more follows",
    file: "src/session/task-transfers.ts",
    search: "        isFinal: next === end,",
    replacement: "        isFinal: next === source.length,",
  },
  {
    name: "target: a new session begins before the old one's tasks have ended",
    file: "src/target/session-registry.ts",
    search: '    await existing?.drop("the initiator logged in again with the same ISID");',
    replacement: '    void existing?.drop("the initiator logged in again with the same ISID");',
    unitTest: "test/unit/target/recovery-level-2.test.ts",
  },
  {
    name: "target: data that came before its command is counted and not kept",
    file: "src/target/session.ts",
    search: "          this.runner.placement.put(slot, pdu, slot.receivedFor);\n",
    replacement: "",
  },
];
