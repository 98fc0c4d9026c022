import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run, startInBackground, waitFor } from "./process.js";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "hawser-process-test-"));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

it("returns what a program prints, and gives it its input", async () => {
  expect(await run("cat", [], { input: "a\nb\n" })).toBe("a\nb\n");
});

it("fails with the command, the exit code and the last lines of what was wrong", async () => {
  const failing = run("sh", ["-c", "seq 100 >&2; echo told; exit 3"]);
  await expect(failing).rejects.toThrow(/^sh -c .*exit code 3\n86\n[\s\S]*\n100$/);
});

it("names a program that is not there", async () => {
  await expect(run("/nonexistent/program", [])).rejects.toThrow("/nonexistent/program could not be started");
});

it("ends a program that takes too long", async () => {
  await expect(run("sleep", ["60"], { timeoutMs: 100 })).rejects.toThrow("SIGKILL");
});

it("stops waiting when a needed program ends, and shows the end of its log", async () => {
  const log = join(folder, "component.log");
  const component = await startInBackground("component", log, ["sh", "-c", "echo no such flag; exit 7"]);
  const waiting = waitFor("the component", [component], 60_000, () => Promise.resolve(false));
  await expect(waiting).rejects.toThrow(
    /the component: component ended with exit code 7\n--- component: .*\nno such flag/,
  );
});

it("says how long it waited in vain", async () => {
  const waiting = waitFor("the impossible", [], 600, () => Promise.reject(new Error("never")));
  await expect(waiting).rejects.toThrow("the impossible: not so after 0.6 s");
});
