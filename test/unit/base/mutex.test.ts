import { createDeferred } from "../../../src/base/deferred.js";
import { Mutex } from "../../../src/base/mutex.js";

describe("Mutex", () => {
  it("lets one in at a time, in the order of asking", async () => {
    const mutex = new Mutex();
    const gate = createDeferred<undefined>();
    const trace: string[] = [];
    const enter = (name: string, until: Promise<unknown>): Promise<string> =>
      mutex.run(async () => {
        trace.push(`${name} in`);
        await until;
        trace.push(`${name} out`);
        return name;
      });
    const all = [enter("a", gate.promise), enter("b", Promise.resolve()), enter("c", Promise.resolve())];
    await Promise.resolve();
    expect(trace).toEqual(["a in"]);
    expect(mutex.isBusy).toBe(true);
    gate.resolve(undefined);
    expect(await Promise.all(all)).toEqual(["a", "b", "c"]);
    expect(trace).toEqual(["a in", "a out", "b in", "b out", "c in", "c out"]);
    expect(mutex.isBusy).toBe(false);
  });

  it("goes on after work that failed", async () => {
    const mutex = new Mutex();
    const failed = mutex.run(() => Promise.reject(new Error("no")));
    const next = mutex.run(() => Promise.resolve(1));
    await expect(failed).rejects.toThrow("no");
    expect(await next).toBe(1);
    expect(mutex.isBusy).toBe(false);
  });
});
