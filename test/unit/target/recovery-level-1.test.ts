import { encodePdu } from "../../../src/wire/encode.js";
import type { InitiatorPdu, ReadyToTransferPdu, ScsiCommandPdu } from "../../../src/wire/pdu.js";
import { dataOut, nopOut, outcomeOf, READ_8, ready, TargetWorld, WRITE_8, type TargetPeer } from "./target-peer.js";

const level1 = { ErrorRecoveryLevel: "1" };

/** Small segments and bursts, so that 4096 bytes are eight PDUs in four sequences. */
const small = { ...level1, MaxRecvDataSegmentLength: "512", MaxBurstLength: "1024", FirstBurstLength: "512" };

const digests = { header: true, data: true };

async function digested(keys: Record<string, string>, world = new TargetWorld()): Promise<TargetPeer> {
  const peer = await world.login({ keys: { ...keys, HeaderDigest: "CRC32C", DataDigest: "CRC32C" } });
  peer.useDigests(digests);
  await peer.clearAttention();
  return peer;
}

/** Sends a PDU whose data segment was damaged on the way. */
async function sendDamaged(peer: TargetPeer, pdu: InitiatorPdu): Promise<void> {
  const bytes = Buffer.concat(encodePdu(pdu, digests));
  bytes.writeUInt8(bytes.readUInt8(60) ^ 1, 60);
  await peer.sendBytes(bytes);
}

function readOf(peer: TargetPeer): ScsiCommandPdu {
  return peer.command(READ_8, { isRead: true, expectedDataTransferLength: 4096 });
}

function writeOf(peer: TargetPeer): ScsiCommandPdu {
  return peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
}

const solicited = { InitialR2T: "Yes", ImmediateData: "No" };

describe("Status SNACK (RFC 7143 §11.16)", () => {
  test("brings responses again as they were, until they are acknowledged", async () => {
    const peer = await ready(level1);
    const first = peer.expStatSn;
    await peer.acknowledge(first);
    await peer.send(peer.command("00"));
    await peer.send(nopOut(peer, "again"));
    const sent = [peer.next("scsi-response"), peer.next("nop-in")];
    await peer.snack({ snackType: 1, begRun: first, runLength: 2 });
    expect([peer.next("scsi-response"), peer.next("nop-in")]).toEqual(sent);
    await peer.snack({ snackType: 1 });
    expect([peer.next("scsi-response"), peer.next("nop-in")]).toEqual(sent);
    await peer.acknowledge((first + 1) >>> 0);
    await peer.snack({ snackType: 1 });
    expect(peer.next("nop-in")).toEqual(sent[1]);
    expect(peer.received).toEqual([]);
  });

  test("for a status that was acknowledged, or never sent, is a protocol error", async () => {
    const peer = await ready(level1);
    await peer.acknowledge();
    await peer.snack({ snackType: 1, begRun: (peer.expStatSn - 1) >>> 0, runLength: 1 });
    expect(peer.next("reject").reason).toBe(0x04);
    await peer.snack({ snackType: 1, begRun: (peer.expStatSn + 5) >>> 0, runLength: 1 });
    expect(peer.next("reject").reason).toBe(0x04);
  });

  test("brings a status again that came with data, and the data with it", async () => {
    const peer = await ready(level1);
    await peer.acknowledge();
    const statSn = peer.expStatSn;
    await peer.send(readOf(peer));
    const sent = peer.next("scsi-data-in");
    await peer.snack({ snackType: 1, begRun: statSn, runLength: 1 });
    expect(peer.next("scsi-data-in")).toEqual(sent);
  });
});

