import { MemoryDevice } from "../../../src/block/memory-device.js";
import { outcomeOf, ready, TargetWorld, type TargetPeer } from "./target-peer.js";

/**
 * Responses laid out by hand from SPC-5 and SBC-4. The unit: 1 MiB, 2048 blocks of 512 bytes, physical blocks of
 * 512, thin, NAA 3111222233334444.
 */
async function hexOf(peer: TargetPeer, cdb: string, bytes: number): Promise<string> {
  return (await peer.run(cdb, bytes)).data.toString("hex");
}

describe("INQUIRY", () => {
  test("standard data says disk, SPC-4, queueing, and names vendor and product", async () => {
    const { data, residual } = await (await ready()).run("12 00 00 00 ff 00", 255);
    // Type 0; not removable; SPC-4; format 2 with HISUP; 91 bytes follow; TPGS 01b and 3PC; CMDQUE.
    expect(data.subarray(0, 8).toString("hex")).toBe("000006125b180002");
    expect(data.toString("latin1", 8, 36)).toBe("HAWSER  memory          1   ");
    // SAM-5, SPC-4, SBC-3, iSCSI with the default iSCSIProtocolLevel 1 (RFC 7144 §4.2).
    expect(data.subarray(58, 66).toString("hex")).toBe("00a0046004c00961");
    expect([data.length, residual]).toEqual([96, -159]);
  });

  test("is cut to the allocation length, its length field is not", async () => {
    expect(await hexOf(await ready(), "12 00 00 00 05 00", 5)).toBe("000006125b");
  });

  test.each([
    ["supported pages", "12 01 00 00 ff 00", "0000000700808386b0b1b2"],
    ["logical block provisioning: UNMAP, WRITE SAME both, reads zeroes, thin", "12 01 b2 00 ff 00", "00b2000400e40200"],
  ])("VPD %s", async (_, cdb, expected) => {
    expect(await hexOf(await ready(), cdb, 255)).toBe(expected);
  });

  test("device identification begins with the device's own NAA name", async () => {
    const hex = await hexOf(await ready(), "12 01 83 00 ff 00", 255);
    // Code set binary, logical unit, NAA, eight bytes.
    expect(hex.slice(8, 32)).toBe("010300083111222233334444");
    // The target port: iSCSI, SCSI name string, and its name with the portal group.
    expect(Buffer.from(hex, "hex").toString("latin1")).toContain("iqn.2026-11.dev.hawser:unit,t,0x0001\0");
  });

  test("a device without a name gets a locally assigned NAA that stays the same", async () => {
    const naaOf = async (serial: string): Promise<string> => {
      const device = new MemoryDevice({ sizeBytes: 1_048_576, serial });
      const peer = await ready({}, new TargetWorld({ devices: [device] }));
      return (await hexOf(peer, "12 01 83 00 ff 00", 255)).slice(8, 32);
    };
    const first = await naaOf("A");
    expect(first).toMatch(/^010300083[0-9a-f]{15}$/);
    expect(await naaOf("A")).toBe(first);
    expect(await naaOf("B")).not.toBe(first);
  });

  test.each([
    ["a page without EVPD", "12 00 83 00 ff 00"],
    ["a page that does not exist", "12 01 c7 00 ff 00"],
    ["CMDDT", "12 02 00 00 ff 00"],
  ])("%s is an invalid field", async (_, cdb) => {
    expect(outcomeOf(await (await ready()).run(cdb, 255))).toBe("5/24/00");
  });
});

