import { sleep, type Clock } from "../../../src/base/clock.js";

/** One timer, fired by hand. */
function handClock(): { clock: Clock; fire: () => void; pending: () => number } {
  const timers = new Set<() => void>();
  const clock: Clock = {
    nowMs: () => 0,
    wallTimeMs: () => 0,
    setTimer: (_delayMs, callback) => {
      timers.add(callback);
      return { cancel: () => timers.delete(callback) };
    },
    defer: (callback) => callback(),
  };
  return { clock, fire: () => [...timers].forEach((callback) => callback()), pending: () => timers.size };
}

describe("sleep", () => {
  it("resolves when the timer fires, and leaves no listener behind", async () => {
    const { clock, fire } = handClock();
    const controller = new AbortController();
    const removed = jest.spyOn(controller.signal, "removeEventListener");
    const sleeping = sleep(clock, 10, controller.signal);
    fire();
    await expect(sleeping).resolves.toBeUndefined();
    expect(removed).toHaveBeenCalledTimes(1);
  });

  it("rejects with the signal's reason and cancels the timer", async () => {
    const { clock, pending } = handClock();
    const controller = new AbortController();
    const sleeping = sleep(clock, 10, controller.signal);
    controller.abort(new Error("enough"));
    await expect(sleeping).rejects.toThrow("enough");
    expect(pending()).toBe(0);
  });

  it("does not start when the signal was aborted before", async () => {
    const { clock, pending } = handClock();
    await expect(sleep(clock, 10, AbortSignal.abort(new Error("too late")))).rejects.toThrow("too late");
    expect(pending()).toBe(0);
  });
});
