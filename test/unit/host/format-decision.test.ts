import {
  decideFormat,
  isFilesystemType,
  type DeviceSignature,
  type FormatFacts,
} from "../../../src/host/format-decision.js";

const blank: FormatFacts = {
  signature: { kind: "empty" },
  isZeroed: true,
  wasFormatted: false,
  requestedFsType: "ext4",
  isReadOnly: false,
};

describe("decideFormat", () => {
  it("formats only when nothing at all speaks against it", () => {
    expect(decideFormat(blank)).toEqual({ action: "format", fsType: "ext4" });
  });

  it("of all combinations of facts only one formats", () => {
    const signatures: DeviceSignature[] = [
      { kind: "empty" },
      { kind: "filesystem", fsType: "ext4" },
      { kind: "filesystem", fsType: "ntfs" },
      { kind: "partition-table", tableType: "gpt" },
      { kind: "other", type: "LVM2_member" },
      { kind: "ambivalent" },
    ];
    const formatted: FormatFacts[] = [];
    for (const signature of signatures) {
      for (const isZeroed of [false, true]) {
        for (const wasFormatted of [false, true]) {
          for (const isReadOnly of [false, true]) {
            const facts = { ...blank, signature, isZeroed, wasFormatted, isReadOnly };
            if (decideFormat(facts).action === "format") formatted.push(facts);
          }
        }
      }
    }
    expect(formatted).toEqual([blank]);
  });

  it("uses the file system that is there, and only the one asked for", () => {
    const signature = { kind: "filesystem", fsType: "ext4" } as const;
    const facts = { ...blank, signature, isZeroed: false, wasFormatted: true };
    expect(decideFormat(facts)).toEqual({ action: "use", fsType: "ext4" });
    expect(decideFormat({ ...facts, isReadOnly: true }).action).toBe("use");
    expect(decideFormat({ ...facts, requestedFsType: "xfs" })).toEqual({
      action: "refuse",
      reason: "the volume carries ext4, not xfs; ask for the type it has",
    });
  });

  it.each<[Partial<FormatFacts>, RegExp]>([
    [{ wasFormatted: true }, /had a file system/],
    [{ isZeroed: false }, /holds data/],
    [{ isReadOnly: true }, /read-only/],
    [{ signature: { kind: "other", type: "crypto_LUKS" } }, /crypto_LUKS/],
    [{ signature: { kind: "partition-table", tableType: "dos" } }, /dos partition table/],
    [{ signature: { kind: "ambivalent" } }, /contradict/],
  ])("says why it refuses: %j", (facts, reason) => {
    expect(decideFormat({ ...blank, ...facts })).toEqual({
      action: "refuse",
      reason: expect.stringMatching(reason) as string,
    });
  });

  it("knows the types it can make", () => {
    expect(["ext4", "xfs", "btrfs"].every(isFilesystemType)).toBe(true);
    expect(["ext3", "", "EXT4", "ntfs"].some(isFilesystemType)).toBe(false);
  });
});