describe("capacity and LUNs", () => {
  test("READ CAPACITY(10) and (16)", async () => {
    const peer = await ready();
    expect(await hexOf(peer, "25 00 00 00 00 00 00 00 00 00", 8)).toBe("000007ff00000200");
    // Last LBA 2047; 512; no protection; exponent 0; LBPME and LBPRZ.
    const expected = `00000000000007ff000002000000c000${"00".repeat(16)}`;
    expect(await hexOf(peer, "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", 32)).toBe(expected);
  });

  test("blocks of 4096 bytes", async () => {
    const device = new MemoryDevice({ sizeBytes: 1_048_576, logicalBlockBytes: 4096 });
    const peer = await ready({}, new TargetWorld({ devices: [device] }));
    expect(await hexOf(peer, "25 00 00 00 00 00 00 00 00 00", 8)).toBe("000000ff00001000");
    expect(outcomeOf(await peer.runWrite("2a 00 00 00 00 ff 00 00 01 00", Buffer.alloc(4096, 1)))).toBe("good");
  });

  test("REPORT LUNS lists them in order; well-known ones there are none", async () => {
    const devices = [0, 1].map(() => new MemoryDevice({ sizeBytes: 1_048_576 }));
    const peer = await ready({}, new TargetWorld({ devices }));
    const expected = "000000100000000000000000000000000001000000000000";
    expect(await hexOf(peer, "a0 00 00 00 00 00 00 00 01 00 00 00", 256)).toBe(expected);
    expect(await hexOf(peer, "a0 00 01 00 00 00 00 00 01 00 00 00", 256)).toBe("0000000000000000");
  });

  test("a LUN that is not there has qualifier 011b and no commands", async () => {
    const peer = await ready();
    const lun = { high: 0x0007_0000, low: 0 };
    const inquiry = peer.command("12 00 00 00 24 00", { lun, isRead: true, expectedDataTransferLength: 36 });
    expect((await peer.runPdu(inquiry)).data[0]).toBe(0x7f);
    expect(outcomeOf(await peer.runPdu(peer.command("00", { lun })))).toBe("5/25/00");
  });

  test("a device that grew says so once to every session", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    world.device.resize(2_097_152);
    expect(outcomeOf(await peer.run("00"))).toBe("6/2a/09");
    expect(outcomeOf(await peer.run("00"))).toBe("good");
    expect(await hexOf(peer, "25 00 00 00 00 00 00 00 00 00", 8)).toBe("00000fff00000200");
  });
});

describe("unit attentions", () => {
  test("power on at first, nexus loss after a relogin; INQUIRY does not take them, REQUEST SENSE does", async () => {
    const world = new TargetWorld();
    const first = await world.login();
    expect(outcomeOf(await first.run("12 00 00 00 24 00", 36))).toBe("good");
    expect(outcomeOf(await first.run("00"))).toBe("6/29/00");
    const second = await world.login();
    const sense = await second.run("03 00 00 00 12 00", 18);
    expect([sense.data[2], sense.data[12], sense.data[13]]).toEqual([6, 0x29, 0x07]);
    expect(outcomeOf(await second.run("00"))).toBe("good");
  });
});

