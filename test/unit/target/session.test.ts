import { LUN_ZERO } from "../../../src/base/lun.js";
import { RESERVED_TAG } from "../../../src/wire/constants.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { ScsiDataOutPdu } from "../../../src/wire/pdu.js";
import { dataOut, nopOut, outcomeOf, READ_8, ready, TARGET_NAME, TargetWorld, WRITE_8 } from "./target-peer.js";

describe("data transfer", () => {
  test("a write with immediate data reads back the same", async () => {
    const peer = await ready();
    const data = Buffer.alloc(4096, "wxyz");
    expect(outcomeOf(await peer.runWrite(WRITE_8, data))).toBe("good");
    const read = await peer.run(READ_8, 4096);
    expect(read).toMatchObject({ status: 0, residual: 0, dataInCount: 1 });
    expect(read.data.equals(data)).toBe(true);
  });

  test("Data-In respects the initiator's segment length and the burst length, and carries the status", async () => {
    const peer = await ready({ MaxRecvDataSegmentLength: "1024", MaxBurstLength: "2048", FirstBurstLength: "1024" });
    const command = peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 });
    await peer.send(command);
    const pdus = [0, 1, 2, 3].map(() => peer.next("scsi-data-in"));
    expect(pdus.map((pdu) => pdu.data.length)).toEqual([1024, 1024, 1024, 1024]);
    expect(pdus.map((pdu) => pdu.dataSn)).toEqual([0, 1, 2, 3]);
    expect(pdus.map((pdu) => pdu.bufferOffset)).toEqual([0, 1024, 2048, 3072]);
    expect(pdus.map((pdu) => pdu.isFinal)).toEqual([false, true, false, true]);
    expect(pdus.map((pdu) => pdu.hasStatus)).toEqual([false, false, false, true]);
  });

  test("R2Ts ask for what is missing, several at once, no longer than a burst", async () => {
    const peer = await ready({
      InitialR2T: "Yes",
      ImmediateData: "No",
      MaxBurstLength: "1024",
      FirstBurstLength: "512",
      MaxOutstandingR2T: "2",
    });
    const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await peer.send(command);
    const first = [peer.next("ready-to-transfer"), peer.next("ready-to-transfer")];
    expect(peer.received).toEqual([]);
    expect(first.map((r2t) => [r2t.r2tSn, r2t.bufferOffset, r2t.desiredDataTransferLength])).toEqual([
      [0, 0, 1024],
      [1, 1024, 1024],
    ]);
    const answer = (r2t: (typeof first)[number]): ScsiDataOutPdu =>
      dataOut(command.initiatorTaskTag, {
        targetTransferTag: r2t.targetTransferTag,
        bufferOffset: r2t.bufferOffset,
        data: Buffer.alloc(r2t.desiredDataTransferLength, r2t.r2tSn + 1),
      });
    // The second may be answered before the first: each R2T is a sequence of its own.
    await peer.send(answer(first[1]!), answer(first[0]!));
    const second = [peer.next("ready-to-transfer"), peer.next("ready-to-transfer")];
    expect(second.map((r2t) => r2t.bufferOffset)).toEqual([2048, 3072]);
    await peer.send(answer(second[0]!), answer(second[1]!));
    expect(peer.next("scsi-response")).toMatchObject({ status: 0, expDataSn: 4, residualCount: 0 });
    const { data } = await peer.run(READ_8, 4096);
    expect([data[0], data[1024], data[2048], data[3072]]).toEqual([1, 2, 3, 4]);
  });

  test("unsolicited data follows the command up to the first burst, the rest is asked for", async () => {
    const peer = await ready({ FirstBurstLength: "1024", MaxBurstLength: "4096" });
    const command = peer.command(WRITE_8, {
      isWrite: true,
      isFinal: false,
      expectedDataTransferLength: 4096,
      data: Buffer.alloc(512, 1),
    });
    await peer.send(command, dataOut(command.initiatorTaskTag, { bufferOffset: 512, data: Buffer.alloc(512, 2) }));
    const r2t = peer.next("ready-to-transfer");
    expect([r2t.bufferOffset, r2t.desiredDataTransferLength]).toEqual([1024, 3072]);
    const { targetTransferTag } = r2t;
    await peer.send(
      dataOut(command.initiatorTaskTag, { targetTransferTag, bufferOffset: 1024, data: Buffer.alloc(3072, 3) }),
    );
    expect(peer.next("scsi-response").status).toBe(0);
    const { data } = await peer.run(READ_8, 4096);
    expect([data[511], data[512], data[1024]]).toEqual([1, 2, 3]);
  });

  test.each([
    ["a wrong DataSN", { dataSn: 1 }, "b/0c/0d"],
    ["a wrong offset", { bufferOffset: 512 }, "b/0c/0d"],
    ["an end too early", { data: Buffer.alloc(512) }, "b/0c/0d"],
    ["an unknown transfer tag", { targetTransferTag: 0x1234 }, "b/0c/0c"],
    ["unsolicited data nobody expects", { targetTransferTag: RESERVED_TAG }, "b/0c/0c"],
  ])("%s ends the command and writes nothing", async (_, changes, expected) => {
    const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" });
    const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await peer.send(command);
    const { targetTransferTag } = peer.next("ready-to-transfer");
    const good = { targetTransferTag, data: Buffer.alloc(4096, 7) };
    await peer.send(dataOut(command.initiatorTaskTag, { ...good, ...changes }));
    expect(outcomeOf(peer.result(command.initiatorTaskTag))).toBe(expected);
    const { data } = await peer.run(READ_8, 4096);
    expect(data.every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    ["less than the command takes", 512, 3584],
    ["more than the command takes", 8192, -4096],
  ])("a read that expects %s reports the residual", async (_, expected, residual) => {
    const peer = await ready();
    const result = await peer.run(READ_8, expected);
    expect(result).toMatchObject({ status: 0, residual });
    expect(result.data).toHaveLength(Math.min(4096, expected));
  });

  test("a write announced shorter than its CDB writes only what came", async () => {
    const peer = await ready();
    const result = await peer.runWrite(WRITE_8, Buffer.alloc(1024, 9));
    expect(result).toMatchObject({ status: 0, residual: 3072 });
    const { data } = await peer.run(READ_8, 4096);
    expect([data[1023], data[1024]]).toEqual([9, 0]);
  });
});

