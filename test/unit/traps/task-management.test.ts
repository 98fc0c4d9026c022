import { lunFromNumber } from "../../../src/base/lun.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { execute, LUN_ONE, openSession, settle, write } from "../../support/session-fixture.js";
import { answerManagement, begin } from "../../support/trap-helpers.js";
import { dataOut, management, outcomeOf, ready, TargetWorld, WRITE_8 } from "../target/target-peer.js";

/** Traps 65 to 68: task management (RFC 7143 §4.2.3, §11.5, §11.6). */

const timers = { taskTimeoutMs: 5_000, abortTimeoutMs: 2_000, nopIntervalMs: 0 };

test.each([0, 1])(
  "trap 65: ABORT TASK names tag and CmdSN of the task, and response %i means that the function is complete",
  async (response) => {
    const fixture = await openSession({ target: { onPdu: answerManagement(response) }, session: { timers } });
    await begin(fixture, { timeoutMs: 60_000 });
    const { command, execution } = await begin(fixture);
    await fixture.clock.advance(7_000);
    expect(fixture.target.connection.ofType("task-management-request")).toMatchObject([
      {
        ...{ function: 1, isImmediate: true, lun: LUN_ONE },
        ...{ referencedTaskTag: command.initiatorTaskTag, refCmdSn: command.cmdSn },
      },
    ]);
    expect(execution.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_TASK_TIMEOUT" } }]);
    // No climb to a reset: the abort did its work.
    expect(fixture.target.connections).toHaveLength(1);
    expect(fixture.session.state).toBe("ready");
  },
);

test("trap 65: the target counts an aborted CmdSN as received, and says 1 to a task that never was", async () => {
  const peer = await ready();
  const missing = peer.cmdSn;
  await peer.send(peer.command("00", { cmdSn: missing + 1, initiatorTaskTag: 0x300 }));
  peer.cmdSn = (missing + 2) >>> 0;
  expect(peer.received).toEqual([]);
  await peer.send(management(peer, { referencedTaskTag: 0x4444, refCmdSn: missing }));
  const kinds = peer.received.map((pdu) => pdu.type).sort();
  expect(kinds).toEqual(["scsi-response", "task-management-response"]);
  const answer = peer.received.find((pdu) => pdu.type === "task-management-response");
  expect(answer).toMatchObject({ response: 0 });
  peer.received.length = 0;
  await peer.send(management(peer, { referencedTaskTag: 0x5555, refCmdSn: (missing - 50) >>> 0 }));
  expect(peer.next("task-management-response").response).toBe(1);
});

test("trap 66: after ABORT TASK SET outstanding R2Ts are still answered", async () => {
  const fixture = await openSession({ target: { keys: { InitialR2T: "Yes", ImmediateData: "No" } } });
  const { command, execution } = await begin(fixture, { cdb: write(0, 2), dataOut: Buffer.alloc(1024, 3) });
  const { connection } = fixture.target;
  const aborting = fixture.session.taskManagement({ function: "abort-task-set", lun: LUN_ONE });
  await fixture.clock.advance(1);
  expect(connection.ofType("task-management-request")).toHaveLength(1);
  connection.readyToTransfer(command, { r2tSn: 0, offset: 0, length: 1024, tag: 0x42 });
  await fixture.clock.advance(1);
  expect(connection.ofType("scsi-data-out")).toMatchObject([{ targetTransferTag: 0x42, isFinal: true }]);
  answerManagement()(connection, connection.ofType("task-management-request")[0]!);
  await settle(fixture.clock, aborting);
  expect(execution.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_TASK_ABORTED" } }]);
});

test("trap 66: the target takes the data of R2Ts that were out when their task was aborted, and writes none of it", async () => {
  const world = new TargetWorld();
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
  const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
  await peer.send(command);
  const { targetTransferTag } = peer.next("ready-to-transfer");
  await peer.send(management(peer, { function: 2 }));
  await peer.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 5) }));
  expect(peer.next("task-management-response").response).toBe(0);
  expect(peer.received.filter((pdu) => pdu.type === "reject")).toEqual([]);
  expect(peer.stream.closed).toBe("open");
  const { data } = await peer.run("28 00 00 00 00 00 00 00 08 00", 4096);
  expect(data.every((byte) => byte === 0)).toBe(true);
});

test("trap 67: after TARGET COLD RESET all sessions end: we come back by a new login with the same ISID", async () => {
  const fixture = await openSession({ target: { onPdu: answerManagement() } });
  await settle(fixture.clock, fixture.session.taskManagement({ function: "target-cold-reset" }));
  fixture.target.connection.close();
  await fixture.clock.advance(5_000);
  expect(fixture.target.connections).toHaveLength(2);
  const [login] = fixture.target.connection.logins;
  expect([login?.tsih, login?.isid]).toEqual([0, fixture.options.isid]);

  const world = new TargetWorld();
  const peer = await ready({}, world);
  const other = await world.login({ isid: "800000000002" });
  await peer.send(management(peer, { function: 7 }));
  expect(peer.next("task-management-response").response).toBe(0);
  expect([peer.stream.closed, other.stream.closed, world.server.sessions().length]).toEqual(["ended", "ended", 0]);
});

test("trap 68: responses that come before the TMF response count; the affected tasks without one end with it", async () => {
  const fixture = await openSession();
  const answered = await begin(fixture);
  const silent = await begin(fixture);
  const elsewhere = execute(fixture.session, { lun: lunFromNumber(2) });
  await fixture.clock.advance(1);
  const { connection } = fixture.target;
  const aborting = fixture.session.taskManagement({ function: "abort-task-set", lun: LUN_ONE });
  await fixture.clock.advance(1);
  connection.respond(answered.command);
  await fixture.clock.advance(1);
  expect(answered.execution.results).toMatchObject([{ kind: "status", status: 0 }]);
  expect(silent.execution.results).toEqual([]);
  answerManagement()(connection, connection.ofType("task-management-request")[0]!);
  await settle(fixture.clock, aborting);
  expect(silent.execution.results).toMatchObject([{ kind: "failed", error: { code: "SESSION_TASK_ABORTED" } }]);
  expect(elsewhere.results).toEqual([]);
});

/** A disk whose writes wait until the test lets them go. */
class SlowDevice extends MemoryDevice {
  readonly #gate: Promise<void>;
  release: () => void = () => undefined;

  constructor() {
    super({ sizeBytes: 1_048_576, id: "naa.3111222233334444" });
    this.#gate = new Promise((resolve) => (this.release = resolve));
  }

  override async write(offsetBytes: number, source: Buffer): Promise<void> {
    await this.#gate;
    await super.write(offsetBytes, source);
  }
}

test("trap 68: the target answers a reset when no task it ended can still change or say anything", async () => {
  const device = new SlowDevice();
  const world = new TargetWorld({ devices: [device] });
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
  const write = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
  await peer.send(write);
  const { targetTransferTag } = peer.next("ready-to-transfer");
  await peer.send(dataOut(write.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 1) }));
  await peer.send(management(peer, { function: 5 }));
  await world.clock.advance(100);
  expect(peer.received).toEqual([]);
  device.release();
  await world.clock.advance(1_000);
  expect(peer.received.at(-1)).toMatchObject({ type: "task-management-response", response: 0 });
  peer.received.length = 0;
  expect(outcomeOf(await peer.run("00"))).toMatch(/^6\/29/);
});
