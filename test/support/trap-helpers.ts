import type { ScsiTask } from "../../src/session/task.js";
import type { Pdu, ScsiCommandPdu } from "../../src/wire/pdu.js";
import type { ScriptedConnection } from "./scripted-target.js";
import { execute, type Execution, type OpenedSession, read } from "./session-fixture.js";

/** What the tests of test/unit/traps have in common. */

export const RESERVED = 0xffff_ffff;
export const NO_DATA = Buffer.alloc(0);

/** The `code` of what `act` throws; undefined when it throws nothing. */
export function codeOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return (error as { code?: unknown }).code ?? String(error);
  }
  return undefined;
}

export interface Begun {
  readonly command: ScsiCommandPdu;
  readonly execution: Execution;
}

/** Starts a task and gives the command PDU that the target saw. */
export async function begin(fixture: OpenedSession, task: Partial<ScsiTask> = {}): Promise<Begun> {
  const execution = execute(fixture.session, task);
  await fixture.clock.advance(1);
  return { command: fixture.target.connection.ofType("scsi-command").at(-1)!, execution };
}

/** A read of one block of 512 bytes. */
export async function beginRead(fixture: OpenedSession): Promise<Begun & { readonly dataIn: Buffer }> {
  const dataIn = Buffer.alloc(512);
  return { ...(await begin(fixture, { cdb: read(0, 1), dataIn })), dataIn };
}

/** Did the session give the connection up, and why? The code of the reason, or undefined. */
export function lostBecause({ events }: OpenedSession): string | undefined {
  const lost = events.find((event) => event.kind === "disconnected");
  return lost?.kind === "disconnected" ? lost.reason.code : undefined;
}

export function answerPing(connection: ScriptedConnection, pdu: Pdu): void {
  if (pdu.type !== "nop-out" || pdu.initiatorTaskTag === RESERVED) return;
  connection.send({
    type: "nop-in",
    lun: pdu.lun,
    initiatorTaskTag: pdu.initiatorTaskTag,
    targetTransferTag: RESERVED,
    data: pdu.data,
  });
}

export function answerLogout(response = 0, time2Wait = 0) {
  return (connection: ScriptedConnection, pdu: Pdu): void => {
    if (pdu.type !== "logout-request") return;
    const { initiatorTaskTag } = pdu;
    connection.send({ type: "logout-response", response, initiatorTaskTag, time2Wait, time2Retain: 0 });
  };
}

export function answerManagement(response = 0) {
  return (connection: ScriptedConnection, pdu: Pdu): void => {
    if (pdu.type !== "task-management-request") return;
    const { initiatorTaskTag } = pdu;
    connection.send({ type: "task-management-response", response, initiatorTaskTag, additionalResponse: 0 });
  };
}
