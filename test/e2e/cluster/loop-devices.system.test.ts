import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeNeeding } from "../../support/needs.js";
import { detachLoopDevices, sandboxLoopDevices, stillAttached } from "./loop-devices.js";

/** A loop device of its own on a file of this machine, and one inside a mount namespace on a file only that one has. */
describeNeeding(["root", "losetup", "unshare", "/dev/loop-control"], "loop devices of a sandbox", () => {
  let folder = "";
  let outside = "";
  let inside: ChildProcess;
  let device = "";

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "hawser-loop-test-"));
    execFileSync("truncate", ["-s", "1M", join(folder, "file")]);
    outside = execFileSync("losetup", ["-f", "--show", join(folder, "file")], { encoding: "utf8" }).trim();
    const script = `mount -t tmpfs tmpfs ${folder}; truncate -s 1M ${folder}/own; losetup -f --show ${folder}/own; exec sleep 60`;
    inside = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    device = await new Promise((resolve, reject) => {
      inside.once("exit", () => reject(new Error("the sandbox ended")));
      inside.stdout?.once("data", (data: Buffer) => resolve(data.toString().trim()));
    });
  });

  afterEach(() => {
    inside.kill("SIGKILL");
    execFileSync("losetup", ["-d", outside]);
    rmSync(folder, { recursive: true, force: true });
  });

  it("finds and detaches those on file systems of the sandbox, and no other", async () => {
    const found = await sandboxLoopDevices([inside.pid ?? 0]);
    expect(found.map(({ name }) => name)).toEqual([device]);
    inside.kill("SIGKILL");
    await detachLoopDevices(found);
    expect(await stillAttached(found)).toEqual([]);
    expect(execFileSync("losetup", ["--list", "--noheadings", "--output", "NAME"], { encoding: "utf8" })).toContain(
      outside,
    );
  });
});
