import { PersistentReservations, type ReservationState } from "../../../src/target/scsi/persistent-reservations.js";
import { createDeferred } from "../../../src/base/deferred.js";
import { silentLogger } from "../../../src/base/logger.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { FaultDevice } from "../../support/fault-device.js";
import { dataOut, outcomeOf, ready, TargetWorld, type TargetPeer } from "./target-peer.js";

const CONFLICT = "status 18";
const KEY_A = "00000000000000aa";
const KEY_B = "00000000000000bb";

/** PERSISTENT RESERVE OUT: service action, type, key, service action key. */
async function prOut(
  peer: TargetPeer,
  action: number,
  type: number,
  key: string,
  newKey = "",
  aptpl = 0,
): Promise<string> {
  const hex = (value: number): string => value.toString(16).padStart(2, "0");
  const list = Buffer.alloc(24);
  list.write(key, 0, "hex");
  list.write(newKey, 8, "hex");
  list[20] = aptpl;
  return outcomeOf(await peer.runWrite(`5f ${hex(action)} ${hex(type)} 00 00 00 00 00 18 00`, list));
}

async function prIn(peer: TargetPeer, action: number): Promise<string> {
  return (await peer.run(`5e 0${action} 00 00 00 00 00 04 00 00`, 1024)).data.toString("hex");
}

const read = async (peer: TargetPeer): Promise<string> =>
  outcomeOf(await peer.run("28 00 00 00 00 00 00 00 01 00", 512));
const write = async (peer: TargetPeer): Promise<string> =>
  outcomeOf(await peer.runWrite("2a 00 00 00 00 00 00 00 01 00", Buffer.alloc(512)));

async function peers(world = new TargetWorld()): Promise<[TargetPeer, TargetPeer, TargetPeer]> {
  const all = [];
  for (const number of [1, 2, 3]) {
    const peer = await world.login({ isid: `80000000000${number}`, initiatorName: `iqn.2026-11.a:node${number}` });
    await peer.clearAttention();
    all.push(peer);
  }
  return all as [TargetPeer, TargetPeer, TargetPeer];
}

describe("the reservation types, for the holder, another registrant and a stranger", () => {
  // SPC-5 Table 63: read and write of each.
  test.each([
    ["write exclusive", 1, ["good", "good"], ["good", CONFLICT], ["good", CONFLICT]],
    ["exclusive access", 3, ["good", "good"], [CONFLICT, CONFLICT], [CONFLICT, CONFLICT]],
    ["write exclusive, registrants only", 5, ["good", "good"], ["good", "good"], ["good", CONFLICT]],
    ["exclusive access, registrants only", 6, ["good", "good"], ["good", "good"], [CONFLICT, CONFLICT]],
    ["write exclusive, all registrants", 7, ["good", "good"], ["good", "good"], ["good", CONFLICT]],
    ["exclusive access, all registrants", 8, ["good", "good"], ["good", "good"], [CONFLICT, CONFLICT]],
  ])("%s", async (_, type, holder, registrant, stranger) => {
    const [a, b, c] = await peers();
    expect(await prOut(a, 0, 0, "", KEY_A)).toBe("good");
    expect(await prOut(b, 0, 0, "", KEY_B)).toBe("good");
    expect(await prOut(a, 1, type, KEY_A)).toBe("good");
    expect([await read(a), await write(a)]).toEqual(holder);
    expect([await read(b), await write(b)]).toEqual(registrant);
    expect([await read(c), await write(c)]).toEqual(stranger);
    expect(outcomeOf(await c.run("12 00 00 00 24 00", 36))).toBe("good");
    expect(outcomeOf(await c.run("00"))).toBe("good");
    // Generation 2 (two registrations), 16 bytes: key (zero for all registrants), scope 0 and type.
    const key = type >= 7 ? "0".repeat(16) : KEY_A;
    expect(await prIn(c, 1)).toBe(
      `0000000200000010${key}000000000` + `0${type.toString(16).padStart(2, "0")}0000`.padStart(7, "0"),
    );
  });
});

