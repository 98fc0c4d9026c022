import { LUN_ZERO } from "../../../src/base/lun.js";
import { CommandWindow } from "../../../src/session/command-window.js";
import { execute, openSession, settle } from "../../support/session-fixture.js";
import { NO_DATA, RESERVED, answerPing, begin, beginRead, lostBecause } from "../../support/trap-helpers.js";
import { dataOut, nopOut, ready, READ_8, TARGET_NAME, TargetWorld, WRITE_8 } from "../target/target-peer.js";

/** Traps 1 to 10: CmdSN, StatSN and the window (RFC 7143 §4.2.2). */

test("trap 01: CmdSN compares by RFC 1982 arithmetic and wraps at 2^32", () => {
  const window = new CommandWindow(0xffff_fffe);
  window.update(0xffff_fffe, 2);
  const taken = [window.take(), window.take(), window.take(), window.take(), window.take()];
  expect(taken).toEqual([0xffff_fffe, 0xffff_ffff, 0, 1, 2]);
  expect(window.isOpen).toBe(false);
  // Plain numbers would call 1 older than 2^32 - 2, and leave the window shut for ever.
  window.update(1, 5);
  expect([window.isOpen, window.isAcknowledged(0xffff_ffff), window.isAcknowledged(1)]).toEqual([true, true, false]);
});

test("trap 01: StatSN compares by RFC 1982 arithmetic and wraps at 2^32", async () => {
  // Two login responses use up 2^32 - 3 and - 2; the first status has 2^32 - 1.
  const fixture = await openSession({ target: { firstStatSn: 0xffff_fffd } });
  const seen: number[] = [];
  for (let index = 0; index < 3; index += 1) {
    const { command, execution } = await begin(fixture);
    seen.push(command.expStatSn);
    fixture.target.connection.respond(command);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
  }
  expect(seen).toEqual([0xffff_ffff, 0, 1]);
  expect(lostBecause(fixture)).toBeUndefined();
});

test("trap 01: the target takes commands across the wrap of CmdSN, also out of order", async () => {
  const peer = await new TargetWorld().connect();
  peer.cmdSn = 0xffff_fffe;
  await peer.login();
  await peer.clearAttention();
  expect(peer.cmdSn).toBe(0xffff_ffff);
  const late = peer.command("00", { cmdSn: 0 });
  await peer.send(late);
  expect(peer.received).toEqual([]);
  await peer.send(peer.command("00", { cmdSn: 0xffff_ffff, initiatorTaskTag: 0x901 }));
  const responses = [peer.next("scsi-response"), peer.next("scsi-response")];
  expect(responses.map((pdu) => pdu.initiatorTaskTag)).toEqual([0x901, late.initiatorTaskTag]);
  expect(responses.map((pdu) => pdu.expCmdSn)).toEqual([1, 1]);
});

test("trap 02: a MaxCmdSN below ExpCmdSN - 1 voids both numbers of the PDU", async () => {
  const fixture = await openSession({ target: { windowSize: 1 } });
  const { command, execution } = await begin(fixture);
  const { connection } = fixture.target;
  const held = execute(fixture.session, {});
  // ExpCmdSN alone would acknowledge the future, MaxCmdSN alone would be plausible.
  connection.send({
    ...{ type: "nop-in", lun: LUN_ZERO, initiatorTaskTag: RESERVED, targetTransferTag: RESERVED, data: NO_DATA },
    ...{ expCmdSn: command.cmdSn + 50, maxCmdSn: command.cmdSn + 40 },
  });
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-command")).toHaveLength(1);
  connection.respond(command);
  await settle(fixture.clock, execution.done);
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-command").map((pdu) => pdu.cmdSn)).toEqual([command.cmdSn, command.cmdSn + 1]);
  expect(held.results).toEqual([]);
});

