import type { AluaState } from "../../../src/scsi/alua.js";
import type { TargetDefinition } from "../../../src/target/api.js";
import { lunFromNumber } from "../../../src/base/lun.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { outcomeOf, TARGET_NAME, TargetWorld, type CommandResult, type TargetPeer } from "./target-peer.js";

const RTPG = "a3 0a 00 00 00 00 00 00 01 00 00 00";
const RTPG_EXTENDED = "a3 2a 00 00 00 00 00 00 01 00 00 00";
const TEST_UNIT_READY = "00 00 00 00 00 00";
const STATE_CHANGED = "6/2a/06";

/** Portal groups 1 and 2, with a portal of each. */
function worldOf(definition: Pick<TargetDefinition, "explicitAccessStates"> = {}, unitCount = 1): TargetWorld {
  const portals = [
    { host: "192.0.2.1", port: 3260 },
    { host: "192.0.2.2", port: 3260, portalGroupTag: 2 },
  ];
  const devices = Array.from({ length: unitCount }, () => new MemoryDevice({ sizeBytes: 1_048_576 }));
  return new TargetWorld({ portals, devices, ...definition });
}

/** One initiator port with a session over each portal, past the first unit attention. */
async function bothOf(world: TargetWorld): Promise<[TargetPeer, TargetPeer]> {
  const one = await world.login({ portal: 0 });
  const two = await world.login({ portal: 1 });
  for (const peer of [one, two]) await peer.clearAttention();
  return [one, two];
}

const hexOf = ({ data }: CommandResult): string => data.toString("hex");
const ready = async (peer: TargetPeer): Promise<string> => outcomeOf(await peer.run(TEST_UNIT_READY));

/** SET TARGET PORT GROUPS with descriptors of state and group. */
async function setGroups(peer: TargetPeer, ...changes: [state: number, group: number][]): Promise<string> {
  const list = Buffer.alloc(4 + 4 * changes.length);
  changes.forEach(([state, group], index) => {
    list[4 + 4 * index] = state;
    list.writeUInt16BE(group, 6 + 4 * index);
  });
  return outcomeOf(
    await peer.runWrite(`a4 0a 00 00 00 00 00 00 00 ${list.length.toString(16).padStart(2, "0")} 00 00`, list),
  );
}

describe("what a unit tells of its ports", () => {
  // SPC-5 §6.37: RETURN DATA LENGTH; of each group PREF and state, supported states (T, O, U, S, AN, AO), number,
  // reserved, STATUS CODE, vendor specific, port count; of each port two reserved bytes and its relative identifier.
  test("REPORT TARGET PORT GROUPS lists the groups with their ports, with the short and the extended header", async () => {
    const [one, two] = await bothOf(worldOf());
    const groups = "00cf000100000001" + "00000001" + "00cf000200000001" + "00000002";
    for (const peer of [one, two]) {
      expect(hexOf(await peer.run(RTPG, 256))).toBe("00000018" + groups);
      // Length without its own four bytes; format 001b, no implicit transition time, two reserved bytes.
      expect(hexOf(await peer.run(RTPG_EXTENDED, 256))).toBe("0000001c" + "10000000" + groups);
      expect(hexOf(await peer.run("a3 0a 00 00 00 00 00 00 00 04 00 00", 4))).toBe("00000018");
    }
  });

  test.each<[AluaState, string]>([
    ["active-optimized", "00"],
    ["active-non-optimized", "01"],
    ["standby", "02"],
    ["unavailable", "03"],
    ["offline", "0e"],
    ["transitioning", "0f"],
  ])("%s is state %s, and status code 2 says that the target chose it", async (state, digits) => {
    const world = worldOf();
    const [one] = await bothOf(world);
    world.server.setAccessState(TARGET_NAME, 2, "active-non-optimized");
    world.server.setAccessState(TARGET_NAME, 2, state);
    await one.clearAttention();
    const groups = "00cf000100000001" + "00000001" + `${digits}cf000200020001` + "00000002";
    expect(hexOf(await one.run(RTPG, 256))).toBe("00000018" + groups);
  });

  test("PREF is set and taken back apart from the state", async () => {
    const world = worldOf();
    const [one] = await bothOf(world);
    const firstGroup = async (): Promise<string> => hexOf(await one.run(RTPG, 256)).slice(8, 24);
    world.server.setAccessState(TARGET_NAME, 1, "active-optimized", { isPreferred: true });
    expect(await ready(one)).toBe(STATE_CHANGED);
    expect(await firstGroup()).toBe("80cf000100020001");
    world.server.setAccessState(TARGET_NAME, 1, "active-non-optimized");
    expect(await ready(one)).toBe(STATE_CHANGED);
    expect(await firstGroup()).toBe("81cf000100020001");
    world.server.setAccessState(TARGET_NAME, 1, "active-non-optimized", { isPreferred: false });
    expect(await ready(one)).toBe(STATE_CHANGED);
    expect(await firstGroup()).toBe("01cf000100020001");
  });

  test("INQUIRY: TPGS 01b or 11b, and MULTIP with more than one port", async () => {
    const standard = async (world: TargetWorld): Promise<Buffer> =>
      (await (await world.login()).run("12 00 00 00 60 00", 96)).data;
    const bytes = async (world: TargetWorld): Promise<(number | undefined)[]> => {
      const data = await standard(world);
      return [data[0], data[5], data[6]];
    };
    expect(await bytes(new TargetWorld())).toEqual([0, 0x18, 0]);
    expect(await bytes(worldOf())).toEqual([0, 0x18, 0x10]);
    expect(await bytes(worldOf({ explicitAccessStates: true }))).toEqual([0, 0x38, 0x10]);
  });

  test("VPD page 83h: relative port and target port group are the portal group met", async () => {
    const [one, two] = await bothOf(worldOf());
    const page = "12 01 83 01 00 00";
    // Protocol 5 and binary; PIV, association 01b and type 4, then type 5; four bytes.
    expect(hexOf(await one.run(page, 256))).toContain("51940004" + "00000001" + "51950004" + "00000001");
    expect(hexOf(await two.run(page, 256))).toContain("51940004" + "00000002" + "51950004" + "00000002");
  });
});