describe("registration", () => {
  test("needs the key that is there, and keys are read back in order", async () => {
    const [a, b] = await peers();
    expect(await prOut(a, 0, 0, KEY_B, KEY_A)).toBe(CONFLICT);
    expect(await prOut(a, 0, 0, "", KEY_A)).toBe("good");
    expect(await prOut(a, 0, 0, KEY_B, KEY_B)).toBe(CONFLICT);
    expect(await prOut(b, 6, 0, "ffffffffffffffff", KEY_B)).toBe("good");
    expect(await prIn(a, 0)).toBe(`0000000200000010${KEY_A}${KEY_B}`);
    expect(await prOut(b, 1, 1, KEY_A)).toBe(CONFLICT);
  });

  test("survives the session, and the full status names the port", async () => {
    const world = new TargetWorld();
    const [a] = await peers(world);
    await prOut(a, 0, 0, "", KEY_A);
    await prOut(a, 1, 1, KEY_A);
    const again = await world.login({ isid: "800000000001", initiatorName: "iqn.2026-11.a:node1" });
    await again.clearAttention();
    expect(await write(again)).toBe("good");
    const status = Buffer.from(await prIn(again, 3), "hex");
    expect(status.toString("hex", 8, 16)).toBe(KEY_A);
    // R_HOLDER, type 1, relative port 1; TransportID of an iSCSI port.
    expect(status.toString("hex", 20, 28)).toBe("0101000000000001");
    expect(status[32]).toBe(0x45);
    expect(status.toString("latin1", 36)).toContain("iqn.2026-11.a:node1,i,0x800000000001\0");
  });

  test("a registration that ends releases the reservation and tells the other registrants", async () => {
    const [a, b, c] = await peers();
    await prOut(a, 0, 0, "", KEY_A);
    await prOut(b, 0, 0, "", KEY_B);
    await prOut(a, 1, 5, KEY_A);
    expect(await prOut(a, 0, 0, KEY_A)).toBe("good");
    expect(outcomeOf(await b.run("00"))).toBe("6/2a/04");
    expect(outcomeOf(await c.run("00"))).toBe("good");
    expect(await prIn(a, 1)).toBe("0000000300000000");
  });

  test("APTPL is refused without a store, and kept with one", async () => {
    const [a] = await peers();
    expect(await prOut(a, 0, 0, "", KEY_A, 1)).toBe("5/26/00");
    const saved = new Map<string, ReservationState | undefined>();
    const store = {
      load: (id: string) => saved.get(id),
      save: (id: string, state: ReservationState | undefined) => Promise.resolve(void saved.set(id, state)),
    };
    const [first] = await peers(new TargetWorld({}, { reservationStore: store }));
    expect(await prOut(first, 0, 0, "", KEY_A, 1)).toBe("good");
    expect(await prOut(first, 1, 3, KEY_A)).toBe("good");
    const [again, stranger] = await peers(new TargetWorld({}, { reservationStore: store }));
    expect([await write(again), await write(stranger)]).toEqual(["good", CONFLICT]);
  });
});