test("trap 02: MaxCmdSN equal to ExpCmdSN - 1 is a shut window, and no contradiction", () => {
  const window = new CommandWindow(10);
  window.update(10, 12);
  window.update(13, 12);
  expect([window.expCmdSn, window.maxCmdSn]).toEqual([13, 12]);
});

test("trap 03: MaxCmdSN and ExpCmdSN only ever grow, even when an older PDU arrives later", async () => {
  const fixture = await openSession({ target: { windowSize: 4 } });
  const first = await begin(fixture);
  const { connection } = fixture.target;
  const { cmdSn } = first.command;
  const idle = { type: "nop-in", lun: LUN_ZERO, initiatorTaskTag: RESERVED, targetTransferTag: RESERVED } as const;
  connection.send({ ...idle, data: NO_DATA, expCmdSn: cmdSn + 1, maxCmdSn: cmdSn + 3 });
  connection.send({ ...idle, data: NO_DATA, expCmdSn: cmdSn, maxCmdSn: cmdSn });
  await fixture.clock.advance(1);
  for (let index = 0; index < 5; index += 1) execute(fixture.session, {});
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-command").map((pdu) => pdu.cmdSn - cmdSn)).toEqual([0, 1, 2, 3]);
});

test("trap 03: the target's MaxCmdSN and ExpCmdSN never shrink, however full its queue gets", async () => {
  const world = new TargetWorld({ limits: { queueDepth: 4 } });
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
  const writes = [0, 1, 2, 3].map(() => peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
  await peer.send(...writes);
  const r2ts = writes.map(() => peer.next("ready-to-transfer"));
  await peer.send(nopOut(peer));
  const numbers: { readonly expCmdSn: number; readonly maxCmdSn: number }[] = [...r2ts, peer.next("nop-in")];
  for (const { initiatorTaskTag, targetTransferTag } of [...r2ts].reverse()) {
    await peer.send(dataOut(initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096) }));
    numbers.push(peer.next("scsi-response"));
    await peer.send(nopOut(peer));
    numbers.push(peer.next("nop-in"));
  }
  const steps = numbers.slice(1).map((pdu, index) => pdu.maxCmdSn - numbers[index]!.maxCmdSn);
  expect(steps.every((step) => step >= 0)).toBe(true);
  expect(Math.max(...steps)).toBeGreaterThan(0);
  expect(numbers.slice(1).every((pdu, index) => pdu.expCmdSn >= numbers[index]!.expCmdSn)).toBe(true);
});

test("trap 04: an immediate command carries the current CmdSN, does not use it up, and passes a shut window", async () => {
  const fixture = await openSession({ target: { windowSize: 1, onPdu: answerPing } });
  const { command } = await begin(fixture);
  const held = execute(fixture.session, {});
  await fixture.clock.advance(1);
  const { connection } = fixture.target;
  expect(connection.ofType("scsi-command")).toHaveLength(1);
  await settle(fixture.clock, fixture.session.nop());
  expect(connection.ofType("nop-out")).toMatchObject([{ isImmediate: true, cmdSn: command.cmdSn + 1 }]);
  connection.respond(command);
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-command")[1]?.cmdSn).toBe(command.cmdSn + 1);
  expect(held.results).toEqual([]);
});

