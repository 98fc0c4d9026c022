import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { Secret } from "../../src/base/secret.js";
import type { AttachRequest, VolumeStatus } from "../../src/dataplane/api.js";
import { DataplaneClient } from "../../src/dataplane/client.js";
import { CANARY, codeOf, MUTUAL_CANARY } from "../support/dataplane-world.js";
import { describeNeeding } from "../support/needs.js";
import { Tgtd } from "../support/tgt.js";

const MIB = 1024 * 1024;
const PORT = 13390;
const targetName = "iqn.2026-11.dev.hawser.test:dataplane";
const needs = ["root", "tgtd", "tgtadm", "nbdfuse", "mkfs.ext4", "e2fsck", "/dev/fuse", "/dev/loop-control"];

async function run(program: string, ...args: string[]): Promise<string> {
  return (await promisify(execFile)(program, args, { timeout: 60_000 })).stdout;
}

/** Waits, in real time, for what other processes do. */
async function eventually<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await delay(100);
  }
  throw new Error(`never came: ${what}`);
}

describeNeeding(needs, "the dataplane process against tgtd, with fuse devices", () => {
  let tgtd: Tgtd;
  let folder = "";
  let mountPoint = "";
  let child: ChildProcess | undefined;
  let client: DataplaneClient;

  const request: AttachRequest = {
    volumeHandle: "pvc/system 1",
    portals: [
      // Nobody listens on the first: one healthy portal is enough.
      { host: "127.0.0.1", port: PORT + 1 },
      { host: "127.0.0.1", port: PORT },
    ],
    targetName,
    lun: 1,
    expectedId: "",
    isReadOnly: false,
    headerDigest: "crc32c",
    dataDigest: "crc32c",
    publicationId: "",
    chap: {
      user: "dataplane-user",
      secret: Secret.from(CANARY),
      mutualUser: "target-user",
      mutualSecret: Secret.from(MUTUAL_CANARY),
    },
  };

  const startChild = async (): Promise<void> => {
    const started = spawn(
      process.execPath,
      [
        ...["--import", "tsx", "test/support/dataplane-child.ts"],
        ...[join(folder, "state"), join(folder, "run"), join(folder, "dp.sock"), "fuse", join(folder, "log")],
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    child = started;
    await Promise.race([
      once(started.stdout, "data"),
      once(started, "exit").then(() => Promise.reject(new Error("the dataplane ended"))),
    ]);
  };

  const endChild = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending?.exitCode !== null || ending.signalCode !== null) return;
    const exited = once(ending, "exit");
    ending.kill(signal);
    await exited;
  };

  const status = async (): Promise<VolumeStatus | undefined> => client.get(request.volumeHandle);
  const inState = (state: string): Promise<VolumeStatus> =>
    eventually(state, async () => {
      const now = await status();
      return now?.state === state ? now : undefined;
    });

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      controlPort: 13390,
      portals: [`127.0.0.1:${PORT}`],
      targets: [
        {
          name: targetName,
          diskBytes: [128 * MIB],
          parameters: { HeaderDigest: "CRC32C", DataDigest: "CRC32C" },
          account: {
            ...{ user: "dataplane-user", secret: CANARY },
            ...{ mutualUser: "target-user", mutualSecret: MUTUAL_CANARY },
          },
        },
      ],
    });
  });
  afterAll(() => tgtd.stop());

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "hawser-dp-"));
    mountPoint = join(folder, "mnt");
    mkdirSync(mountPoint);
    await startChild();
    client = new DataplaneClient({ socketPath: join(folder, "dp.sock"), packageDirectory: process.cwd() });
  });

  afterEach(async () => {
    if (readFileSync("/proc/self/mountinfo", "utf8").includes(` ${mountPoint} `)) await run("umount", "-l", mountPoint);
    await eventually("detached", async () => (await codeOf(client.detach(request.volumeHandle))) === "resolved").catch(
      () => undefined,
    );
    client.close();
    await endChild("SIGTERM");
    expect(readdirSync(join(folder, "run"))).toEqual([]);
    expect(existsSync(join(folder, "dp.sock"))).toBe(false);
    rmSync(folder, { recursive: true });
  }, 60_000);

  it("attaches, survives a restart of the target, refuses to go while mounted, and keeps the data", async () => {
    const attached = await client.attach(request);
    expect(attached).toMatchObject({ backend: "fuse", sizeBytes: 128 * MIB, generation: 1, wasFormatted: false });
    expect(attached.deviceId).not.toBe("");
    expect(await client.attach(request)).toEqual(attached);
    const { sessions } = (await status())!;
    expect(sessions).toEqual([
      expect.objectContaining({ portal: `127.0.0.1:${PORT}`, headerDigest: "CRC32C", dataDigest: "CRC32C" }),
    ]);

    await client.markFormatted(request.volumeHandle, "ext4");
    await run("mkfs.ext4", "-q", attached.devicePath);
    await run("mount", attached.devicePath, mountPoint);
    await run("dd", "if=/dev/urandom", `of=${mountPoint}/data`, "bs=1M", "count=16", "conv=fsync", "status=none");
    const [sum] = (await run("sha256sum", `${mountPoint}/data`)).split(" ");
    await expect(client.detach(request.volumeHandle)).rejects.toMatchObject({
      code: "DEVICE_BUSY",
      message: expect.stringContaining(mountPoint),
    });

    await tgtd.kill();
    const reason = (await inState("reconnecting")).reason;
    expect(reason).not.toBe("");
    const writing = run(
      "dd",
      "if=/dev/zero",
      `of=${mountPoint}/more`,
      "bs=1M",
      "count=4",
      "oflag=direct",
      "status=none",
    );
    await tgtd.launch();
    await inState("attached");
    await writing;
    await run("umount", mountPoint);
    await client.detach(request.volumeHandle);
    expect(await status()).toBeUndefined();
    expect(tgtd.admin("--op", "show", "--mode", "conn", "--tid", "1")).not.toContain("Session");

    // Attached again, read-only: the same data, and nobody can change it.
    const again = await client.attach({ ...request, isReadOnly: true });
    expect(again).toMatchObject({ generation: 2, wasFormatted: true, isReadOnly: true, deviceId: attached.deviceId });
    await run("e2fsck", "-fn", again.devicePath);
    await run("mount", "-o", "ro", again.devicePath, mountPoint);
    expect((await run("sha256sum", `${mountPoint}/data`)).split(" ")[0]).toBe(sum);
    await run("umount", mountPoint);
    await client.detach(request.volumeHandle);
  }, 120_000);

  it("goes on after kill -9: a mounted fuse device is reported, cleaned up when unmounted, attached anew", async () => {
    const attached = await client.attach(request);
    await run("mkfs.ext4", "-q", "-F", attached.devicePath);
    await run("mount", attached.devicePath, mountPoint);
    const isid = (await status())?.sessions[0]?.isid;
    await endChild("SIGKILL");
    await startChild();
    expect((await inState("failed")).reason).toContain("FUSE");
    expect(await codeOf(client.detach(request.volumeHandle))).toBe("DEVICE_BUSY");
    await run("umount", "-l", mountPoint);
    await eventually("cleaned up", async () => (await status()) === undefined);
    expect(await client.attach(request)).toMatchObject({ generation: 2, deviceId: attached.deviceId });
    expect((await status())?.sessions[0]?.isid).toBe(isid);
    await client.detach(request.volumeHandle);
  }, 120_000);

  it("a second dataplane does not start beside the first", async () => {
    const second = spawn(
      process.execPath,
      [
        ...["--import", "tsx", "test/support/dataplane-child.ts"],
        ...[join(folder, "state"), join(folder, "run"), join(folder, "dp.sock"), "fuse", join(folder, "log")],
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    let errors = "";
    second.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    const [code] = (await once(second, "exit")) as [number];
    expect(code).not.toBe(0);
    expect(errors).toContain("DATAPLANE_ALREADY_RUNNING");
    expect(await client.list()).toEqual([]);
  }, 60_000);

  it("tells no secret: not in logs, state, arguments, statuses or errors", async () => {
    await client.attach(request);
    const wrong = {
      ...request,
      volumeHandle: "other",
      chap: { user: "dataplane-user", secret: Secret.from(`${CANARY}-x`) },
    };
    const error = await client.attach(wrong).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: expect.stringMatching(/^LOGIN_/) });
    const files = await run("find", folder, "-type", "f", "-not", "-path", "*/fuse-*");
    const texts = files
      .trim()
      .split("\n")
      .map((path) => readFileSync(path, "utf8"));
    texts.push(readFileSync(`/proc/${child?.pid}/cmdline`, "utf8"), JSON.stringify(await client.list()), String(error));
    const all = texts.join("\n");
    expect(all).toContain("pvc/system 1");
    for (const secret of [CANARY, MUTUAL_CANARY]) {
      for (const form of [secret, Buffer.from(secret).toString("base64"), Buffer.from(secret).toString("hex")]) {
        expect(all).not.toContain(form);
      }
    }
    await client.detach(request.volumeHandle);
  }, 60_000);
});
