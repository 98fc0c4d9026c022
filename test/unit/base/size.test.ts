import { formatSize, parseSize } from "../../../src/base/size.js";

describe("parseSize", () => {
  it.each<[string, number]>([
    ["4096", 4096],
    ["10Gi", 10_737_418_240],
    ["512Mi", 536_870_912],
    ["1k", 1000],
    ["3G", 3_000_000_000],
    [" 1Ti ", 1_099_511_627_776],
    ["0", 0],
    ["7Pi", 7_881_299_347_898_368],
  ])("%s is %d bytes", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(["", "1.5Gi", "-1", "10 Gi", "10GB", "10gi", "1e3", "Gi", "8192Pi", "9007199254740992"])(
    "refuses %j",
    (text) => {
      expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: "SIZE_INVALID" }));
    },
  );
});

describe("formatSize", () => {
  it.each<[number, string]>([
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.5 KiB"],
    [10_737_418_240, "10 GiB"],
    [2 ** 60, "1024 PiB"],
  ])("%d is %s", (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
