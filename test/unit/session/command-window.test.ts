import { CommandWindow } from "../../../src/session/command-window.js";

describe("command window (RFC 7143 §4.2.2.1)", () => {
  test("is shut until the target opens it", () => {
    const window = new CommandWindow(5);
    expect(window.isOpen).toBe(false);
    window.update(5, 6);
    expect([window.isOpen, window.room]).toEqual([true, 2]);
    expect([window.take(), window.take()]).toEqual([5, 6]);
    expect([window.isOpen, window.room, window.nextCmdSn]).toEqual([false, 0, 7]);
  });

  test("wraps at 2^32", () => {
    const window = new CommandWindow(0xffff_fffe);
    window.update(0xffff_fffe, 1);
    expect(window.room).toBe(4);
    expect([window.take(), window.take(), window.take(), window.take()]).toEqual([0xffff_fffe, 0xffff_ffff, 0, 1]);
    expect(window.isOpen).toBe(false);
    window.update(2, 2);
    expect(window.take()).toBe(2);
    expect(window.isAcknowledged(0xffff_ffff)).toBe(true);
    expect(window.isAcknowledged(2)).toBe(false);
  });

  test("ignores both numbers when MaxCmdSN is below ExpCmdSN - 1", () => {
    const window = new CommandWindow(10);
    window.update(10, 20);
    window.update(19, 17);
    expect([window.expCmdSn, window.maxCmdSn]).toEqual([10, 20]);
  });

  test("MaxCmdSN equal to ExpCmdSN - 1 is a shut window, not an error", () => {
    const window = new CommandWindow(10);
    window.update(10, 9);
    expect(window.isOpen).toBe(false);
    expect(window.maxCmdSn).toBe(9);
  });

  test("never shrinks, also across the wrap", () => {
    const window = new CommandWindow(0xffff_fff0);
    window.update(0xffff_fff8, 5);
    window.update(0xffff_fff4, 0xffff_ffff);
    expect([window.expCmdSn, window.maxCmdSn]).toEqual([0xffff_fff8, 5]);
  });
});
