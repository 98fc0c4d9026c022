import type { TaskManagementRequestPdu } from "../../../src/wire/pdu.js";
import { dataOut, management, nopOut, outcomeOf, ready, TargetWorld, WRITE_8, type TargetPeer } from "./target-peer.js";

/** A session with two connections, its first unit attention taken. */
async function pair(keys: Record<string, string> = {}, world = new TargetWorld()): Promise<[TargetPeer, TargetPeer]> {
  const first = await ready({ MaxConnections: "4", ...keys }, world);
  return [first, await world.join(first, { keys })];
}

describe("task management over several connections (RFC 7143 §4.2.2.3, §4.2.3.3)", () => {
  const answerOf = (peer: TargetPeer): number => peer.next("task-management-response").response;
  const ask = (peer: TargetPeer, changes: Partial<TaskManagementRequestPdu>): Promise<void> =>
    peer.send(management(peer, changes));

  test("a response of another connection is acknowledged before the answer (§4.2.2.3.3)", async () => {
    const [first, second] = await pair();
    await first.acknowledge();
    await second.run("00");
    await ask(first, { function: 2 });
    expect(second.next("nop-in").targetTransferTag).not.toBe(0xffff_ffff);
    expect(first.received).toEqual([]);
    await second.acknowledge();
    expect(answerOf(first)).toBe(0);
  });

  test("a connection that acknowledges nothing is dropped after a while", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    await first.acknowledge();
    await second.run("00");
    await ask(first, { function: 5 });
    await world.clock.advance(10_000);
    expect(second.stream.closed).toBe("destroyed");
    expect(first.received.map((pdu) => pdu.type)).toEqual(["async-message", "task-management-response"]);
  });

  test("with ResponseFence responses after the fenced one wait for its acknowledgement (§4.2.2.3.3 d)", async () => {
    const [first, second] = await pair({ TaskReporting: "ResponseFence" });
    await first.acknowledge();
    await second.acknowledge();
    await ask(first, { function: 2 });
    expect(answerOf(first)).toBe(0);
    const command = second.command("00");
    await second.send(command);
    expect(second.received).toEqual([]);
    await first.acknowledge();
    expect(second.next("scsi-response").initiatorTaskTag).toBe(command.initiatorTaskTag);
  });

  test("the first response after a reset is fenced as well, for it carries the unit attention (§4.2.2.3.4 a)", async () => {
    const [first, second] = await pair({ TaskReporting: "ResponseFence" });
    await first.acknowledge();
    await second.acknowledge();
    await ask(first, { function: 5 });
    expect(answerOf(first)).toBe(0);
    await first.acknowledge();
    await second.send(nopOut(second));
    second.next("nop-in");
    const command = first.command("00");
    await first.send(command);
    // The NOP-In of the other connection has to be acknowledged first.
    expect(first.received.filter((pdu) => pdu.type === "scsi-response")).toEqual([]);
    await second.acknowledge();
    expect(outcomeOf(first.result(command.initiatorTaskTag))).toBe("6/29/03");
  });

  test("ABORT TASK SET waits for commands before it that have not come (§4.2.3.3 b)", async () => {
    const [first, second] = await pair({ InitialR2T: "Yes", ImmediateData: "No" });
    await first.acknowledge();
    await second.acknowledge();
    const late = second.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await ask(first, { function: 2 });
    expect(first.received).toEqual([]);
    await second.send(late);
    const { targetTransferTag } = second.next("ready-to-transfer");
    expect(first.received).toEqual([]);
    await second.send(dataOut(late.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096) }));
    expect(answerOf(first)).toBe(0);
    expect(second.received).toEqual([]);
  });

  test("ABORT TASK of a command that has not come takes its CmdSN as received (§11.6.1 b)", async () => {
    const [first, second] = await pair();
    const lost = second.command("00");
    const next = first.command("00");
    await first.send(next);
    await ask(first, { function: 1, referencedTaskTag: lost.initiatorTaskTag, refCmdSn: lost.cmdSn });
    expect(first.received.map((pdu) => pdu.type)).toEqual(["scsi-response", "task-management-response"]);
    await second.send(lost);
    expect(second.received).toEqual([]);
  });

  test("TARGET WARM RESET plugs what has not come (§4.2.3.3 b)", async () => {
    const [first, second] = await pair();
    await first.acknowledge();
    await second.acknowledge();
    const lost = second.command("00");
    await ask(first, { function: 6 });
    expect(answerOf(first)).toBe(0);
    await second.send(lost);
    expect(second.received).toEqual([]);
  });

  test("FastAbort tells the other connections that tasks end, and does not wait for their data (§4.2.3.4)", async () => {
    const [first, second] = await pair({ TaskReporting: "FastAbort", InitialR2T: "Yes", ImmediateData: "No" });
    const command = second.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await second.send(command);
    const { targetTransferTag } = second.next("ready-to-transfer");
    await first.acknowledge();
    await second.acknowledge();
    await ask(first, { function: 5 });
    expect(second.next("async-message")).toMatchObject({ asyncEvent: 5, lun: { high: 0, low: 0 } });
    expect(first.received).toEqual([]);
    await second.acknowledge();
    expect(answerOf(first)).toBe(0);
    // Its transfer tag stays valid: late data is taken in silence.
    await second.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096) }));
    expect(second.received.filter((pdu) => pdu.type !== "nop-in")).toEqual([]);
  });
});
