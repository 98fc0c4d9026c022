import { TARGET_MAX_IMMEDIATE_TASKS } from "../base/limits.js";
import { LUN_ZERO } from "../base/lun.js";
import { Negotiator } from "../login/negotiate.js";
import type { NegotiatedParameters } from "../login/parameters.js";
import { LogoutReason, RejectReason, RESERVED_TAG, TaskManagementResponseCode } from "../wire/constants.js";
import type { LogoutRequestPdu, NopOutPdu, TaskManagementRequestPdu, TextRequestPdu } from "../wire/pdu.js";
import type { ControlRequest } from "./command-intake.js";
import type { ConnectionSlot } from "./connection-slot.js";
import type { TargetConnection } from "./connection.js";
import type { TargetSession } from "./session.js";
import { manageTasks, type TaskManagementScope } from "./task-management.js";
import { TextExchange, type TextAnswers } from "./text-exchange.js";

export interface SessionRequestsDependencies {
  readonly session: TargetSession;
  readonly scope: TaskManagementScope;
  readonly sendTargets: (connection: TargetConnection, value: string) => TextAnswers;
}

/** What a session does with requests that are no SCSI commands: NOP-Out, text, logout, task management. */
export class SessionRequests {
  readonly #deps: SessionRequestsDependencies;
  readonly #texts = new WeakMap<ConnectionSlot, TextExchange>();
  /** Task tags of management functions that have not been answered. */
  readonly #managing = new Set<number>();

  constructor(dependencies: SessionRequestsDependencies) {
    this.#deps = dependencies;
  }

  /** Takes a request in its turn. `header` is borrowed. */
  take(slot: ConnectionSlot, pdu: ControlRequest, header: Buffer): void {
    switch (pdu.type) {
      case "nop-out":
        this.#onNopOut(slot, pdu);
        return;
      case "text-request":
        this.#onText(slot, pdu, header);
        return;
      case "logout-request":
        this.#onLogout(slot, pdu).catch((error: unknown) => this.#deps.session.fail(error));
        return;
      case "task-management-request":
        if (this.#managing.size >= TARGET_MAX_IMMEDIATE_TASKS) {
          slot.reject(RejectReason.immediateCommandReject, header);
          return;
        }
        this.#onTaskManagement(slot, pdu).catch((error: unknown) => this.#deps.session.fail(error));
        return;
    }
  }

  #onNopOut(slot: ConnectionSlot, pdu: NopOutPdu): void {
    const segmentBytes = slot.parameters.initiatorMaxRecvDataSegmentLength;
    slot.sendStatus({
      type: "nop-in",
      lun: LUN_ZERO,
      initiatorTaskTag: pdu.initiatorTaskTag,
      targetTransferTag: RESERVED_TAG,
      data: pdu.data.length <= segmentBytes ? pdu.data : pdu.data.subarray(0, segmentBytes),
    });
  }

  #onText(slot: ConnectionSlot, pdu: TextRequestPdu, header: Buffer): void {
    const reply = this.#textOf(slot).receive(pdu, slot.parameters.initiatorMaxRecvDataSegmentLength);
    if (reply === undefined) slot.reject(RejectReason.protocolError, header);
    else slot.sendStatus(reply);
  }

  #textOf(slot: ConnectionSlot): TextExchange {
    const known = this.#texts.get(slot);
    if (known !== undefined) return known;
    const exchange = new TextExchange((pairs) => this.#answerText(slot, pairs));
    this.#texts.set(slot, exchange);
    return exchange;
  }

  /** SendTargets, and the keys that may be renegotiated (§13: use ALL and FFPO). */
  #answerText(slot: ConnectionSlot, pairs: [string, string][]): TextAnswers {
    const negotiator = new Negotiator({
      role: "target",
      sessionType: "Normal",
      isLeading: false,
      preferences: preferencesOf(slot.parameters),
      current: slot.parameters,
    });
    const others = pairs.filter(([key]) => key !== "SendTargets");
    const { answers } = negotiator.receive(others, "full-feature");
    slot.parameters = negotiator.result();
    const asked = pairs.find(([key]) => key === "SendTargets")?.[1];
    return asked === undefined ? answers : [...answers, ...this.#deps.sendTargets(slot.connection, asked)];
  }

  /** §11.14, §11.15: the answer says that all is cleaned up, so it comes after that. */
  async #onLogout(slot: ConnectionSlot, pdu: LogoutRequestPdu): Promise<void> {
    const { session } = this.#deps;
    const isForRecovery = pdu.reason === LogoutReason.recovery;
    if (pdu.reason === LogoutReason.closeSession) {
      for (const each of session.slots) each.isLoggingOut = true;
      await session.runner.abortAll();
      this.#answerLogout(slot, pdu, 0);
      session.close();
      return;
    }
    if (isForRecovery && session.parameters.errorRecoveryLevel < 2) {
      this.#answerLogout(slot, pdu, 2);
      return;
    }
    const isFound = await session.logOut(pdu, slot, isForRecovery);
    this.#answerLogout(slot, pdu, isFound ? 0 : 1);
    if (isFound && pdu.cid === slot.cid) session.leave(slot, isForRecovery);
  }

  #answerLogout(slot: ConnectionSlot, pdu: LogoutRequestPdu, response: number): void {
    const { session } = this.#deps;
    slot.sendStatus({
      type: "logout-response",
      response,
      initiatorTaskTag: pdu.initiatorTaskTag,
      time2Wait: session.parameters.defaultTime2Wait,
      time2Retain: session.retainSeconds,
    });
  }

  async #onTaskManagement(slot: ConnectionSlot, pdu: TaskManagementRequestPdu): Promise<void> {
    const { session, scope } = this.#deps;
    if (this.#managing.has(pdu.referencedTaskTag)) {
      // §11.5.1: a task management request cannot be aborted, queried or reassigned.
      this.#answerManagement(slot, pdu, TaskManagementResponseCode.functionRejected, 0);
      return;
    }
    this.#managing.add(pdu.initiatorTaskTag);
    const answer = await manageTasks(session, slot, pdu, scope).finally(() =>
      this.#managing.delete(pdu.initiatorTaskTag),
    );
    const send = (): void => this.#answerManagement(slot, pdu, answer.response, answer.additionalResponse);
    if (answer.isFenced !== true || session.slots.length === 1) send();
    else if (session.fence.isOn) session.fence.submit(slot, true, send);
    else {
      await session.fence.clear();
      send();
    }
    answer.afterResponse?.();
    if (answer.ends === "session") void session.drop("I_T nexus reset");
    if (answer.ends === "target") for (const each of [...scope.sessions()]) void each.drop("target cold reset");
  }

  #answerManagement(
    slot: ConnectionSlot,
    pdu: TaskManagementRequestPdu,
    response: number,
    additionalResponse: number,
  ): void {
    const { initiatorTaskTag } = pdu;
    slot.sendStatus({ type: "task-management-response", response, additionalResponse, initiatorTaskTag });
  }
}

/** What renegotiation in full feature phase may come to: what holds now. */
function preferencesOf(parameters: NegotiatedParameters): ConstructorParameters<typeof Negotiator>[0]["preferences"] {
  return {
    ...parameters,
    headerDigest: [parameters.headerDigest],
    dataDigest: [parameters.dataDigest],
    taskReporting: [parameters.taskReporting],
    maxRecvDataSegmentLength: parameters.targetMaxRecvDataSegmentLength,
  };
}
