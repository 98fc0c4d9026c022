import type { DeviceEvent } from "../../../src/block/device.js";
import { type IscsiLun, openIscsiLun } from "../../../src/block/iscsi-lun.js";
import { ScriptedDisk } from "../../support/scripted-disk.js";
import { LUN_ONE, type OpenedSession, openSession, sense, settle } from "../../support/session-fixture.js";

const BLOCK = 512;
const POWER_ON = sense(6, 0x29, 0);

interface OpenedLun extends OpenedSession {
  readonly disk: ScriptedDisk;
  readonly device: IscsiLun;
  readonly deviceEvents: DeviceEvent[];
  run<T>(promise: Promise<T>): Promise<T>;
}

async function openLun(
  change: (disk: ScriptedDisk) => void = () => undefined,
  options: { readonly expectedId?: string } = {},
): Promise<OpenedLun> {
  const disk = new ScriptedDisk();
  change(disk);
  const fixture = await openSession({ target: { onPdu: disk.onPdu } });
  const opening = openIscsiLun(fixture.session, { lun: LUN_ONE, ...options }, fixture.dependencies);
  const device = await settle(fixture.clock, opening);
  const deviceEvents: DeviceEvent[] = [];
  device.onEvent((event) => deviceEvents.push(event));
  return { ...fixture, disk, device, deviceEvents, run: (promise) => settle(fixture.clock, promise) };
}

/** The connection breaks; the session comes back. */
async function breakConnection({ target, clock }: OpenedLun): Promise<void> {
  target.connection.close();
  await clock.advance(5_000);
}

describe("opening a unit", () => {
  test("reads what it is, and absorbs the first unit attentions", async () => {
    const { device } = await openLun((disk) => {
      disk.nextResults.push({ status: 2, sense: POWER_ON }, { status: 2, sense: sense(6, 0x3f, 0x0e) });
    });
    expect(device.info).toEqual({
      sizeBytes: 2048 * BLOCK,
      logicalBlockBytes: BLOCK,
      physicalBlockBytes: 4096,
      maxTransferBytes: 128 * BLOCK,
      optimalTransferBytes: 0,
      isReadOnly: false,
      hasVolatileCache: true,
      canUnmap: true,
      unmapReadsZeroes: true,
      canWriteZeroes: true,
      canReportBlockStatus: true,
      unmapGranularityBytes: 4096,
      identity: {
        id: "naa.60014050000000000000000000000001",
        vendor: "TEST",
        product: "DISK",
        revision: "1",
        serial: "disk-1",
      },
    });
  });

  test("READ CAPACITY(10) where (16) is not known; write protection is seen", async () => {
    const { device } = await openLun((disk) => {
      disk.supportsReadCapacity16 = false;
      disk.isWriteProtected = true;
    });
    expect(device.info).toMatchObject({
      sizeBytes: 2048 * BLOCK,
      isReadOnly: true,
      canUnmap: false,
      canWriteZeroes: false,
    });
  });

  test.each([
    ["another identity", { naa: "60014050000000000000000000000002" }, "BLOCK_IDENTITY_MISMATCH"],
    ["no disk", { deviceType: 0x0d }, "BLOCK_NOT_SUPPORTED"],
  ])("%s is refused", async (_name, change, code) => {
    const opening = openLun((disk) => Object.assign(disk, change), {
      expectedId: "naa.60014050000000000000000000000001",
    });
    await expect(opening).rejects.toMatchObject({ code });
  });

  test("an endless row of unit attentions ends in an error", async () => {
    const opening = openLun((disk) => {
      for (let count = 0; count < 20; count += 1) disk.nextResults.push({ status: 2, sense: POWER_ON });
    });
    await expect(opening).rejects.toMatchObject({ code: "BLOCK_IO", details: { verdict: "SCSI_6_29_00" } });
  });
});