describe("Data SNACK (RFC 7143 §11.16)", () => {
  test("brings Data-In again as exact replicas", async () => {
    const peer = await ready(small);
    await peer.run(WRITE_8.replace("2a", "28"), 0);
    const read = readOf(peer);
    await peer.send(read);
    const sent = Array.from({ length: 8 }, () => peer.next("scsi-data-in"));
    await peer.snack({ initiatorTaskTag: read.initiatorTaskTag, begRun: 2, runLength: 3 });
    expect([1, 2, 3].map(() => peer.next("scsi-data-in"))).toEqual(sent.slice(2, 5));
    await peer.snack({ initiatorTaskTag: read.initiatorTaskTag });
    expect(sent.map(() => peer.next("scsi-data-in"))).toEqual(sent);
    await peer.acknowledge();
    await peer.snack({ initiatorTaskTag: read.initiatorTaskTag, begRun: 2, runLength: 3 });
    expect(peer.next("reject").reason).toBe(0x04);
  });

  test("for more than was sent is a protocol error that names the next number (§11.17.2)", async () => {
    const peer = await ready(small);
    const read = readOf(peer);
    await peer.send(read);
    peer.received.length = 0;
    await peer.snack({ initiatorTaskTag: read.initiatorTaskTag, begRun: 7, runLength: 3 });
    expect(peer.next("reject")).toMatchObject({ reason: 0x04, dataSnOrR2tSn: 8 });
  });

  test("the A bit asks for an acknowledgement once per MaxBurstLength (§11.7.2), DataACK gives it (§11.16.2)", async () => {
    const peer = await ready(small);
    const read = readOf(peer);
    await peer.send(read);
    const sent = Array.from({ length: 8 }, () => peer.next("scsi-data-in"));
    expect(sent.map((pdu) => pdu.isAcknowledgeRequested)).toEqual([0, 1, 0, 1, 0, 1, 0, 1].map(Boolean));
    const { targetTransferTag, lun } = sent[1]!;
    await peer.snack({ snackType: 2, targetTransferTag, lun, begRun: 4 });
    expect(peer.received).toEqual([]);
    // What was acknowledged cannot be asked for again; the rest can.
    await peer.snack({ initiatorTaskTag: read.initiatorTaskTag, begRun: 3, runLength: 1 });
    expect(peer.next("reject").reason).toBe(0x04);
    await peer.snack({ initiatorTaskTag: read.initiatorTaskTag });
    expect([4, 5, 6, 7].map(() => peer.next("scsi-data-in").dataSn)).toEqual([4, 5, 6, 7]);
  });

  test.each([
    ["an unknown tag", { targetTransferTag: 0x7777 }],
    ["data beyond what was sent", { begRun: 9 }],
    ["another LUN", { lun: { high: 0x0001_0000, low: 0 } }],
  ])("a DataACK for %s is an invalid data ACK (§11.17.1)", async (_, changes) => {
    const peer = await ready(small);
    await peer.send(readOf(peer));
    const { targetTransferTag, lun } = peer.received
      .filter((pdu) => pdu.type === "scsi-data-in")
      .find((pdu) => pdu.isAcknowledgeRequested)!;
    peer.received.length = 0;
    await peer.snack({ snackType: 2, targetTransferTag, lun, begRun: 2, ...changes });
    expect(peer.next("reject").reason).toBe(0x08);
  });

  test("R-Data SNACK cuts the data anew, and the response carries its tag and the same StatSN (§11.16.3)", async () => {
    const peer = await ready({ ...small, MaxBurstLength: "4096" });
    const read = readOf(peer);
    await peer.send(read);
    const sent = Array.from({ length: 8 }, () => peer.next("scsi-data-in"));
    const text = {
      isFinal: true,
      isContinued: false,
      initiatorTaskTag: 0x55,
      data: Buffer.from("MaxRecvDataSegmentLength=2048\0"),
    };
    await peer.send({ ...nopOut(peer), type: "text-request", ...text });
    peer.next("text-response");
    await peer.snack({ snackType: 3, initiatorTaskTag: read.initiatorTaskTag, targetTransferTag: 0x1234 });
    const again = [peer.next("scsi-data-in"), peer.next("scsi-data-in")];
    expect(again.map((pdu) => [pdu.dataSn, pdu.bufferOffset, pdu.data.length, pdu.hasStatus])).toEqual([
      [0, 0, 2048, false],
      [1, 2048, 2048, false],
    ]);
    const response = peer.next("scsi-response");
    expect(response).toMatchObject({ snackTag: 0x1234, statSn: sent[7]!.statSn, expDataSn: 2, status: 0 });
    await peer.snack({ snackType: 1, begRun: response.statSn, runLength: 1 });
    expect(peer.next("scsi-response")).toEqual(response);
  });
});

