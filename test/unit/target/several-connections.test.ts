import { encodePdu, NO_DIGESTS } from "../../../src/wire/encode.js";
import {
  dataOut,
  INITIATOR_NAME,
  management,
  nopOut,
  outcomeOf,
  READ_8,
  ready,
  TARGET_NAME,
  TargetWorld,
  textOf,
  WRITE_8,
  type LoginChanges,
  type TargetPeer,
} from "./target-peer.js";

const keys = { MaxConnections: "4" };

/** A session with two connections, its first unit attention taken. */
async function pair(more: Record<string, string> = {}, world = new TargetWorld()): Promise<[TargetPeer, TargetPeer]> {
  const first = await ready({ ...keys, ...more }, world);
  return [first, await world.join(first, { keys: more })];
}

async function refusal(world: TargetWorld, changes: LoginChanges): Promise<string> {
  const peer = await world.connect(changes.portal);
  const { statusClass, statusDetail } = await peer.login(changes);
  return `${statusClass}/${statusDetail}`;
}

describe("login of a further connection (RFC 7143 §6.3.1, §11.13.5)", () => {
  test("joins with the session's TSIH and window, and keeps session-wide values", async () => {
    const world = new TargetWorld();
    const first = await ready({ ...keys, MaxBurstLength: "8192" }, world);
    const second = await world.connect();
    const response = await second.login({ tsih: first.tsih, cid: 2, keys: { MaxBurstLength: "4096" } });
    expect(response).toMatchObject({ statusClass: 0, tsih: first.tsih, expCmdSn: 101, maxCmdSn: 101 + 127 });
    expect(textOf(response)).toMatchObject({ MaxBurstLength: "Reject", MaxRecvDataSegmentLength: "262144" });
    expect(world.server.sessions()).toMatchObject([{ connections: [{ cid: 1 }, { cid: 2 }] }]);
  });

  test("segment lengths and digests are the connection's own (§13.1, §13.12)", async () => {
    const world = new TargetWorld();
    const first = await ready({ ...keys, MaxRecvDataSegmentLength: "4096" }, world);
    const second = await world.join(first, { keys: { MaxRecvDataSegmentLength: "1024" } });
    expect((await first.run(READ_8, 4096)).dataInCount).toBe(1);
    expect((await second.run(READ_8, 4096)).dataInCount).toBe(4);
  });

  test.each([
    ["another TSIH", { tsih: 4711 }, "2/10"],
    ["another ISID", { isid: "800000000009" }, "2/10"],
    ["another initiator", { initiatorName: "iqn.2026-11.dev.hawser:other" }, "2/10"],
    ["another portal group", { portal: 1 }, "2/8"],
  ])("%s is refused", async (_, changes, expected) => {
    const portals = [
      { host: "192.0.2.1", port: 3260 },
      { host: "192.0.2.2", port: 3260, portalGroupTag: 2 },
    ];
    const world = new TargetWorld({ portals });
    const first = await ready(keys, world);
    expect(await refusal(world, { tsih: first.tsih, cid: 2, ...changes })).toBe(expected);
  });

  test("more connections than were agreed on are refused with 0206", async () => {
    const world = new TargetWorld();
    const first = await ready({ MaxConnections: "2" }, world);
    await world.join(first);
    expect(await refusal(world, { tsih: first.tsih, cid: 3 })).toBe("2/6");
  });

  test("portal groups are announced in login and SendTargets, and each has sessions of its own", async () => {
    const portals = [
      { host: "192.0.2.1", port: 3260 },
      { host: "192.0.2.2", port: 3260, portalGroupTag: 2 },
    ];
    const world = new TargetWorld({ portals });
    const first = await world.login();
    const other = await world.connect(1);
    expect(textOf(await other.login())["TargetPortalGroupTag"]).toBe("2");
    expect([first.stream.closed, world.server.sessions().length]).toEqual(["open", 2]);
    const discovery = await world.connect(1);
    await discovery.login({ keys: { SessionType: "Discovery" } });
    await discovery.send({
      ...nopOut(discovery),
      type: "text-request",
      isFinal: true,
      isContinued: false,
      initiatorTaskTag: 9,
      data: Buffer.from("SendTargets=All\0"),
    });
    const text = discovery.next("text-response").data.toString();
    expect(text).toContain("TargetAddress=192.0.2.1:3260,1\0");
    expect(text).toContain("TargetAddress=192.0.2.2:3260,2\0");
  });

  test("the same CID again takes the place of the old connection and ends its tasks (§6.3.4)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({ InitialR2T: "Yes", ImmediateData: "No" }, world);
    const command = second.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await second.send(command);
    second.next("ready-to-transfer");
    const again = await world.join(first);
    expect([first.stream.closed, second.stream.closed]).toEqual(["open", "destroyed"]);
    // §11.14.5: the next command learns that tasks were ended.
    expect(outcomeOf(await again.run("00"))).toBe("6/47/7f");
    expect(outcomeOf(await first.run("00"))).toBe("good");
  });
});