describe("reading and writing", () => {
  test("what is written is read back", async () => {
    const { device, run } = await openLun();
    const data = Buffer.from(Array.from({ length: 4 * BLOCK }, (_, index) => (index * 31) & 0xff));
    await run(device.write(8 * BLOCK, data));
    const found = Buffer.alloc(data.length);
    await run(device.read(8 * BLOCK, found));
    expect(found.equals(data)).toBe(true);
  });

  test("FUA goes to the unit where it honours it, else the blocks are flushed after the write", async () => {
    const honest = await openLun();
    await honest.run(honest.device.write(0, Buffer.alloc(BLOCK), { fua: true }));
    expect(honest.disk.commands.at(-1)?.[1]).toBe(0x08);
    const plain = await openLun((disk) => (disk.supportsDpoFua = false));
    await plain.run(plain.device.write(3 * BLOCK, Buffer.alloc(BLOCK), { fua: true }));
    const [write, flush] = plain.disk.commands.slice(-2);
    expect([write?.[0], write?.[1]]).toEqual([0x2a, 0]);
    expect([flush?.[0], flush?.readUInt32BE(2), flush?.readUInt16BE(7)]).toEqual([0x35, 3, 1]);
  });

  test("flush is SYNCHRONIZE CACHE of the whole unit; nothing only where there is no volatile cache", async () => {
    const cached = await openLun();
    await cached.run(cached.device.flush());
    expect(cached.disk.commands.at(-1)).toEqual(Buffer.from([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    const uncached = await openLun((disk) => (disk.isWriteCacheEnabled = false));
    const before = uncached.disk.commands.length;
    await uncached.run(uncached.device.flush());
    expect(uncached.disk.commands).toHaveLength(before);
  });

  test("a flush that fails is reported", async () => {
    const { device, disk, run } = await openLun();
    disk.nextResults.push({ opcode: 0x35, status: 2, sense: sense(3, 0x0c, 2) });
    await expect(run(device.flush())).rejects.toMatchObject({ code: "BLOCK_IO" });
  });

  test.each([
    ["BUSY", 0x08, undefined],
    ["TASK SET FULL", 0x28, undefined],
    ["becoming ready", 2, sense(2, 4, 1)],
    ["aborted command", 2, sense(0xb, 0, 0)],
    ["a parity error", 2, sense(0xb, 0x47, 0)],
  ])("%s: waits a little and does it again", async (_name, status, why) => {
    const { device, disk, run } = await openLun();
    for (let count = 0; count < 3; count += 1) {
      disk.nextResults.push({ opcode: 0x28, status, ...(why === undefined ? {} : { sense: why }) });
    }
    await run(device.read(0, Buffer.alloc(BLOCK)));
    expect(disk.count(0x28)).toBe(1);
    expect(disk.nextResults).toEqual([]);
  });

  test.each([
    ["a medium error", sense(3, 0x11, 0), "BLOCK_IO"],
    ["a full pool", sense(7, 0x27, 7), "BLOCK_NO_SPACE"],
    ["write protection", sense(7, 0x27, 0), "BLOCK_READ_ONLY"],
    ["an address out of range", sense(5, 0x21, 0), "BLOCK_INVALID_RANGE"],
  ])("%s fails at once with its code", async (_name, why, code) => {
    const { device, disk, run } = await openLun();
    disk.nextResults.push({ opcode: 0x2a, status: 2, sense: why });
    await expect(run(device.write(0, Buffer.alloc(BLOCK)))).rejects.toMatchObject({ code, layer: "block" });
  });

  test("a reservation of another initiator has its own code", async () => {
    const { device, disk, run } = await openLun();
    disk.nextResults.push({ opcode: 0x2a, status: 0x18 });
    await expect(run(device.write(0, Buffer.alloc(BLOCK)))).rejects.toMatchObject({
      code: "BLOCK_RESERVATION_CONFLICT",
    });
  });

  test("a fault that stays is given up after its retries", async () => {
    const { device, disk, run } = await openLun();
    for (let count = 0; count < 30; count += 1) {
      disk.nextResults.push({ opcode: 0x28, status: 2, sense: sense(0xb, 0, 0) });
    }
    await expect(run(device.read(0, Buffer.alloc(BLOCK)))).rejects.toMatchObject({ code: "BLOCK_IO" });
    expect(disk.nextResults.length).toBe(30 - 11);
  });

  test("recovered error counts only with all the data", async () => {
    const { device, disk, run } = await openLun();
    disk.nextResults.push({ opcode: 0x28, status: 2, sense: sense(1, 0x17, 1) });
    await run(device.read(0, Buffer.alloc(BLOCK)));
    expect(disk.count(0x28)).toBe(1);
  });
});

describe("unit attentions", () => {
  test("capacity changed: the size is read again before the command is repeated", async () => {
    const { device, disk, run, deviceEvents } = await openLun();
    disk.blocks = 4096;
    disk.nextResults.push({ opcode: 0x28, status: 2, sense: sense(6, 0x2a, 9) });
    await run(device.read(0, Buffer.alloc(BLOCK)));
    expect(device.info.sizeBytes).toBe(4096 * BLOCK);
    expect(deviceEvents).toMatchObject([{ kind: "info-changed", info: { sizeBytes: 4096 * BLOCK } }]);
  });

  test("power on: many commands, one look at who it is, and all are done", async () => {
    const { device, disk, run, deviceEvents } = await openLun();
    const before = disk.count(0x12);
    for (let count = 0; count < 4; count += 1) disk.nextResults.push({ opcode: 0x28, status: 2, sense: POWER_ON });
    await run(Promise.all([0, 1, 2, 3].map((block) => device.read(block * BLOCK, Buffer.alloc(BLOCK)))));
    expect(disk.count(0x12) - before).toBe(6);
    expect(deviceEvents).toEqual([]);
  });

  test("a disk exchanged without a word is found out by asking, and refused", async () => {
    const { device, disk, run, deviceEvents } = await openLun();
    const before = disk.commands.length;
    await run(device.recognise());
    expect(new Set(disk.commands.slice(before).map((cdb) => cdb[0]))).toEqual(new Set([0x12]));
    disk.naa = "60014050000000000000000000000002";
    const wrong = { code: "BLOCK_IDENTITY_MISMATCH", details: { found: "naa.60014050000000000000000000000002" } };
    await expect(run(device.recognise())).rejects.toMatchObject(wrong);
    await expect(run(device.write(0, Buffer.alloc(BLOCK, 1)))).rejects.toMatchObject(wrong);
    expect(disk.count(0x2a)).toBe(0);
    expect(deviceEvents[0]).toMatchObject({ kind: "identity-changed" });
  });

  test("power on and another disk: nothing is sent to it, not even after a reconnection", async () => {
    const opened = await openLun();
    const { device, disk, run, deviceEvents, session } = opened;
    disk.naa = "60014050000000000000000000000002";
    disk.nextResults.push({ opcode: 0x2a, status: 2, sense: POWER_ON });
    await expect(run(device.write(0, Buffer.alloc(BLOCK, 1)))).rejects.toMatchObject({
      code: "BLOCK_IDENTITY_MISMATCH",
    });
    await expect(run(device.write(0, Buffer.alloc(BLOCK, 2)))).rejects.toMatchObject({
      code: "BLOCK_IDENTITY_MISMATCH",
    });
    expect(deviceEvents).toMatchObject([
      { kind: "identity-changed", found: { id: "naa.60014050000000000000000000000002" } },
      {},
    ]);
    await opened.clock.advance(20_000);
    expect(session.state).not.toBe("ready");
    expect(disk.count(0x2a)).toBe(0);
    disk.naa = "60014050000000000000000000000001";
    await opened.clock.advance(40_000);
    await run(device.write(0, Buffer.alloc(BLOCK, 3)));
    expect(disk.data[0]).toBe(3);
  });

  test("when it cannot be told who it is the session reconnects, and the command is done after that", async () => {
    const { device, disk, run, target } = await openLun();
    disk.nextResults.push(
      { opcode: 0x2a, status: 2, sense: POWER_ON },
      { opcode: 0x12, status: 2, sense: sense(4, 0x44, 0) },
    );
    await run(device.write(0, Buffer.alloc(BLOCK, 4)));
    expect(target.connections).toHaveLength(2);
    expect(disk.data[0]).toBe(4);
  });

  test("a reservation attention is absorbed without a look", async () => {
    const { device, disk, run } = await openLun();
    const before = disk.count(0x12);
    disk.nextResults.push({ opcode: 0x28, status: 2, sense: sense(6, 0x2a, 4) });
    await run(device.read(0, Buffer.alloc(BLOCK)));
    expect(disk.count(0x12)).toBe(before);
  });
});

describe("a lost connection", () => {
  test("I/O waits, identity is checked before it goes on, events tell", async () => {
    const opened = await openLun();
    const { device, disk, run, deviceEvents, target } = opened;
    target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    target.connection.close();
    const writing = device.write(0, Buffer.alloc(BLOCK, 6));
    await opened.clock.advance(10_000);
    expect(deviceEvents).toMatchObject([{ kind: "unavailable" }]);
    target.loginRefusal = undefined;
    const before = disk.commands.length;
    await run(writing);
    const sent = disk.commands.slice(before).map((cdb) => cdb[0]);
    expect(sent.indexOf(0x12)).toBeLessThan(sent.indexOf(0x2a));
    expect(deviceEvents.at(-1)).toEqual({ kind: "available" });
    expect(disk.data[0]).toBe(6);
  });

  test("a unit that has grown meanwhile says so", async () => {
    const opened = await openLun();
    opened.disk.blocks = 8192;
    await breakConnection(opened);
    expect(opened.deviceEvents.map(({ kind }) => kind)).toEqual(["unavailable", "info-changed", "available"]);
    expect(opened.device.info.sizeBytes).toBe(8192 * BLOCK);
  });

  test.each([
    ["another identity", { naa: "60014050000000000000000000000002" }],
    ["another block size", { blockBytes: 4096 }],
  ])("%s behind the new connection: the write fails and does not reach it", async (_name, change) => {
    const opened = await openLun();
    const { device, disk, run } = opened;
    Object.assign(disk, change);
    opened.target.connection.close();
    await opened.clock.advance(1);
    await expect(run(device.write(0, Buffer.alloc(BLOCK, 1)))).rejects.toMatchObject({
      code: "BLOCK_IDENTITY_MISMATCH",
    });
    expect(disk.count(0x2a)).toBe(0);
  });

  test("a unit that is not ready yet after the reconnection is waited for", async () => {
    const opened = await openLun();
    const { device, disk, run } = opened;
    for (let count = 0; count < 5; count += 1) disk.nextResults.push({ opcode: 0, status: 2, sense: sense(2, 4, 1) });
    disk.nextResults.push({ opcode: 0, status: 2, sense: sense(5, 0x25, 0) });
    opened.target.connection.close();
    await run(device.write(0, Buffer.alloc(BLOCK, 8)));
    expect(disk.data[0]).toBe(8);
  });
});

describe("zeroes, release and block status", () => {
  test("WRITE SAME in pieces the unit takes, releasing blocks when that is allowed", async () => {
    const { device, disk, run } = await openLun();
    disk.data.fill(0xff);
    await run(device.writeZeroes({ offsetBytes: 0, lengthBytes: 600 * BLOCK }, { mayUnmap: true }));
    const sent = disk.commands.filter((cdb) => cdb[0] === 0x93);
    expect(sent.map((cdb) => [cdb.readUInt32BE(6), cdb.readUInt32BE(10), cdb[1]])).toEqual([
      [0, 256, 8],
      [256, 256, 8],
      [512, 88, 8],
    ]);
    expect(disk.data.subarray(0, 600 * BLOCK).every((byte) => byte === 0)).toBe(true);
    expect(disk.data[600 * BLOCK]).toBe(0xff);
  });

  test("with FUA the zeroes are flushed", async () => {
    const { device, disk, run } = await openLun();
    await run(device.writeZeroes({ offsetBytes: 0, lengthBytes: BLOCK }, { fua: true }));
    expect(disk.commands.slice(-2).map((cdb) => cdb[0])).toEqual([0x93, 0x35]);
  });

  test("a unit without WRITE SAME gets plain zeroes, and is not asked again", async () => {
    const { device, disk, run } = await openLun((changed) => (changed.supportsWriteSame = false));
    disk.data.fill(0xff);
    await run(device.writeZeroes({ offsetBytes: BLOCK, lengthBytes: 300 * BLOCK }));
    await run(device.writeZeroes({ offsetBytes: BLOCK, lengthBytes: BLOCK }));
    expect(disk.count(0x93)).toBe(1);
    expect(disk.count(0x2a)).toBe(4);
    expect(disk.data.subarray(BLOCK, 301 * BLOCK).every((byte) => byte === 0)).toBe(true);
    expect([disk.data[0], disk.data[301 * BLOCK]]).toEqual([0xff, 0xff]);
  });

  test("UNMAP", async () => {
    const { device, disk, run } = await openLun();
    disk.data.fill(0xff);
    await run(
      device.unmap([
        { offsetBytes: 0, lengthBytes: 8 * BLOCK },
        { offsetBytes: 16 * BLOCK, lengthBytes: 8 * BLOCK },
      ]),
    );
    expect(disk.count(0x42)).toBe(1);
    expect([disk.data[0], disk.data[8 * BLOCK], disk.data[16 * BLOCK]]).toEqual([0, 0xff, 0]);
  });

  test("block status begins where it was asked to", async () => {
    const { device, run } = await openLun();
    expect(await run(device.blockStatus({ offsetBytes: 4 * BLOCK, lengthBytes: 100 * BLOCK }))).toEqual([
      { offsetBytes: 4 * BLOCK, lengthBytes: 8 * BLOCK, isAllocated: true, readsZeroes: false },
    ]);
  });
});

describe("closing", () => {
  test("outstanding operations settle first, later ones fail", async () => {
    const { device, run, clock } = await openLun();
    const reading = device.read(0, Buffer.alloc(BLOCK));
    await run(Promise.all([reading, device.close()]));
    await expect(device.read(0, Buffer.alloc(BLOCK))).rejects.toMatchObject({ code: "BLOCK_CLOSED" });
    await clock.advance(1);
  });

  test("is not held up by a path that is gone", async () => {
    const { device, run, target, session, clock } = await openLun();
    target.loginRefusal = { statusClass: 3, statusDetail: 0 };
    target.connection.close();
    await clock.advance(1);
    const reading = device.read(0, Buffer.alloc(BLOCK));
    reading.catch(() => undefined);
    await run(device.close());
    session.close();
    await expect(run(reading)).rejects.toMatchObject({ code: "BLOCK_CLOSED" });
    expect(clock.pendingTimers).toBe(0);
  });
});