describe("a change is told", () => {
  test("to every nexus of every port, once, and not when nothing changes", async () => {
    const world = worldOf({}, 2);
    const [one, two] = await bothOf(world);
    world.server.setAccessState(TARGET_NAME, 2, "active-non-optimized");
    world.server.setAccessState(TARGET_NAME, 2, "active-optimized");
    expect([await ready(one), await ready(two)]).toEqual([STATE_CHANGED, STATE_CHANGED]);
    expect([await ready(one), await ready(two)]).toEqual(["good", "good"]);
    world.server.setAccessState(TARGET_NAME, 2, "active-optimized");
    expect([await ready(one), await ready(two)]).toEqual(["good", "good"]);
  });

  test("before the state refuses anything", async () => {
    const world = worldOf();
    const [, two] = await bothOf(world);
    world.server.setAccessState(TARGET_NAME, 2, "unavailable");
    expect([await ready(two), await ready(two)]).toEqual([STATE_CHANGED, "2/04/0c"]);
  });

  test.each<[number, AluaState, string]>([
    [3, "standby", "portal group 3"],
    [1, "lba-dependent", "lba-dependent"],
    [1, "unknown", "unknown"],
  ])("one of group %i to %s is no change that can be made", (group, state, reason) => {
    const world = worldOf();
    expect(() => world.server.setAccessState(TARGET_NAME, group, state)).toThrow(
      expect.objectContaining({ code: "TARGET_INVALID", message: expect.stringContaining(reason) as unknown }),
    );
    expect(() => world.server.setAccessState("iqn.nobody", 1, "standby")).toThrow(
      expect.objectContaining({ code: "TARGET_NOT_FOUND" }),
    );
  });
});