describe("digests", () => {
  test("a damaged data segment is rejected, its command ends, and the session lives on", async () => {
    const world = new TargetWorld();
    const peer = await world.login({ keys: { HeaderDigest: "CRC32C", DataDigest: "CRC32C" } });
    peer.useDigests({ header: true, data: true });
    await peer.clearAttention();
    const command = peer.command(WRITE_8, {
      isWrite: true,
      expectedDataTransferLength: 4096,
      data: Buffer.alloc(4096),
    });
    const bytes = Buffer.concat(encodePdu(command, { header: true, data: true }));
    bytes[100] = (bytes[100] ?? 0) ^ 1;
    await peer.sendBytes(bytes);
    expect(peer.next("reject").reason).toBe(0x02);
    expect(outcomeOf(peer.result(command.initiatorTaskTag))).toBe("b/47/05");
    expect(outcomeOf(await peer.run(READ_8, 4096))).toBe("good");
  });
});

describe("the command window", () => {
  test("commands outside it are ignored, those that came early wait for the gap", async () => {
    const peer = await ready();
    const at = peer.cmdSn;
    await peer.send(peer.command("00", { cmdSn: at + 128 }), peer.command("00", { cmdSn: at - 1 }));
    expect(peer.received).toEqual([]);
    const late = peer.command("00", { cmdSn: at + 1, initiatorTaskTag: 0x200 });
    await peer.send(late);
    expect(peer.received).toEqual([]);
    await peer.send(peer.command("00", { cmdSn: at, initiatorTaskTag: 0x201 }));
    expect([peer.next("scsi-response"), peer.next("scsi-response")].map((pdu) => pdu.initiatorTaskTag)).toEqual([
      0x201, 0x200,
    ]);
  });

  test("MaxCmdSN stands still while commands wait for their data and moves on when they end", async () => {
    const peer = await ready(
      { InitialR2T: "Yes", ImmediateData: "No" },
      new TargetWorld({ limits: { queueDepth: 4 } }),
    );
    const commands = [0, 1, 2, 3, 4].map(() =>
      peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }),
    );
    await peer.send(...commands);
    const r2ts = [0, 1, 2, 3].map(() => peer.next("ready-to-transfer"));
    expect(peer.received).toEqual([]);
    expect(new Set(r2ts.map((r2t) => r2t.maxCmdSn)).size).toBe(1);
    const { targetTransferTag, initiatorTaskTag } = r2ts[0]!;
    await peer.send(dataOut(initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096) }));
    expect(peer.next("scsi-response").maxCmdSn).toBe((r2ts[0]!.maxCmdSn + 1) >>> 0);
  });

  test("a task tag in use is rejected", async () => {
    const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" });
    const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await peer.send(command, { ...peer.command("00"), initiatorTaskTag: command.initiatorTaskTag });
    peer.next("ready-to-transfer");
    expect(peer.next("reject")).toMatchObject({ reason: 0x07 });
  });
});

