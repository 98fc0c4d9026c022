import { runCommand, spawnLongRunning } from "../../src/host/exec.js";
import { describeNeeding } from "../support/needs.js";

const shell = (script: string, options?: Parameters<typeof runCommand>[2]): ReturnType<typeof runCommand> =>
  runCommand("sh", ["-c", script], options);

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describeNeeding(["sh", "cat", "sleep", "env", "head"], "running programs of the host", () => {
  it("gives output, errors and exit code", async () => {
    const result = await shell("echo out; echo err >&2; exit 3", { expectedExitCodes: [0, 3] });
    expect(result).toMatchObject({ stdout: "out\n", stderr: "err\n", exitCode: 3 });
    expect(result.stdoutBytes.toString()).toBe("out\n");
  });

  it("feeds standard input, and an empty one by default", async () => {
    expect((await runCommand("cat", [], { input: "hello" })).stdout).toBe("hello");
    expect((await runCommand("cat", [])).stdout).toBe("");
    // A program that does not read its input is no error.
    await expect(runCommand("sh", ["-c", "exit 0"], { input: Buffer.alloc(1_048_576) })).resolves.toBeDefined();
  });

  it("passes arguments as they are and a small fixed environment", async () => {
    process.env["HAWSER_TEST_LEAK"] = "leak";
    try {
      const weird = "a b; $(echo x) `id` \"'*";
      expect((await runCommand("sh", ["-c", 'printf %s "$1"', "sh", weird])).stdout).toBe(weird);
      const { stdout } = await runCommand("env", [], { env: { EXTRA: "1" } });
      expect(
        stdout
          .trim()
          .split("\n")
          .map((line) => line.split("=")[0])
          .sort(),
      ).toEqual(["EXTRA", "LC_ALL", "PATH"]);
    } finally {
      delete process.env["HAWSER_TEST_LEAK"];
    }
  });

  it("fails with the program, the exit code and the last lines, and without the arguments", async () => {
    const failing = runCommand("sh", ["-c", "echo one >&2; echo two >&2; exit 5", "canary-argument"]);
    await expect(failing).rejects.toMatchObject({
      code: "HOST_COMMAND_FAILED",
      layer: "host",
      message: "sh ended with exit code 5: one / two",
      details: { program: "sh", exitCode: 5, stderr: "one\ntwo\n" },
    });
    const error: unknown = await failing.catch((reason: unknown) => reason);
    expect(JSON.stringify(error) + String(error)).not.toContain("canary-argument");
  });

  it("names the package of a missing program", async () => {
    await expect(runCommand("/nowhere/mkfs.xfs", [])).rejects.toMatchObject({
      code: "HOST_PROGRAM_MISSING",
      message: expect.stringContaining("install the Debian package xfsprogs") as string,
    });
    await expect(spawnLongRunning("/nowhere/nbdfuse", [])).rejects.toMatchObject({
      code: "HOST_PROGRAM_MISSING",
      message: expect.stringContaining("libnbd-bin") as string,
    });
  });

  it("kills what takes too long", async () => {
    await expect(runCommand("sleep", ["30"], { timeoutMs: 100 })).rejects.toMatchObject({
      code: "HOST_COMMAND_TIMEOUT",
    });
  });

  it("kills what is cancelled, and does not start what was cancelled before", async () => {
    const controller = new AbortController();
    const running = runCommand("sleep", ["30"], { signal: controller.signal });
    controller.abort();
    await expect(running).rejects.toMatchObject({ code: "HOST_COMMAND_CANCELLED" });
    await expect(runCommand("sleep", ["30"], { signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow(
      "before",
    );
  });

  it("bounds output and keeps only the end of the error output", async () => {
    await expect(runCommand("head", ["-c", "5000000", "/dev/zero"])).rejects.toMatchObject({
      code: "HOST_COMMAND_OUTPUT",
    });
    const { stderr } = await shell("head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2");
    expect(stderr.length).toBeLessThanOrEqual(16_384);
    expect(stderr.endsWith("end\n")).toBe(true);
  });

  it("says when a signal ended the program", async () => {
    await expect(shell("kill -SEGV $$")).rejects.toMatchObject({
      code: "HOST_COMMAND_FAILED",
      message: expect.stringContaining("SIGSEGV") as string,
    });
  });

  it("keeps a long-running program until it is told to end", async () => {
    const child = await spawnLongRunning("sh", ["-c", "echo ready >&2; exec sleep 30"]);
    expect(isAlive(child.pid)).toBe(true);
    expect(child.kill("SIGTERM")).toBe(true);
    expect(await child.exited).toEqual({ exitCode: null, signal: "SIGTERM" });
    expect(isAlive(child.pid)).toBe(false);
    expect(child.kill("SIGTERM")).toBe(false);
  });
});
