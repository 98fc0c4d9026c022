import { lockProgram, programMappings } from "../../../src/host/launcher.js";

describe("the program's mappings", () => {
  it("are readable files that are not written: not the heap, not libraries' data, not anonymous memory", () => {
    const maps = [
      "00400000-00c98000 r--p 00000000 fe:00 1021 /usr/bin/node",
      "00e00000-02e04000 r-xp 00a00000 fe:00 1021 /usr/bin/node",
      "05a00000-05a20000 rw-p 05600000 fe:00 1021 /usr/bin/node",
      "06000000-07000000 rw-p 00000000 00:00 0 [heap]",
      "7f0000000000-7f0000040000 r-xp 00000000 00:00 0 ",
      "7fffff000000-7fffff021000 rw-p 00000000 00:00 0 [stack]",
      "7fffff100000-7fffff102000 r-xp 00000000 00:00 0 [vdso]",
      "7fffff200000-7fffff204000 ---p 00000000 fe:00 7 /lib/libc.so.6",
      "",
    ].join("\n");
    expect(programMappings(maps)).toEqual([
      { address: 0x400000, lengthBytes: 0x898000 },
      { address: 0xe00000, lengthBytes: 0x2004000 },
    ]);
  });

  it("can be locked, or the reason is told", async () => {
    const { isProtected, reason } = await lockProgram();
    expect(isProtected || reason.includes("CAP_IPC_LOCK")).toBe(true);
  });
});
