import { lunFromNumber } from "../../../src/base/lun.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { Pdu } from "../../../src/wire/pdu.js";
import { execute, LUN_ONE, openSession, settle } from "../../support/session-fixture.js";
import { answerLogout, answerPing, begin, codeOf, lostBecause, NO_DATA, RESERVED } from "../../support/trap-helpers.js";
import { nopOut, outcomeOf, ready, TargetWorld } from "../target/target-peer.js";

/** Traps 56 to 60, 69 and 71: NOP, asynchronous messages, logout and Reject (RFC 7143 §11.9, §11.14 to §11.19). */

const lun = lunFromNumber(300);

function asyncMessage(asyncEvent: number, parameters: object = {}) {
  return {
    ...({ type: "async-message", lun: LUN_ONE, asyncEvent, asyncVCode: 0, data: NO_DATA } as const),
    ...{ parameter1: 0, parameter2: 0, parameter3: 0, ...parameters },
  };
}

test("trap 56: the target's ping is answered by an immediate NOP-Out with ITT ffffffff, its tag and its LUN", async () => {
  const fixture = await openSession();
  const ping = { type: "nop-in", lun, initiatorTaskTag: RESERVED, targetTransferTag: 0x77, data: NO_DATA } as const;
  fixture.target.connection.send(ping);
  await fixture.clock.advance(1);
  const { command } = await begin(fixture);
  expect(fixture.target.connection.ofType("nop-out")).toMatchObject([
    { isImmediate: true, initiatorTaskTag: RESERVED, targetTransferTag: 0x77, lun, cmdSn: command.cmdSn },
  ]);
});

test("trap 57: a NOP-In with both tags valid is a format error: the session recovers", async () => {
  const fixture = await openSession();
  const header = Buffer.alloc(48);
  header.writeUInt8(0x20, 0);
  header.writeUInt8(0x80, 1);
  header.writeUInt32BE(5, 16);
  header.writeUInt32BE(6, 20);
  header.writeUInt32BE(fixture.target.connection.statSn, 24);
  fixture.target.connection.sendBytes([header]);
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBeDefined();
});

test("trap 58: a ping reply that was cut to our MaxRecvDataSegmentLength is a good one; other data is not ours", async () => {
  const fixture = await openSession({ target: { onPdu: answerPing } });
  // Our own pings carry no data, so nothing of theirs can be cut.
  await settle(fixture.clock, fixture.session.nop());
  expect(fixture.target.connection.ofType("nop-out").map(({ data }) => data.length)).toEqual([0]);

  const peer = await ready({ MaxRecvDataSegmentLength: "512" });
  const sent = Buffer.from(Array.from({ length: 2000 }, (_, index) => index & 0xff));
  await peer.send({ ...nopOut(peer, ""), data: sent });
  expect(peer.next("nop-in").data).toEqual(sent.subarray(0, 512));
});

test("trap 59: event 1: no new commands, a logout within Parameter3 seconds, and back again", async () => {
  const { session, target, clock } = await openSession({ target: { onPdu: answerLogout() } });
  execute(session, {});
  await clock.advance(1);
  const [first] = target.connections;
  first?.send(asyncMessage(1, { parameter3: 2 }));
  await clock.advance(1);
  const later = execute(session, {});
  await clock.advance(2_000);
  expect(first?.ofType("scsi-command")).toHaveLength(1);
  expect([0, 1]).toContain(first?.ofType("logout-request")[0]?.reason);
  await clock.advance(5_000);
  expect(target.connections).toHaveLength(2);
  expect(target.connection.ofType("scsi-command")).toHaveLength(2);
  expect(later.results).toEqual([]);
});

test.each([
  [2, "names this connection by its CID", 0, 2],
  [2, "names another connection", 9, 1],
  [3, "means all connections", 0, 2],
])("trap 59: event %i that %s (CID %i)", async (event, _name, parameter1, connections) => {
  const { target, clock } = await openSession({ target: { onPdu: answerPing } });
  target.connection.send(asyncMessage(event, { parameter1, parameter2: 4, parameter3: 20 }));
  await clock.advance(3_900);
  expect(target.connections).toHaveLength(1);
  await clock.advance(2_000);
  expect(target.connections).toHaveLength(connections);
});

test("trap 59: event 4: a Text Request within Parameter3 seconds, on the same connection", async () => {
  const { target, clock } = await openSession();
  target.connection.send(asyncMessage(4, { parameter3: 1 }));
  await clock.advance(900);
  expect(target.connections).toHaveLength(1);
  expect(target.connection.ofType("text-request")).toHaveLength(1);
});

test("trap 60: after a broken connection DefaultTime2Wait is waited, after an event or a logout what those say", async () => {
  const broken = await openSession({ target: { keys: { DefaultTime2Wait: "7" } } });
  broken.target.connection.close();
  await broken.clock.advance(6_900);
  expect(broken.target.connections).toHaveLength(1);
  await broken.clock.advance(1_500);
  expect(broken.target.connections).toHaveLength(2);

  const told = await openSession({ target: { keys: { DefaultTime2Wait: "30" } } });
  told.target.connection.send(asyncMessage(3, { parameter2: 3, parameter3: 9 }));
  await told.clock.advance(2_900);
  expect(told.target.connections).toHaveLength(1);
  await told.clock.advance(1_500);
  expect(told.target.connections).toHaveLength(2);

  const asked = await openSession({ target: { keys: { DefaultTime2Wait: "0" }, onPdu: answerLogout(0, 6) } });
  asked.target.connection.send(asyncMessage(1, { parameter3: 1 }));
  await asked.clock.advance(5_900);
  expect(asked.target.connections).toHaveLength(1);
  await asked.clock.advance(2_500);
  expect(asked.target.connections).toHaveLength(2);
});