describe("data that comes to harm on its way in (RFC 7143 §7.8, §7.9, §11.8)", () => {
  const answer = (r2t: ReadyToTransferPdu, from: number, to: number, dataSn: number, isFinal: boolean): InitiatorPdu =>
    dataOut(r2t.initiatorTaskTag, {
      targetTransferTag: r2t.targetTransferTag,
      bufferOffset: from,
      dataSn,
      isFinal,
      data: Buffer.alloc(to - from, from / 512 + 1),
    });

  test("a damaged Data-Out is rejected and asked for again when its sequence is over", async () => {
    const world = new TargetWorld();
    const peer = await digested({ ...level1, ...solicited }, world);
    await peer.send(writeOf(peer));
    const r2t = peer.next("ready-to-transfer");
    await peer.send(answer(r2t, 0, 1024, 0, false));
    await sendDamaged(peer, answer(r2t, 1024, 2048, 1, false));
    expect(peer.next("reject").reason).toBe(0x02);
    expect(peer.received).toEqual([]);
    await peer.send(answer(r2t, 2048, 4096, 2, true));
    const recovery = peer.next("ready-to-transfer");
    expect(recovery).toMatchObject({ r2tSn: 1, bufferOffset: 1024, desiredDataTransferLength: 1024 });
    expect(recovery.targetTransferTag).not.toBe(r2t.targetTransferTag);
    await peer.send(answer(recovery, 1024, 2048, 0, true));
    expect(peer.next("scsi-response")).toMatchObject({ status: 0, expDataSn: 2 });
    const { data } = await peer.run(READ_8, 4096);
    expect([data[0], data[1024], data[2048]]).toEqual([1, 3, 5]);
    expect(world.server.recoveryTally()).toMatchObject({ recoveryR2ts: 1, dataDigestErrors: 1 });
  });

  test("a gap in DataSN is asked for again", async () => {
    const peer = await ready({ ...level1, ...solicited });
    await peer.send(writeOf(peer));
    const r2t = peer.next("ready-to-transfer");
    await peer.send(answer(r2t, 0, 512, 0, false), answer(r2t, 2048, 4096, 2, true));
    const recovery = peer.next("ready-to-transfer");
    expect(recovery).toMatchObject({ r2tSn: 1, bufferOffset: 512, desiredDataTransferLength: 1536 });
    await peer.send(answer(recovery, 512, 2048, 0, true));
    expect(peer.next("scsi-response").status).toBe(0);
  });

  test("unsolicited data that was lost is asked for", async () => {
    const peer = await ready({ ...level1, FirstBurstLength: "4096", ImmediateData: "No" });
    const command = { ...writeOf(peer), isFinal: false };
    const piece = { bufferOffset: 1024, dataSn: 1, data: Buffer.alloc(3072, 9) };
    await peer.send(command, dataOut(command.initiatorTaskTag, piece));
    const recovery = peer.next("ready-to-transfer");
    expect(recovery).toMatchObject({ r2tSn: 0, bufferOffset: 0, desiredDataTransferLength: 1024 });
    await peer.send(answer(recovery, 0, 1024, 0, true));
    expect(peer.next("scsi-response").status).toBe(0);
  });

  test("data that does not come in time is asked for again, so many times (§7.1.4.1)", async () => {
    const world = new TargetWorld();
    const peer = await ready({ ...level1, ...solicited }, world);
    const command = writeOf(peer);
    await peer.send(command);
    peer.next("ready-to-transfer");
    for (let count = 1; count <= 16; count += 1) {
      await world.clock.advance(5_000);
      const again = peer.received.filter((pdu) => pdu.type === "ready-to-transfer");
      expect(again.map((pdu) => [pdu.r2tSn, pdu.desiredDataTransferLength])).toEqual([[count, 4096]]);
      await peer.acknowledge();
      peer.received.length = 0;
    }
    await world.clock.advance(5_000);
    peer.received = peer.received.filter((pdu) => pdu.type === "scsi-response");
    expect(outcomeOf(peer.result(command.initiatorTaskTag))).toBe("b/0c/0d");
  });

  test("late data of a transfer that was asked for again is dropped", async () => {
    const world = new TargetWorld();
    const peer = await ready({ ...level1, ...solicited }, world);
    await peer.send(writeOf(peer));
    const r2t = peer.next("ready-to-transfer");
    await world.clock.advance(5_000);
    const recovery = peer.next("ready-to-transfer");
    await peer.send(answer(r2t, 0, 4096, 0, true));
    expect(peer.received).toEqual([]);
    await peer.send(answer(recovery, 0, 4096, 0, true));
    expect(peer.next("scsi-response").status).toBe(0);
  });

  test("a SNACK brings an R2T again with the StatSN of now", async () => {
    const peer = await ready({ ...level1, ...solicited });
    const command = writeOf(peer);
    await peer.send(command);
    const r2t = peer.next("ready-to-transfer");
    await peer.send(nopOut(peer));
    peer.next("nop-in");
    await peer.snack({ initiatorTaskTag: command.initiatorTaskTag, begRun: 0, runLength: 1 });
    expect(peer.next("ready-to-transfer")).toEqual({ ...r2t, statSn: (r2t.statSn + 1) >>> 0 });
  });

  test("a command with damaged immediate data is rejected, its CmdSN is a gap, and its retry runs (§7.3, §7.8)", async () => {
    const peer = await digested(level1);
    const command = { ...writeOf(peer), data: Buffer.alloc(4096, 6) };
    await sendDamaged(peer, command);
    expect(peer.next("reject")).toMatchObject({ reason: 0x02, expCmdSn: command.cmdSn });
    const next = peer.command("00");
    await peer.send(next);
    expect(peer.received).toEqual([]);
    await peer.send(command);
    const ended = [peer.next("scsi-response"), peer.next("scsi-response")].map((pdu) => pdu.initiatorTaskTag);
    expect(new Set(ended)).toEqual(new Set([command.initiatorTaskTag, next.initiatorTaskTag]));
    const { data } = await peer.run(READ_8, 4096);
    expect(data.every((byte) => byte === 6)).toBe(true);
  });
});