describe("what each state lets through (SPC-5 §5.18.2.4, §5.18.2.5)", () => {
  const reads = {
    inquiry: "12 00 00 00 60 00",
    "report luns": "a0 00 00 00 00 00 00 00 01 00 00 00",
    "request sense": "03 00 00 00 fc 00",
    "report groups": RTPG,
    "mode sense (6)": "1a 00 3f 00 ff 00",
    "mode sense (10)": "5a 00 3f 00 00 00 00 00 ff 00",
    "reserve in": "5e 00 00 00 00 00 00 01 00 00",
    "read (10)": "28 00 00 00 00 00 00 00 01 00",
    "read (16)": "88 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00",
    "read capacity (10)": "25 00 00 00 00 00 00 00 00 00",
    "read capacity (16)": "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00",
    "report opcodes": "a3 0c 00 00 00 00 00 00 01 00 00 00",
  };
  const others = {
    "test unit ready": TEST_UNIT_READY,
    "send diagnostic": "1d 04 00 00 00 00",
    "synchronize cache": "35 00 00 00 00 00 00 00 00 00",
    "reserve (6)": "16 00 00 00 00 00",
    "release (6)": "17 00 00 00 00 00",
    "start stop unit": "1b 00 00 00 01 00",
  };
  const writes: Readonly<Record<string, [cdb: string, data: Buffer]>> = {
    "write (10)": ["2a 00 00 00 00 00 00 00 01 00", Buffer.alloc(512)],
    "reserve out": ["5f 06 00 00 00 00 00 00 18 00", Buffer.alloc(24)],
    "set groups": ["a4 0a 00 00 00 00 00 00 00 04 00 00", Buffer.alloc(4)],
    "mode select (6)": ["15 10 00 00 04 00", Buffer.alloc(4)],
  };

  /** Which commands were good, and what all others ended with. */
  async function tried(peer: TargetPeer): Promise<{ readonly good: string[]; readonly refusals: string[] }> {
    const outcomes: [string, string][] = [];
    for (const [name, cdb] of Object.entries(reads)) outcomes.push([name, outcomeOf(await peer.run(cdb, 512))]);
    for (const [name, cdb] of Object.entries(others)) outcomes.push([name, outcomeOf(await peer.run(cdb))]);
    for (const [name, [cdb, data]] of Object.entries(writes)) {
      outcomes.push([name, outcomeOf(await peer.runWrite(cdb, data))]);
    }
    const refused = outcomes.filter(([, outcome]) => outcome !== "good");
    return {
      good: outcomes.filter(([, outcome]) => outcome === "good").map(([name]) => name),
      refusals: [...new Set(refused.map(([, outcome]) => outcome))],
    };
  }

  const everything = [...Object.keys(reads), ...Object.keys(others), ...Object.keys(writes)];
  const always = ["inquiry", "report luns", "request sense", "report groups"];
  const inStandby = [
    ...always,
    "mode sense (6)",
    "mode sense (10)",
    "reserve in",
    "send diagnostic",
    "reserve out",
    "set groups",
    "mode select (6)",
  ];

  test.each<[AluaState, readonly string[], readonly string[]]>([
    ["active-optimized", everything, []],
    ["active-non-optimized", everything, []],
    ["standby", inStandby, ["2/04/0b"]],
    ["unavailable", [...always, "set groups"], ["2/04/0c"]],
    ["offline", [...always, "set groups"], ["2/04/12"]],
    ["transitioning", always, ["2/04/0a"]],
  ])("%s", async (state, good, refusals) => {
    const world = worldOf({ explicitAccessStates: true });
    const [one, two] = await bothOf(world);
    if (state !== "active-optimized") world.server.setAccessState(TARGET_NAME, 2, state);
    await one.clearAttention();
    await two.clearAttention();
    expect(await tried(two)).toEqual({ good, refusals });
    // MODE SELECT of the one owes the other an attention.
    await one.clearAttention();
    expect(await tried(one)).toEqual({ good: everything, refusals: [] });
  });

  test("REQUEST SENSE tells why the unit is not ready at this port, and nothing at the other", async () => {
    const world = worldOf();
    const [one, two] = await bothOf(world);
    world.server.setAccessState(TARGET_NAME, 2, "standby");
    for (const peer of [one, two]) await peer.clearAttention();
    const sense = async (peer: TargetPeer): Promise<string> => {
      const { data } = await peer.run("03 00 00 00 fc 00", 252);
      return `${data.toString("hex", 2, 3)}/${data.toString("hex", 12, 14)}`;
    };
    expect([await sense(one), await sense(two)]).toEqual(["00/0000", "02/040b"]);
  });

  test("at an unavailable port INQUIRY has the peripheral qualifier 001b", async () => {
    const world = worldOf();
    const [one, two] = await bothOf(world);
    world.server.setAccessState(TARGET_NAME, 2, "unavailable");
    const first = async (peer: TargetPeer, cdb: string): Promise<number | undefined> =>
      (await peer.run(cdb, 252)).data[0];
    expect([await first(one, "12 00 00 00 60 00"), await first(one, "12 01 83 00 fc 00")]).toEqual([0, 0]);
    expect([await first(two, "12 00 00 00 60 00"), await first(two, "12 01 83 00 fc 00")]).toEqual([0x20, 0x20]);
  });
});