test("trap 69: after a Logout Request nothing more is sent on the connection", async () => {
  const { session, target, clock } = await openSession();
  await clock.advance(1);
  const leaving = session.logout();
  leaving.catch(() => undefined);
  await clock.advance(1);
  const late = execute(session, {});
  const { connection } = target;
  await clock.advance(12_000);
  expect(connection.received.at(-1)?.type).toBe("logout-request");
  expect(connection.ofType("logout-request")).toHaveLength(1);
  const { initiatorTaskTag } = connection.ofType("logout-request")[0]!;
  connection.send({ type: "logout-response", response: 0, initiatorTaskTag, time2Wait: 0, time2Retain: 0 });
  await settle(clock, leaving);
  expect(late.results).toMatchObject([{ kind: "failed" }]);
});

test.each([
  [1, "the connection is not known"],
  [2, "connection recovery is not supported"],
  [3, "cleanup failed"],
])("trap 69: logout response %i is honoured as such: %s", async (response, text) => {
  const { session, clock, target } = await openSession({ target: { onPdu: answerLogout(response) } });
  await expect(settle(clock, session.logout())).rejects.toMatchObject({
    code: "SESSION_LOGOUT_FAILED",
    message: expect.stringContaining(text),
  });
  await clock.advance(60_000);
  expect(target.connections).toHaveLength(1);
});

test("trap 69: the target carries nothing out that comes after a Logout Request", async () => {
  const world = new TargetWorld();
  const peer = await ready({}, world);
  const fields = { isImmediate: true, cid: 1, cmdSn: peer.cmdSn, expStatSn: 0, initiatorTaskTag: 6 };
  await peer.send({ type: "logout-request", reason: 0, ...fields }, peer.command("00"), nopOut(peer));
  expect(peer.next("logout-response").response).toBe(0);
  expect(peer.received).toEqual([]);
  expect(peer.stream.closed).toBe("ended");
});

function reject(reason: number, pdu: Pdu) {
  const header = Buffer.concat(encodePdu(pdu, { header: false, data: false })).subarray(0, 48);
  return { type: "reject", reason, dataSnOrR2tSn: 0, data: header } as const;
}

test.each([
  [0x04, "protocol error"],
  [0x05, "command not supported"],
  [0x09, "invalid PDU field"],
])("trap 71: Reject 0x0%i (%s) of a command the target did not take fails that command alone", async (reason) => {
  const fixture = await openSession();
  const other = await begin(fixture);
  const { command, execution } = await begin(fixture);
  const { connection } = fixture.target;
  connection.send({ ...reject(reason, command), expCmdSn: command.cmdSn });
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_TASK_REJECTED" } });
  connection.respond(other.command);
  expect(await settle(fixture.clock, other.execution.done)).toMatchObject({ status: 0 });
  expect(fixture.target.connections).toHaveLength(1);
});

test("trap 71: Reject 0x0c, waiting for logout: we log out, and the command is done after that", async () => {
  const fixture = await openSession({ target: { onPdu: answerLogout() } });
  const { command, execution } = await begin(fixture);
  const [first] = fixture.target.connections;
  first?.send({ ...reject(0x0c, command), expCmdSn: command.cmdSn });
  await fixture.clock.advance(6_000);
  expect(first?.ofType("logout-request")).toHaveLength(1);
  const [again] = fixture.target.connection.ofType("scsi-command");
  fixture.target.connection.respond(again!);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
});

test("trap 71: the target's Reject carries the header of the rejected PDU, and the reason that fits", async () => {
  const peer = await ready();
  const unknown = Buffer.alloc(48);
  unknown.writeUInt8(0x1c, 0);
  unknown.writeUInt32BE(7, 16);
  await peer.sendBytes(unknown);
  expect(peer.next("reject")).toMatchObject({ reason: 0x05, data: unknown });
  expect(outcomeOf(await peer.run("00"))).toBe("good");
  // A NOP-Out that must be immediate, since it has no task tag, and is not.
  const malformed = Buffer.concat(encodePdu({ ...nopOut(peer) }, { header: false, data: false })).subarray(0, 48);
  malformed.writeUInt8(0x00, 0);
  malformed.writeUInt32BE(0, 4);
  malformed.writeUInt32BE(RESERVED, 16);
  expect(codeOf(() => decodePdu(malformed, undefined, NO_DATA))).toBe("PDU_FIELD_INVALID");
  await peer.sendBytes(malformed);
  const answer = peer.next("reject");
  expect([0x04, 0x09]).toContain(answer.reason);
  expect(answer.data).toEqual(malformed);
  // A format error ends the connection (§7.7), an unknown opcode does not.
  expect(peer.stream.closed).not.toBe("open");
});