describe("a damaged header (RFC 7143 §7.8)", () => {
  const damagedHeader = (pdu: InitiatorPdu): Buffer => {
    const bytes = Buffer.concat(encodePdu(pdu, digests));
    bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20);
    return bytes;
  };

  test("loses its PDU and no more: the target pings, and the command may come again", async () => {
    const peer = await digested(level1);
    const command = peer.command("00");
    await peer.sendBytes(damagedHeader(command));
    expect(peer.next("nop-in").targetTransferTag).not.toBe(0xffff_ffff);
    await peer.send(nopOut(peer));
    expect(peer.next("nop-in")).toMatchObject({ expCmdSn: command.cmdSn });
    await peer.send(command);
    expect(peer.next("scsi-response").status).toBe(0);
  });

  test("closes the connection when no good one follows in time", async () => {
    const world = new TargetWorld();
    const peer = await digested(level1, world);
    await peer.sendBytes(damagedHeader(peer.command("00")));
    await world.clock.advance(5_000);
    expect(peer.stream.closed).toBe("destroyed");
  });

  test("closes the connection at once at level 0", async () => {
    const peer = await digested({});
    await peer.sendBytes(damagedHeader(peer.command("00")));
    expect(peer.stream.closed).toBe("ended");
  });
});

describe("what is kept is bounded (RFC 7143 §4.2.2.2)", () => {
  test("reads wait for acknowledgements, which are asked for, when memory is short", async () => {
    const world = new TargetWorld();
    const peer = await ready({ ...level1, MaxBurstLength: "16777215" }, world);
    await peer.acknowledge();
    // Each may take the 8 MiB a transfer can have: eight fit.
    const reads = Array.from({ length: 9 }, () =>
      peer.command(READ_8, { isRead: true, expectedDataTransferLength: 8_388_608 }),
    );
    await peer.send(...reads);
    expect(peer.received.filter((pdu) => pdu.type === "scsi-data-in")).toHaveLength(8);
    expect(peer.received.filter((pdu) => pdu.type === "nop-in")).toHaveLength(1);
    await peer.acknowledge();
    expect(peer.received.filter((pdu) => pdu.type === "scsi-data-in")).toHaveLength(9);
  });

  test("a task tag may be used again before its status was acknowledged", async () => {
    const peer = await ready(level1);
    const read = readOf(peer);
    expect((await peer.runPdu(read)).status).toBe(0);
    const again = { ...readOf(peer), initiatorTaskTag: read.initiatorTaskTag };
    expect((await peer.runPdu(again)).status).toBe(0);
    await peer.acknowledge();
    expect(outcomeOf(await peer.run("00"))).toBe("good");
  });

  test("a session that ends leaves nothing", async () => {
    const world = new TargetWorld();
    const peer = await ready({ ...level1, ...solicited }, world);
    await peer.run(READ_8, 4096);
    await peer.send(writeOf(peer));
    await peer.break();
    await world.server.stop();
    expect([world.server.sessions().length, world.clock.pendingTimers]).toEqual([0, 0]);
  });
});