describe("what else comes in full feature phase", () => {
  test("NOP-Out is answered with its own data", async () => {
    const peer = await ready();
    await peer.send(nopOut(peer, "are you there"));
    expect(peer.next("nop-in")).toMatchObject({ initiatorTaskTag: 0x9999, data: Buffer.from("are you there") });
  });

  test("a silent initiator is pinged, then given up", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    await world.clock.advance(45_001);
    expect(peer.next("nop-in")).toMatchObject({ initiatorTaskTag: RESERVED_TAG });
    expect(peer.stream.closed).toBe("open");
    await world.clock.advance(45_000);
    expect(peer.stream.closed).toBe("destroyed");
    expect(world.server.sessions()).toEqual([]);
  });

  test("SNACK is rejected at recovery level 0, with the header sent back", async () => {
    const peer = await ready();
    const fields = { lun: LUN_ZERO, initiatorTaskTag: 1, targetTransferTag: RESERVED_TAG, expStatSn: 0 };
    await peer.send({ type: "snack-request", snackType: 0, ...fields, begRun: 0, runLength: 1 });
    const reject = peer.next("reject");
    expect(reject.reason).toBe(0x03);
    expect(reject.data).toHaveLength(48);
    expect(reject.data[0]).toBe(0x10);
  });

  test("an opcode nobody knows is rejected, and the session lives on", async () => {
    const peer = await ready();
    const header = Buffer.alloc(48);
    header[0] = 0x1c;
    header.writeUInt32BE(7, 16);
    await peer.sendBytes(header);
    expect(peer.next("reject")).toMatchObject({ reason: 0x05, data: header });
    expect(outcomeOf(await peer.run("00"))).toBe("good");
  });

  test("logout closes the session, and nothing of it is left", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    const fields = { isImmediate: true, cid: 1, cmdSn: peer.cmdSn, expStatSn: 0, initiatorTaskTag: 6 };
    await peer.send({ type: "logout-request", reason: 2, ...fields });
    expect(peer.next("logout-response").response).toBe(2);
    await peer.send({ type: "logout-request", reason: 1, ...fields, cid: 9 });
    expect(peer.next("logout-response").response).toBe(1);
    await peer.send({ type: "logout-request", reason: 0, ...fields });
    expect(peer.next("logout-response").response).toBe(0);
    expect(peer.stream.closed).toBe("ended");
    expect(world.server.sessions()).toEqual([]);
  });

  test("a removed target tells its initiators, ends their sessions and is gone", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    await world.server.removeTarget(TARGET_NAME);
    await world.clock.advance(0);
    expect(peer.next("async-message").asyncEvent).toBe(3);
    expect(peer.stream.closed).toBe("ended");
    const again = await world.connect();
    expect(await again.login()).toMatchObject({ statusClass: 2, statusDetail: 3 });
  });

  test("access that is withdrawn ends the sessions it no longer covers, and only those", async () => {
    const world = new TargetWorld();
    const kept = await world.login({ initiatorName: "iqn.2026-11.a:kept" });
    const lost = await world.login({ initiatorName: "iqn.2026-11.a:lost", isid: "800000000002" });
    await world.server.setAccess(TARGET_NAME, { kind: "list", rules: [{ initiatorName: "IQN.2026-11.A:KEPT" }] });
    await world.clock.advance(0);
    expect([kept.stream.closed, lost.stream.closed]).toEqual(["open", "ended"]);
  });
});