describe("SET TARGET PORT GROUPS (SPC-5 §6.45)", () => {
  test("is no command where the target alone chooses, and REPORT SUPPORTED OPERATION CODES says so", async () => {
    const [one] = await bothOf(worldOf());
    expect(await setGroups(one, [1, 2])).toBe("5/20/00");
    expect(hexOf(await one.run("a3 0c 02 a4 00 0a 00 00 00 40 00 00", 64))).toBe("00010000");
  });

  test("has a usage map where it is served", async () => {
    const [one] = await bothOf(worldOf({ explicitAccessStates: true }));
    expect(hexOf(await one.run("a3 0c 02 a4 00 0a 00 00 00 40 00 00", 64))).toBe(
      "0003000c" + "a40a00000000ffffffff0000",
    );
  });

  test("changes states, tells all other nexuses, and status code 1 says who it was", async () => {
    const [one, two] = await bothOf(worldOf({ explicitAccessStates: true }, 2));
    expect(await setGroups(one, [0x3, 1], [0x1, 2])).toBe("good");
    expect(await ready(two)).toBe(STATE_CHANGED);
    expect(await ready(one)).toBe("2/04/0c");
    const groups = "03cf000100010001" + "00000001" + "01cf000200010001" + "00000002";
    expect(hexOf(await one.run(RTPG, 256))).toBe("00000018" + groups);
    expect(await setGroups(one, [0x0, 1])).toBe("good");
    expect(await ready(one)).toBe("good");
  });

  test("tells the nexus that asked, too, of the change on the target's other units", async () => {
    const world = worldOf({ explicitAccessStates: true }, 2);
    const [one] = await bothOf(world);
    const onOther = async (): Promise<string> =>
      outcomeOf(await one.runPdu(one.command(TEST_UNIT_READY, { lun: lunFromNumber(1) })));
    expect([await onOther(), await onOther()]).toEqual(["6/29/00", "good"]);
    expect(await setGroups(one, [0x1, 2])).toBe("good");
    expect([await ready(one), await onOther()]).toEqual(["good", STATE_CHANGED]);
  });

  test("without a list, or with an empty one, changes nothing", async () => {
    const [one, two] = await bothOf(worldOf({ explicitAccessStates: true }));
    expect(outcomeOf(await one.run("a4 0a 00 00 00 00 00 00 00 00 00 00"))).toBe("good");
    expect(await setGroups(one)).toBe("good");
    expect(await setGroups(one, [0x0, 1])).toBe("good");
    expect(await ready(two)).toBe("good");
  });

  test.each<[string, [number, number][]]>([
    ["LBA-dependent", [[0x4, 1]]],
    ["offline", [[0xe, 1]]],
    ["transitioning", [[0xf, 1]]],
    ["a reserved state", [[0x5, 1]]],
    ["a group that is not there", [[0x1, 3]]],
    [
      "one group twice",
      [
        [0x1, 1],
        [0x2, 1],
      ],
    ],
    [
      "one mistake after a good descriptor",
      [
        [0x1, 1],
        [0xe, 2],
      ],
    ],
  ])("refuses all of a list with %s", async (_, changes) => {
    const [one, two] = await bothOf(worldOf({ explicitAccessStates: true }));
    expect(await setGroups(one, ...changes)).toBe("5/26/00");
    expect(await ready(two)).toBe("good");
    expect(hexOf(await two.run(RTPG, 256)).slice(8, 24)).toBe("00cf000100000001");
  });

  test("refuses a list that ends inside a descriptor, is longer than all groups, or does not all come", async () => {
    const [one] = await bothOf(worldOf({ explicitAccessStates: true }));
    const run = async (lengthHex: string, bytes: number): Promise<string> =>
      outcomeOf(await one.runWrite(`a4 0a 00 00 00 00 00 00 00 ${lengthHex} 00 00`, Buffer.alloc(bytes)));
    expect([await run("03", 3), await run("06", 6), await run("10", 16)]).toEqual(["5/24/00", "5/24/00", "5/24/00"]);
    expect(await run("08", 4)).toBe("5/1a/00");
  });
});