describe("release, clear, preempt, move", () => {
  test("only the holder releases, and only with the type", async () => {
    const [a, b] = await peers();
    await prOut(a, 0, 0, "", KEY_A);
    await prOut(b, 0, 0, "", KEY_B);
    await prOut(a, 1, 1, KEY_A);
    expect(await prOut(b, 2, 1, KEY_B)).toBe("good");
    expect(await prOut(a, 2, 3, KEY_A)).toBe("5/26/04");
    expect(await write(b)).toBe(CONFLICT);
    expect(await prOut(a, 2, 1, KEY_A)).toBe("good");
    expect(await write(b)).toBe("good");
  });

  test("CLEAR ends everything and tells the others", async () => {
    const [a, b] = await peers();
    await prOut(a, 0, 0, "", KEY_A);
    await prOut(b, 0, 0, "", KEY_B);
    await prOut(a, 1, 3, KEY_A);
    expect(await prOut(b, 3, 0, KEY_B)).toBe("good");
    expect(outcomeOf(await a.run("00"))).toBe("6/2a/03");
    expect(await prIn(a, 0)).toBe("0000000300000000");
  });

  test("PREEMPT takes the reservation over and removes the registration it took it from", async () => {
    const [a, b] = await peers();
    await prOut(a, 0, 0, "", KEY_A);
    await prOut(b, 0, 0, "", KEY_B);
    await prOut(a, 1, 1, KEY_A);
    expect(await prOut(b, 4, 1, KEY_B, "00000000000000cc")).toBe(CONFLICT);
    expect(await prOut(b, 4, 1, KEY_B, KEY_A)).toBe("good");
    expect(outcomeOf(await a.run("00"))).toBe("6/2a/05");
    expect([await write(a), await write(b)]).toEqual([CONFLICT, "good"]);
    expect(await prIn(b, 0)).toBe(`0000000300000008${KEY_B}`);
  });

  test("PREEMPT AND ABORT ends the victim's tasks", async () => {
    const world = new TargetWorld();
    const [a] = await peers(world);
    const victim = await world.login({ isid: "800000000007", keys: { InitialR2T: "Yes", ImmediateData: "No" } });
    await victim.clearAttention();
    await prOut(a, 0, 0, "", KEY_A);
    const list = Buffer.alloc(24);
    list.write(KEY_B, 8, "hex");
    const register = victim.command("5f 00 00 00 00 00 00 00 18 00", { isWrite: true, expectedDataTransferLength: 24 });
    await victim.send(register);
    const r2t = victim.next("ready-to-transfer");
    const { dataOut } = await import("./target-peer.js");
    await victim.send(dataOut(register.initiatorTaskTag, { targetTransferTag: r2t.targetTransferTag, data: list }));
    expect(outcomeOf(victim.result(register.initiatorTaskTag))).toBe("good");
    await victim.send(
      victim.command("2a 00 00 00 00 00 00 00 01 00", { isWrite: true, expectedDataTransferLength: 512 }),
    );
    const { targetTransferTag, initiatorTaskTag } = victim.next("ready-to-transfer");
    expect(await prOut(a, 5, 1, KEY_A, KEY_B)).toBe("good");
    await victim.send(dataOut(initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(512, 9) }));
    expect(victim.received).toEqual([]);
    expect(world.device.allocatedBytes).toBe(0);
  });

  test("REGISTER AND MOVE gives the reservation to another port", async () => {
    const [a, b] = await peers();
    await prOut(a, 0, 0, "", KEY_A);
    await prOut(a, 1, 1, KEY_A);
    const name = Buffer.from("iqn.2026-11.a:node2,i,0x800000000002\0\0\0\0");
    const id = Buffer.concat([Buffer.from([0x45, 0, 0, name.length]), name]);
    const list = Buffer.alloc(24);
    list.write(KEY_A, 0, "hex");
    list.write(KEY_B, 8, "hex");
    list[17] = 0x02; // UNREG
    list.writeUInt16BE(1, 18);
    list.writeUInt32BE(id.length, 20);
    const data = Buffer.concat([list, id]);
    expect(outcomeOf(await a.runWrite(`5f 07 01 00 00 00 00 00 ${data.length.toString(16)} 00`, data))).toBe("good");
    expect([await write(a), await write(b)]).toEqual([CONFLICT, "good"]);
    expect(await prIn(b, 0)).toBe(`0000000200000008${KEY_B}`);
  });
});

