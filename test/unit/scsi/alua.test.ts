import * as alua from "../../../src/scsi/alua.js";

const bytes = (hex: string): Buffer => Buffer.from(hex.replace(/\s/g, ""), "hex");

describe("REPORT TARGET PORT GROUPS (SPC-5 §6.36)", () => {
  const descriptors = "80 8f 0001 00 02 00 02 00000001 00000002  01 0f 0002 00 01 00 01 00000003";
  const groups: alua.TargetPortGroup[] = [
    {
      group: 1,
      state: "active-optimized",
      isPreferred: true,
      supportedStates: ["active-optimized", "active-non-optimized", "standby", "unavailable", "transitioning"],
      statusCode: 2,
      ports: [1, 2],
    },
    {
      group: 2,
      state: "active-non-optimized",
      isPreferred: false,
      supportedStates: ["active-optimized", "active-non-optimized", "standby", "unavailable"],
      statusCode: 1,
      ports: [3],
    },
  ];

  it("short header", () => {
    const golden = bytes(`0000001c ${descriptors}`);
    expect(alua.decodeTargetPortGroups(golden)).toEqual({ groups, implicitTransitionSeconds: 0 });
    const data = { groups, implicitTransitionSeconds: 0 };
    expect(alua.encodeTargetPortGroups(data).toString("hex")).toBe(golden.toString("hex"));
  });

  it("extended header, told apart by its format bits", () => {
    const golden = bytes(`00000020 103c0000 ${descriptors}`);
    const data = { groups, implicitTransitionSeconds: 60 };
    expect(alua.decodeTargetPortGroups(golden)).toEqual(data);
    expect(alua.encodeTargetPortGroups(data, true).toString("hex")).toBe(golden.toString("hex"));
  });

  it.each([
    ["cut in the header", "000000"],
    ["shorter than it says", "0000001c 80"],
    ["a group cut by the list's end", "00000004 80 8f 0001"],
    ["ports beyond the list's end", "0000000c 80 8f 0001 00 02 00 02 00000001"],
  ])("fails typed: %s", (_name, hex) => {
    expect(() => alua.decodeTargetPortGroups(bytes(hex))).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }),
    );
  });

  it("states", () => {
    const state = (nibble: string): string | undefined =>
      alua.decodeTargetPortGroups(bytes(`00000008 0${nibble} 00 0001 00 00 00 00`)).groups[0]?.state;
    expect(Array.from("01234ef7", state)).toEqual([
      "active-optimized",
      "active-non-optimized",
      "standby",
      "unavailable",
      "lba-dependent",
      "offline",
      "transitioning",
      "unknown",
    ]);
    expect(alua.isAluaUsable("active-non-optimized")).toBe(true);
    expect(
      ["standby", "unavailable", "offline", "transitioning", "unknown"].some((s) =>
        alua.isAluaUsable(s as alua.AluaState),
      ),
    ).toBe(false);
  });
});

describe("SET TARGET PORT GROUPS (SPC-5 §6.45)", () => {
  it("is written and read", () => {
    const changes = [
      { group: 1, state: "active-optimized" },
      { group: 0x102, state: "standby" },
    ] as const;
    expect(alua.encodeSetTargetPortGroups(changes).toString("hex")).toBe("00000000" + "00000001" + "02000102");
    expect(alua.decodeSetTargetPortGroups(bytes("00000000 00000001 02000102"))).toEqual(changes);
    expect(() => alua.decodeSetTargetPortGroups(bytes("00000000 0000"))).toThrow(
      expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }),
    );
  });
});