describe("commands over several connections (RFC 7143 §4.2.2.1)", () => {
  test("are taken in the order of CmdSN, and answered where they came (§4.2.5.1)", async () => {
    const [first, second] = await pair();
    const early = second.command("00");
    const late = first.command("00");
    await first.send(late);
    expect(first.received).toEqual([]);
    await second.send(early);
    expect(first.next("scsi-response").initiatorTaskTag).toBe(late.initiatorTaskTag);
    expect(second.next("scsi-response").initiatorTaskTag).toBe(early.initiatorTaskTag);
  });

  test("StatSN is counted per connection, the window is one", async () => {
    const [first, second] = await pair();
    const at = [first.expStatSn, second.expStatSn];
    await first.run("00");
    await first.run("00");
    await second.send(second.command("00"));
    expect([first.expStatSn - (at[0] ?? 0), second.next("scsi-response").statSn - (at[1] ?? 0)]).toEqual([2, 0]);
  });

  test("unsolicited data that comes before its command's turn is kept for it", async () => {
    const [first, second] = await pair({ FirstBurstLength: "4096" });
    const gap = first.command("00");
    const command = second.command(WRITE_8, {
      isWrite: true,
      isFinal: false,
      expectedDataTransferLength: 4096,
      data: Buffer.alloc(512, 1),
    });
    const data = { bufferOffset: 512, data: Buffer.alloc(3584, 2) };
    await second.send(command, dataOut(command.initiatorTaskTag, data));
    expect(second.received).toEqual([]);
    await first.send(gap);
    expect(second.next("scsi-response").status).toBe(0);
    const read = await second.run(READ_8, 4096);
    expect([read.data[511], read.data[512], read.data[4095]]).toEqual([1, 2, 2]);
  });

  test("data whose header came before its command's turn, and whose rest came after it, is placed", async () => {
    const [first, second] = await pair({ FirstBurstLength: "4096", ImmediateData: "No" });
    const gap = first.command("00");
    const command = second.command(WRITE_8, { isWrite: true, isFinal: false, expectedDataTransferLength: 4096 });
    const bytes = Buffer.concat(
      encodePdu(dataOut(command.initiatorTaskTag, { data: Buffer.alloc(4096, 0x5a) }), NO_DIGESTS),
    );
    await second.send(command);
    await second.sendBytes(bytes.subarray(0, 1000));
    await first.send(gap);
    await second.sendBytes(bytes.subarray(1000));
    expect(second.next("scsi-response").status).toBe(0);
    const { data } = await second.run(READ_8, 4096);
    expect(data.every((byte) => byte === 0x5a)).toBe(true);
  });

  test("a write that another session aborts while its data arrives does not touch memory that others have", async () => {
    const world = new TargetWorld();
    const keysOfOther = { InitialR2T: "Yes", ImmediateData: "No" };
    const first = await ready(keysOfOther, world);
    const command = first.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await first.send(command);
    const { targetTransferTag } = first.next("ready-to-transfer");
    const bytes = Buffer.concat(
      encodePdu(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 0xee) }), NO_DIGESTS),
    );
    await first.sendBytes(bytes.subarray(0, 1000));
    const other = await world.login({ isid: "800000000002", keys: keysOfOther });
    await other.clearAttention();
    await other.send(management(other, { function: 4 }));
    expect(other.next("task-management-response").response).toBe(0);
    // Buffers of this size are used again at once: this write must not get the one that is still written to.
    const write = other.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await other.send(write);
    const r2t = other.next("ready-to-transfer");
    const half = { targetTransferTag: r2t.targetTransferTag, isFinal: false, data: Buffer.alloc(2048, 0x11) };
    await other.send(dataOut(write.initiatorTaskTag, half));
    await first.sendBytes(bytes.subarray(1000));
    const rest = { ...half, isFinal: true, dataSn: 1, bufferOffset: 2048 };
    await other.send(dataOut(write.initiatorTaskTag, rest));
    expect(other.next("scsi-response").status).toBe(0);
    const { data } = await other.run(READ_8, 4096);
    expect(data.every((byte) => byte === 0x11)).toBe(true);
  });

  test("a retried command is ignored in silence with its data (§7.2.1)", async () => {
    const [first] = await pair();
    const command = first.command(WRITE_8, {
      isWrite: true,
      expectedDataTransferLength: 4096,
      data: Buffer.alloc(4096, 7),
    });
    expect((await first.runPdu(command)).status).toBe(0);
    await first.send(command);
    expect(first.received).toEqual([]);
  });

  test("Data-Out on another connection than its command is a protocol error", async () => {
    const [first, second] = await pair({ InitialR2T: "Yes", ImmediateData: "No" });
    const command = first.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await first.send(command);
    const { targetTransferTag } = first.next("ready-to-transfer");
    const data = dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 3) });
    await second.send(data);
    expect(second.next("reject").reason).toBe(0x04);
    await first.send(data);
    expect(first.next("scsi-response").status).toBe(0);
  });

  test("a task tag is unique in the session; the rejected command leaves a gap (§7.3)", async () => {
    const [first, second] = await pair({ InitialR2T: "Yes", ImmediateData: "No" });
    const command = first.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await first.send(command);
    first.next("ready-to-transfer");
    const twin = { ...second.command("00"), initiatorTaskTag: command.initiatorTaskTag };
    await second.send(twin);
    expect(second.next("reject")).toMatchObject({ reason: 0x07, expCmdSn: twin.cmdSn });
    await second.send({ ...twin, initiatorTaskTag: 0x999 });
    expect(second.next("scsi-response").initiatorTaskTag).toBe(0x999);
  });
});