describe("one initiator port at two target ports is two nexuses (SPC-5 §5.13)", () => {
  const portals = [
    { host: "192.0.2.1", port: 3260 },
    { host: "192.0.2.2", port: 3260, portalGroupTag: 2 },
  ];

  /** Node 1 over portal groups 1 and 2, node 2 likewise. */
  async function paths(
    world = new TargetWorld({ portals }),
  ): Promise<[TargetPeer, TargetPeer, TargetPeer, TargetPeer]> {
    const all = [];
    for (const node of [1, 2]) {
      for (const portal of [0, 1]) {
        const initiatorName = `iqn.2026-11.a:node${node}`;
        const peer = await world.login({ isid: "800000000001", initiatorName, portal });
        await peer.clearAttention();
        all.push(peer);
      }
    }
    return all as [TargetPeer, TargetPeer, TargetPeer, TargetPeer];
  }

  test("a registration at one counts for that one only, and the full status names the target port", async () => {
    const [a1, a2, b1] = await paths();
    expect(await prOut(a1, 0, 0, "", KEY_A)).toBe("good");
    expect(await prOut(a1, 1, 5, KEY_A)).toBe("good");
    expect([await write(a1), await write(a2), await write(b1)]).toEqual(["good", CONFLICT, CONFLICT]);
    expect(await prOut(a2, 1, 5, KEY_A)).toBe(CONFLICT);
    expect(await prOut(a2, 0, 0, "", KEY_A)).toBe("good");
    expect([await write(a2), await write(b1)]).toEqual(["good", CONFLICT]);
    const status = Buffer.from(await prIn(a2, 3), "hex");
    // Two descriptors of 24 bytes and a TransportID of 4 + 40: R_HOLDER, then the relative target port.
    expect(status.readUInt32BE(4)).toBe(2 * (24 + 44));
    const descriptors = [status.subarray(8, 76), status.subarray(76)];
    expect(descriptors.map((bytes) => [bytes[12], bytes.readUInt16BE(18)])).toEqual([
      [1, 1],
      [0, 2],
    ]);
    const name = Buffer.from("iqn.2026-11.a:node1,i,0x800000000001\0\0\0\0").toString("hex");
    expect(descriptors.map((bytes) => bytes.toString("hex", 28))).toEqual([name, name]);
  });

  test("the end of one session lets the other's unit attentions be", async () => {
    const world = new TargetWorld({ portals });
    const [a1, a2, b1] = await paths(world);
    await prOut(a2, 0, 0, "", KEY_A);
    await prOut(b1, 0, 0, "", KEY_B);
    expect(await prOut(b1, 3, 0, KEY_B)).toBe("good");
    await a1.break();
    expect(outcomeOf(await a2.run("00"))).toBe("6/2a/03");
  });

  test("RESERVE(6) of one excludes the other, until the session at that port ends", async () => {
    const world = new TargetWorld({ portals });
    const [a1, a2] = await paths(world);
    expect(outcomeOf(await a1.run("16 00 00 00 00 00"))).toBe("good");
    expect(await read(a2)).toBe(CONFLICT);
    await a1.break();
    expect(await read(a2)).toBe("good");
  });

  test("ALL_TG_PT is refused where there are several ports, and means the only one where there is one", async () => {
    const [a1, a2] = await paths();
    expect(await prOut(a1, 0, 0, "", KEY_A, 0x04)).toBe("5/26/00");
    expect(await prIn(a2, 0)).toBe("0000000000000000");
    expect(await prOut(await ready(), 0, 0, "", KEY_A, 0x04)).toBe("good");
  });

  test("REGISTER AND MOVE reaches the same initiator's other port, and no port that is not there", async () => {
    const [a1, a2] = await paths();
    await prOut(a1, 0, 0, "", KEY_A);
    await prOut(a1, 1, 1, KEY_A);
    const name = Buffer.from("iqn.2026-11.a:node1,i,0x800000000001\0\0\0\0");
    const move = async (relativePort: number): Promise<string> => {
      const list = Buffer.alloc(24);
      list.write(KEY_A, 0, "hex");
      list.write(KEY_B, 8, "hex");
      list.writeUInt16BE(relativePort, 18);
      list.writeUInt32BE(4 + name.length, 20);
      const data = Buffer.concat([list, Buffer.from([0x45, 0, 0, name.length]), name]);
      return outcomeOf(await a1.runWrite(`5f 07 01 00 00 00 00 00 ${data.length.toString(16)} 00`, data));
    };
    expect([await move(3), await move(1), await move(2)]).toEqual(["5/26/00", "5/26/00", "good"]);
    expect([await write(a1), await write(a2)]).toEqual([CONFLICT, "good"]);
  });

  test("PREEMPT AND ABORT ends the tasks of all nexuses with the key, and answers when none of them writes", async () => {
    const hold = createDeferred<undefined>();
    const inner = new MemoryDevice({ sizeBytes: 1_048_576, physicalBlockBytes: 512 });
    const device = new FaultDevice(inner, ({ operation, offsetBytes }) =>
      operation === "write" && offsetBytes === 0 ? hold.promise : undefined,
    );
    const world = new TargetWorld({ portals, devices: [device] });
    const [a1, , b1, b2] = await paths(world);
    for (const peer of [b1, b2]) expect(await prOut(peer, 0, 0, "", KEY_B)).toBe("good");
    expect(await prOut(a1, 0, 0, "", KEY_A)).toBe("good");
    expect(await prOut(b1, 1, 5, KEY_B)).toBe("good");
    // One write is in the device, the other waits for its data.
    const write512 = { isWrite: true, expectedDataTransferLength: 512 };
    await b1.send(b1.command("2a 00 00 00 00 00 00 00 01 00", { ...write512, data: Buffer.alloc(512, 7) }));
    await b2.send(b2.command("2a 00 00 00 00 01 00 00 01 00", write512));
    const { targetTransferTag, initiatorTaskTag } = b2.next("ready-to-transfer");
    const list = Buffer.from(`${KEY_A}${KEY_B}0000000000000000`, "hex");
    const preempt = a1.command("5f 05 05 00 00 00 00 00 18 00", {
      isWrite: true,
      expectedDataTransferLength: 24,
      data: list,
    });
    await a1.send(preempt);
    await world.clock.advance(1000);
    expect(a1.received).toEqual([]);
    hold.resolve(undefined);
    await world.clock.advance(0);
    expect(outcomeOf(a1.result(preempt.initiatorTaskTag))).toBe("good");
    await b2.send(dataOut(initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(512, 9) }));
    expect([b1.received, b2.received]).toEqual([[], []]);
    expect(device.operations.filter(({ operation }) => operation === "write")).toHaveLength(1);
    expect([outcomeOf(await b1.run("00")), outcomeOf(await b2.run("00"))]).toEqual(["6/2a/05", "6/2a/05"]);
    expect([await write(b1), await write(b2)]).toEqual([CONFLICT, CONFLICT]);
  });
});