describe("blocks", () => {
  const block = (value: number, count = 1): Buffer => Buffer.alloc(512 * count, value);

  test.each([
    ["READ(10) past the end", "28 00 00 00 07 ff 00 00 02 00", "5/21/00"],
    ["READ(16) at 2^63", "88 00 80 00 00 00 00 00 00 00 00 00 00 01 00 00", "5/21/00"],
    ["READ(10) of nothing past the end", "28 00 00 00 08 01 00 00 00 00", "5/21/00"],
    ["READ(10) with RDPROTECT", "28 20 00 00 00 00 00 00 01 00", "5/24/00"],
    ["READ(10) with NACA", "28 00 00 00 00 00 00 00 01 04", "5/24/00"],
    ["READ(12) longer than a transfer may be", "a8 00 00 00 00 00 00 00 40 01 00 00", "5/21/00"],
    ["an opcode nobody has", "ff 00 00 00 00 00", "5/20/00"],
    ["a service action nobody has", "9e 1f 00 00 00 00 00 00 00 00 00 00 00 20 00 00", "5/24/00"],
  ])("%s is refused", async (_, cdb, expected) => {
    expect(outcomeOf(await (await ready()).run(cdb, 1024))).toBe(expected);
  });

  test("READ(6) takes length 0 as 256 blocks", async () => {
    expect((await (await ready()).run("08 00 00 00 00 00", 131_072)).data).toHaveLength(131_072);
  });

  test("COMPARE AND WRITE writes when the data is as expected, and tells where it is not", async () => {
    const peer = await ready();
    const cdb = "89 00 00 00 00 00 00 00 00 05 00 00 00 01 00 00";
    expect(outcomeOf(await peer.runWrite(cdb, Buffer.concat([block(0), block(1)])))).toBe("good");
    const other = block(1);
    other[300] = 2;
    const result = await peer.runWrite(cdb, Buffer.concat([other, block(3)]));
    expect(outcomeOf(result)).toBe("e/1d/00");
    // VALID, and the offset of the first byte that differs.
    expect([result.sense[0], result.sense.readUInt32BE(3)]).toEqual([0xf0, 300]);
    expect((await peer.run("28 00 00 00 00 05 00 00 01 00", 512)).data.equals(block(1))).toBe(true);
  });

  test("of concurrent COMPARE AND WRITEs of one block exactly one wins", async () => {
    const peer = await ready();
    const cdb = "89 00 00 00 00 00 00 00 00 09 00 00 00 01 00 00";
    const commands = [1, 2, 3, 4].map((value) =>
      peer.command(cdb, {
        isWrite: true,
        expectedDataTransferLength: 1024,
        data: Buffer.concat([block(0), block(value)]),
      }),
    );
    await peer.send(...commands);
    const outcomes = commands.map((command) => outcomeOf(peer.result(command.initiatorTaskTag)));
    expect(outcomes.sort()).toEqual(["e/1d/00", "e/1d/00", "e/1d/00", "good"]);
  });

  test("ORWRITE keeps the bits that are set", async () => {
    const peer = await ready();
    await peer.runWrite("2a 00 00 00 00 02 00 00 01 00", block(0x0f));
    await peer.runWrite("8b 00 00 00 00 00 00 00 00 02 00 00 00 01 00 00", block(0x30));
    expect((await peer.run("28 00 00 00 00 02 00 00 01 00", 512)).data.equals(block(0x3f))).toBe(true);
  });

  test("VERIFY compares all data (BYTCHK 1) or one block with every block (BYTCHK 3)", async () => {
    const peer = await ready();
    await peer.runWrite("2a 00 00 00 00 00 00 00 02 00", block(7, 2));
    expect(outcomeOf(await peer.runWrite("2f 02 00 00 00 00 00 00 02 00", block(7, 2)))).toBe("good");
    expect(outcomeOf(await peer.runWrite("2f 02 00 00 00 00 00 00 02 00", block(8, 2)))).toBe("e/1d/00");
    expect(outcomeOf(await peer.runWrite("2f 06 00 00 00 00 00 00 02 00", block(7)))).toBe("good");
    expect(outcomeOf(await peer.runWrite("2f 06 00 00 00 00 00 00 03 00", block(7)))).toBe("e/1d/00");
    expect(outcomeOf(await peer.run("2f 00 00 00 00 00 00 00 02 00"))).toBe("good");
  });

  test("WRITE SAME repeats the block; with UNMAP and zeroes it releases", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    expect(outcomeOf(await peer.runWrite("93 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00", block(5)))).toBe("good");
    expect((await peer.run("28 00 00 00 00 ff 00 00 01 00", 512)).data.equals(block(5))).toBe(true);
    expect(world.device.allocatedBytes).toBeGreaterThan(0);
    expect(outcomeOf(await peer.run("93 09 00 00 00 00 00 00 00 00 00 00 01 00 00 00"))).toBe("good");
    expect(world.device.allocatedBytes).toBe(0);
    expect(outcomeOf(await peer.runWrite("41 00 00 00 00 00 00 00 00 00", block(5)))).toBe("5/24/00");
  });

  test("a WRITE SAME with UNMAP whose pattern is not zero writes the pattern", async () => {
    const peer = await ready();
    expect(outcomeOf(await peer.runWrite("41 08 00 00 00 00 00 00 04 00", block(0xff)))).toBe("good");
    expect((await peer.run("28 00 00 00 00 03 00 00 01 00", 512)).data.equals(block(0xff))).toBe(true);
  });

  test("UNMAP releases its ranges and checks them first", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    await peer.runWrite("2a 00 00 00 00 00 00 01 00 00", block(1, 256));
    const list = (lba: number, blocks: number): Buffer => {
      const bytes = Buffer.alloc(24);
      bytes.writeUInt16BE(22, 0);
      bytes.writeUInt16BE(16, 2);
      bytes.writeUInt32BE(lba, 12);
      bytes.writeUInt32BE(blocks, 16);
      return bytes;
    };
    expect(outcomeOf(await peer.runWrite("42 00 00 00 00 00 00 00 18 00", list(2047, 2)))).toBe("5/21/00");
    expect(outcomeOf(await peer.runWrite("42 00 00 00 00 00 00 00 18 00", list(0, 256)))).toBe("good");
    expect(world.device.allocatedBytes).toBe(0);
    // One extent of 2048 blocks from LBA 0, deallocated.
    const status = await peer.run("9e 12 00 00 00 00 00 00 00 00 00 00 00 18 00 00", 24);
    expect(status.data.toString("hex")).toBe("000000140000000000000000000000000000080001000000");
    expect(outcomeOf(await peer.runWrite("42 00 00 00 00 00 00 00 18 00", list(0, 256).subarray(0, 16)))).toBe(
      "5/1a/00",
    );
  });

  test("WRITE ATOMIC is there only where the device was said to keep it whole", async () => {
    const cdb = "9c 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00";
    expect(outcomeOf(await (await ready()).runWrite(cdb, block(1)))).toBe("5/20/00");
    const world = new TargetWorld({ offersAtomicWrites: true });
    expect(outcomeOf(await (await ready({}, world)).runWrite(cdb, block(1)))).toBe("good");
  });

  test("a read-only device refuses every write and says so in MODE SENSE", async () => {
    const device = new MemoryDevice({ sizeBytes: 1_048_576, isReadOnly: true });
    const peer = await ready({}, new TargetWorld({ devices: [device] }));
    expect(outcomeOf(await peer.runWrite("2a 00 00 00 00 00 00 00 01 00", block(1)))).toBe("7/27/00");
    expect(outcomeOf(await peer.run("42 00 00 00 00 00 00 00 00 00"))).toBe("7/27/00");
    expect((await peer.run("1a 08 0a 00 ff 00", 255)).data[2]).toBe(0x90);
  });
});

