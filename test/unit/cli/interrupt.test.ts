import { CancelledError } from "../../../src/base/errors.js";
import { unlessStopped, untilAborted } from "../../../src/cli/interrupt.js";

const stopped = new CancelledError("cli", "INTERRUPTED", "stopped by SIGINT");

describe("untilAborted", () => {
  it("resolves at once when the signal came before anybody waited", async () => {
    const controller = new AbortController();
    controller.abort(stopped);
    await untilAborted(controller.signal);
  });

  it("waits for the signal", async () => {
    const controller = new AbortController();
    let isOver = false;
    const waiting = untilAborted(controller.signal).then(() => (isOver = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isOver).toBe(false);
    controller.abort(stopped);
    await waiting;
  });
});

describe("unlessStopped", () => {
  it("gives what the work comes to", async () => {
    const { signal } = new AbortController();
    await expect(unlessStopped(Promise.resolve(7), signal)).resolves.toBe(7);
    await expect(unlessStopped(Promise.reject(new Error("broken")), signal)).rejects.toThrow("broken");
  });

  it("throws the reason of the signal, and lets work that fails later pass unnoticed", async () => {
    const controller = new AbortController();
    let fail: (error: Error) => void = () => undefined;
    const work = new Promise<never>((_resolve, reject) => (fail = reject));
    const waiting = unlessStopped(work, controller.signal);
    controller.abort(stopped);
    await expect(waiting).rejects.toBe(stopped);
    fail(new Error("the device was closed under it"));
    await new Promise((resolve) => setImmediate(resolve));
  });
});