describe("RESERVE(6)", () => {
  test("excludes everybody else until it is released or the session ends", async () => {
    const world = new TargetWorld();
    const [a, b] = await peers(world);
    expect(outcomeOf(await a.run("16 00 00 00 00 00"))).toBe("good");
    expect([await read(b), outcomeOf(await b.run("00"))]).toEqual([CONFLICT, CONFLICT]);
    expect(outcomeOf(await b.run("17 00 00 00 00 00"))).toBe("good");
    expect(await read(b)).toBe(CONFLICT);
    await a.sendBytes(Buffer.alloc(0));
    a.stream.destroy();
    await world.clock.advance(0);
    expect(await read(b)).toBe("good");
  });

  test("and persistent reservations exclude each other", async () => {
    const [a, b] = await peers();
    await prOut(a, 0, 0, "", KEY_A);
    expect(outcomeOf(await b.run("16 00 00 00 00 00"))).toBe(CONFLICT);
  });
});

test("an unknown type is refused, and registrations are bounded", () => {
  const reservations = new PersistentReservations({ unitId: "u" }, { logger: silentLogger });
  const nexus = (number: number) => ({
    id: `iqn.a,i,0x${number},t,0x0001`,
    portName: `iqn.a,i,0x${number}`,
    initiatorName: "iqn.a",
    isid: Buffer.alloc(6),
    relativePortId: 1,
  });
  const request = (number: number, type = 0) => ({
    nexus: nexus(number),
    key: "0".repeat(16),
    serviceActionKey: KEY_A,
    type,
  });
  for (let number = 0; number < 1024; number += 1) reservations.register(request(number), { mustMatch: true });
  expect(() => reservations.register(request(2000), { mustMatch: true })).toThrow("5/5504");
  expect(() => reservations.reserve({ ...request(1, 2), key: KEY_A })).toThrow("5/2400");
});

test("a fresh world has no reservation", async () => {
  expect(await prIn(await ready(), 1)).toBe("0000000000000000");
  expect(await prIn(await ready(), 2)).toBe("00080080ea010000");
});