describe("control", () => {
  test("MODE SELECT of SWP protects, tells the others, and of D_SENSE changes the sense format", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    const other = await world.login({ isid: "800000000002" });
    await other.clearAttention();
    // Header of four bytes, control page: D_SENSE in byte 2, QAM 1 in byte 3, SWP in byte 4.
    const page = "00000000" + "0a0a04100800" + "0000ffff0000";
    expect(outcomeOf(await peer.runWrite("15 10 00 00 10 00", Buffer.from(page, "hex")))).toBe("good");
    expect((await other.run("00")).sense.subarray(0, 4).toString("hex")).toBe("72062a01");
    const refused = await peer.runWrite("2a 00 00 00 00 00 00 00 01 00", Buffer.alloc(512));
    expect(refused.sense.subarray(0, 4).toString("hex")).toBe("72072702");
    const wrong = "00000000" + "0a0a00ff0000" + "0000ffff0000";
    expect(
      (await peer.runWrite("15 10 00 00 10 00", Buffer.from(wrong, "hex"))).sense.subarray(1, 4).toString("hex"),
    ).toBe("052600");
  });

  test("a stopped unit is not ready until it is started", async () => {
    const peer = await ready();
    await peer.run("1b 00 00 00 00 00");
    expect(outcomeOf(await peer.run("28 00 00 00 00 00 00 00 01 00", 512))).toBe("2/04/02");
    await peer.run("1b 00 00 00 01 00");
    expect(outcomeOf(await peer.run("28 00 00 00 00 00 00 00 01 00", 512))).toBe("good");
  });

  test("SANITIZE BLOCK ERASE leaves zeroes", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    await peer.runWrite("2a 00 00 00 00 00 00 00 01 00", Buffer.alloc(512, 1));
    expect(outcomeOf(await peer.run("48 02 00 00 00 00 00 00 00 00"))).toBe("good");
    expect(world.device.allocatedBytes).toBe(0);
    expect(outcomeOf(await peer.run("48 02 00 00 01 00 00 00 00 00"))).toBe("5/24/00");
  });

  test("REPORT SUPPORTED OPERATION CODES describes one command with its bits", async () => {
    const peer = await ready();
    const one = await peer.run("a3 0c 01 28 00 00 00 00 00 40 00 00", 64);
    expect(one.data.toString("hex")).toBe("0003000a28f8ffffffff00ffff00");
    const withAction = await peer.run("a3 0c 82 9e 00 10 00 00 00 40 00 00", 64);
    expect(withAction.data.toString("hex")).toBe(
      "00830010" + "9e100000000000000000ffffffff0000" + "000a0000000000000000003c",
    );
    expect((await peer.run("a3 0c 01 f0 00 00 00 00 00 40 00 00", 64)).data.toString("hex")).toBe("00010000");
  });

  test("REPORT TARGET PORT GROUPS: one group, active and optimized", async () => {
    const { data } = await (await ready()).run("a3 0a 00 00 00 00 00 00 00 40 00 00", 64);
    expect(data.toString("hex")).toBe("0000000c" + "80cf000100000001" + "00000001");
  });
});