test("trap 04: the target runs an immediate command in a shut window and expects the same CmdSN after it", async () => {
  const world = new TargetWorld({ limits: { queueDepth: 1 } });
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
  await peer.send(peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
  const r2t = peer.next("ready-to-transfer");
  expect((r2t.maxCmdSn - r2t.expCmdSn + 1) | 0).toBe(0);
  await peer.send(nopOut(peer));
  expect(peer.next("nop-in")).toMatchObject({ expCmdSn: r2t.expCmdSn });
});

test("trap 08: the first command has the CmdSN of the login, which no login request uses up", async () => {
  const fixture = await openSession();
  const { command } = await begin(fixture);
  const { logins } = fixture.target.connection;
  expect(logins.length).toBeGreaterThan(1);
  expect(new Set(logins.map((login) => login.cmdSn))).toEqual(new Set([command.cmdSn]));
});

test("trap 08: the target expects the CmdSN of the login from the first command, however long the login was", async () => {
  const peer = await new TargetWorld().connect();
  const names = { InitiatorName: "iqn.2026-11.a:b", TargetName: TARGET_NAME, SessionType: "Normal" };
  await peer.send(peer.loginRequest(names, { isTransit: false, nextStage: 0 }));
  expect(peer.next("login-response")).toMatchObject({ statusClass: 0, expCmdSn: 100 });
  await peer.send(peer.loginRequest({}));
  expect(peer.next("login-response")).toMatchObject({ isTransit: true, expCmdSn: 100 });
  const command = peer.command("00");
  expect(command.cmdSn).toBe(100);
  await peer.send(command);
  expect(peer.next("scsi-response")).toMatchObject({ initiatorTaskTag: command.initiatorTaskTag, expCmdSn: 101 });
});

test("trap 09: ExpStatSN does not pass a gap in StatSN: level 0 recovers, and nothing behind the gap counts", async () => {
  const fixture = await openSession();
  const first = await begin(fixture);
  const second = await begin(fixture);
  const { connection } = fixture.target;
  const due = first.command.expStatSn;
  connection.respond(second.command, { statSn: due + 1 });
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBe("SESSION_PROTOCOL");
  expect(first.execution.results).toEqual([]);
  expect(connection.received.every((pdu) => !("expStatSn" in pdu) || pdu.expStatSn <= due)).toBe(true);
});

test("trap 10: R2T and an unsolicited NOP-In show the next StatSN without using it up", async () => {
  const fixture = await openSession({ target: { keys: { InitialR2T: "Yes", ImmediateData: "No" } } });
  const { command, execution } = await begin(fixture, {
    cdb: Buffer.from([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
    dataOut: Buffer.alloc(512),
  });
  const { connection } = fixture.target;
  const due = connection.statSn;
  connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 512, tag: 9 });
  connection.send({
    ...{ type: "nop-in", lun: LUN_ZERO, initiatorTaskTag: RESERVED, targetTransferTag: 0x31, data: NO_DATA },
    ...{ statSn: due },
  });
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-data-out")[0]?.expStatSn).toBe(due);
  expect(connection.ofType("nop-out")[0]?.expStatSn).toBe(due);
  connection.respond(command, { statSn: due });
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
});

test("trap 10: the target's R2T and ping carry the StatSN that its next response has", async () => {
  const world = new TargetWorld();
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
  const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
  await peer.send(command);
  const r2t = peer.next("ready-to-transfer");
  await world.clock.advance(45_001);
  const ping = peer.next("nop-in");
  await peer.send(nopOut(peer));
  expect([r2t.statSn, ping.statSn]).toEqual([ping.statSn, peer.next("nop-in").statSn]);
  expect(ping.initiatorTaskTag).toBe(RESERVED);
});

test("trap 10: Data-In without status does not use up a StatSN, at either end", async () => {
  const fixture = await openSession();
  const { command, execution, dataIn } = await beginRead(fixture);
  const { connection } = fixture.target;
  connection.dataIn(command, { data: Buffer.alloc(256, 1) });
  connection.dataIn(command, { data: Buffer.alloc(256, 2), bufferOffset: 256, dataSn: 1 });
  connection.respond(command);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });
  expect([dataIn[0], dataIn[511]]).toEqual([1, 2]);

  const peer = await ready({ MaxRecvDataSegmentLength: "1024" });
  await peer.send(peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 }));
  const last = [0, 1, 2, 3].map(() => peer.next("scsi-data-in")).at(-1);
  await peer.send(nopOut(peer));
  expect(peer.next("nop-in").statSn).toBe(((last?.statSn ?? 0) + 1) >>> 0);
});