describe("connections that end", () => {
  test("logout closes any connection of the session from any other (§11.14)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    expect((await first.logout(1, 9)).response).toBe(1);
    expect((await first.logout(1, 2)).response).toBe(0);
    expect([first.stream.closed, second.stream.closed]).toEqual(["open", "destroyed"]);
    expect(outcomeOf(await first.run("00"))).toBe("good");
    expect((await first.logout(1)).response).toBe(0);
    expect([first.stream.closed, world.server.sessions().length]).toEqual(["ended", 0]);
  });

  test("logout of the session closes all connections", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    expect((await second.logout(0)).response).toBe(0);
    expect([first.stream.closed, second.stream.closed]).toEqual(["ended", "ended"]);
    await world.server.stop();
    expect([world.server.sessions().length, world.clock.pendingTimers]).toEqual([0, 0]);
  });

  test("a broken connection ends its tasks, the others are told and go on (§7.1.4.3, §11.9.1)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({ InitialR2T: "Yes", ImmediateData: "No" }, world);
    await second.send(second.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
    await second.break();
    expect(first.next("async-message")).toMatchObject({ asyncEvent: 2, parameter1: 2, parameter2: 2, parameter3: 0 });
    expect(outcomeOf(await first.run("00"))).toBe("6/47/7f");
    expect((await first.logout(1, 2)).response).toBe(0);
  });

  test("commands that a broken connection held early are forgotten and come again (§11.14)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    const gap = first.command("00");
    const held = second.command("00");
    await second.send(held);
    await second.break();
    first.next("async-message");
    await first.send(gap, held);
    expect([first.next("scsi-response"), first.next("scsi-response")].map((pdu) => pdu.initiatorTaskTag)).toEqual([
      gap.initiatorTaskTag,
      held.initiatorTaskTag,
    ]);
  });

  test("session reinstatement ends all connections first (§6.3.5)", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    await world.login();
    expect([first.stream.closed, second.stream.closed]).toEqual(["ended", "ended"]);
    expect(world.server.sessions()).toHaveLength(1);
  });

  test("withdrawn access ends all connections of the session", async () => {
    const world = new TargetWorld();
    const [first, second] = await pair({}, world);
    await world.server.setAccess(TARGET_NAME, { kind: "list", rules: [] });
    expect([first.stream.closed, second.stream.closed]).toEqual(["ended", "ended"]);
    expect(await refusal(world, { initiatorName: INITIATOR_NAME })).toBe("2/2");
  });
});
