import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { CLI_NEEDS, CliProcess, runCli } from "../support/cli-process.js";
import { describeNeeding } from "../support/needs.js";
import { Tgtd } from "../support/tgt.js";

const run = promisify(execFile);
const TGT_PORT = 13_470;
const OUR_PORT = 13_471;
const DEAD_PORT = 13_499;
const DISK_BYTES = 16 << 20;
const TGT_IQN = "iqn.2026-11.test:tgt-disk";
const OUR_IQN = "iqn.2026-11.dev.hawser:disk";
const SECRET = "a secret of 20 bytes";

describeNeeding([...CLI_NEEDS, "tgtd", "tgtadm"], "the commands as processes", () => {
  const folder = mkdtempSync(join(tmpdir(), "hawser-cli-"));
  const secretFile = join(folder, "secret");
  const wrongSecretFile = join(folder, "wrong-secret");
  const ours = ["--portal", `127.0.0.1:${OUR_PORT}`, "--target", OUR_IQN];
  const theirs = ["--portal", `127.0.0.1:${TGT_PORT}`, "--target", TGT_IQN, "--lun", "1"];
  let tgtd: Tgtd;
  let target: CliProcess;
  let locked: CliProcess;

  beforeAll(async () => {
    writeFileSync(secretFile, `${SECRET}\n`, { mode: 0o600 });
    writeFileSync(wrongSecretFile, "another, wrong secret\n", { mode: 0o600 });
    tgtd = await Tgtd.start({
      controlPort: 347,
      portals: [`127.0.0.1:${TGT_PORT}`, `[::1]:${TGT_PORT}`],
      targets: [{ name: TGT_IQN, diskBytes: [DISK_BYTES] }],
    });
    target = new CliProcess("hawser", [
      ...["target", "--store", `file:${join(folder, "store")}`, "--volume", "disk=16Mi", "--volume", "other=1Mi"],
      ...["--portal", `127.0.0.1:${OUR_PORT}`, "--portal", `[::1]:${OUR_PORT}`],
    ]);
    locked = new CliProcess("hawser", [
      ...["target", "--store", "memory", "--volume", "locked=1Mi", "--portal", `127.0.0.1:${OUR_PORT + 1}`],
      ...["--chap-user", "user", "--chap-secret-file", secretFile],
    ]);
    await target.says(/listening on 127\.0\.0\.1:13471, \[::1\]:13471/);
    await locked.says(/listening/);
  }, 60_000);

  afterAll(async () => {
    const ends = await Promise.all([target.interrupt(), locked.interrupt("SIGTERM"), tgtd.stop()]);
    rmSync(folder, { recursive: true, force: true });
    expect([ends[0].exitCode, ends[1].exitCode]).toEqual([0, 0]);
    expect(ends[1].err).not.toContain(SECRET);
  }, 60_000);

  describe("discover", () => {
    test.each([
      [`127.0.0.1:${TGT_PORT}`, [TGT_IQN]],
      [`[::1]:${TGT_PORT}`, [TGT_IQN]],
      [`127.0.0.1:${OUR_PORT}`, [OUR_IQN, "iqn.2026-11.dev.hawser:other"]],
      [`[::1]:${OUR_PORT}`, [OUR_IQN, "iqn.2026-11.dev.hawser:other"]],
    ])("lists the targets behind %s", async (portal, names) => {
      const { exitCode, out, err } = await runCli("hawserctl", "discover", "--portal", portal, "-o", "json");
      expect([exitCode, err]).toEqual([0, ""]);
      const rows = JSON.parse(out) as { target: string; portal: string; portalGroupTag: number }[];
      expect([...new Set(rows.map((row) => row.target))].sort()).toEqual(names);
      expect(rows.map((row) => row.portal)).toContain(portal);
      expect(rows.every((row) => row.portalGroupTag === 1)).toBe(true);
    });

    test("shows a table of two portals", async () => {
      const portals = ["--portal", `127.0.0.1:${TGT_PORT}`, "--portal", `127.0.0.1:${OUR_PORT}`];
      const { out } = await runCli("hawserctl", "discover", ...portals);
      expect(out.split("\n")[0]).toMatch(/^TARGET +PORTAL +GROUP$/);
      expect(out).toMatch(new RegExp(`^${TGT_IQN} +127.0.0.1:${TGT_PORT} +1$`, "m"));
      expect(out).toContain(OUR_IQN);
    });
  });

  describe("luns", () => {
    test.each([
      ["tgtd", theirs.slice(0, 4), "1"],
      ["the embedded target", ours, "0"],
    ])("shows the disk of %s", async (_title, args, lun) => {
      const { exitCode, out } = await runCli("hawserctl", "luns", ...args, "-o", "json");
      expect(exitCode).toBe(0);
      const rows = JSON.parse(out) as { lun: string }[];
      expect(rows.find((row) => row.lun === lun)).toMatchObject({ deviceType: "disk", sizeBytes: DISK_BYTES });
      const table = await runCli("hawserctl", "luns", ...args);
      expect(table.out).toMatch(/^LUN +TYPE +SIZE +BLOCK +VENDOR +PRODUCT +SERIAL +IDENTITY\n/);
      expect(table.out).toMatch(/ disk +16 MiB +512 /);
    });

    test("logs in with CHAP and digests", async () => {
      const { exitCode, out, err } = await runCli(
        ...(["hawserctl", "luns", "--portal", `127.0.0.1:${OUR_PORT + 1}`] as const),
        ...["--target", "iqn.2026-11.dev.hawser:locked", "--chap-user", "user", "--chap-secret-file", secretFile],
        ...["--header-digest", "crc32c", "--data-digest", "crc32c"],
      );
      expect([exitCode, err]).toEqual([0, ""]);
      expect(out).toContain("1 MiB");
    });
  });

  test.each(
    ["randread", "randwrite", "read", "write"].flatMap((mode) => [
      [mode, "tgtd", theirs] as const,
      [mode, "the embedded target", ours] as const,
    ]),
  )("bench %s with %s", async (mode, _title, args) => {
    const options = ["--rw", mode, "--bs", "8k", "--iodepth", "8", "--runtime", "1", "-o", "json"];
    const { exitCode, out } = await runCli("hawserctl", "bench", ...args, ...options);
    expect(exitCode).toBe(0);
    const result = JSON.parse(out) as Record<string, number>;
    expect(result).toMatchObject({ mode, blockBytes: 8192, queueDepth: 8 });
    const { operations = 0, elapsedMs = 0, iops = 0, p50Micros = 0, maximumMicros = 0 } = result;
    expect(operations).toBeGreaterThan(50);
    expect(elapsedMs).toBeGreaterThan(900);
    expect(Math.abs(iops - operations / (elapsedMs / 1000))).toBeLessThan(iops * 0.01 + 1);
    expect(maximumMicros).toBeGreaterThanOrEqual(p50Micros);
  });

  describeNeeding(["qemu-img", "nbdinfo", "nbdcopy"], "nbd-serve", () => {
    test.each([
      ["tgtd", theirs],
      ["the embedded target", ours],
    ])(
      "serves %s to qemu-img, nbdinfo and nbdcopy, and ends on Ctrl-C",
      async (_title, args) => {
        const socket = join(folder, "nbd.sock");
        const uri = `nbd+unix:///?socket=${socket}`;
        const server = new CliProcess("hawserctl", ["nbd-serve", ...args, "--socket", socket]);
        await server.says(/serving .*16 MiB.* stop with Ctrl-C/);
        const source = join(folder, "source.raw");
        const data = Buffer.alloc(DISK_BYTES);
        for (let at = 0; at < data.length; at += 4) data.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
        writeFileSync(source, data);
        expect((await run("nbdinfo", ["--size", uri])).stdout.trim()).toBe(String(DISK_BYTES));
        await run("nbdcopy", [source, uri]);
        const back = join(folder, "back.raw");
        await run("nbdcopy", [uri, back]);
        expect(readFileSync(back).equals(data)).toBe(true);
        expect(JSON.parse((await run("qemu-img", ["info", "--output=json", uri])).stdout)).toMatchObject({
          "virtual-size": DISK_BYTES,
        });
        await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", source, uri]);
        const { exitCode, err } = await server.interrupt();
        expect(exitCode).toBe(0);
        expect(err).not.toMatch(/error/i);
        expect(existsSync(socket)).toBe(false);
      },
      60_000,
    );
  });

  describe("what goes wrong has an exit code and a reason", () => {
    const locked1 = ["--portal", `127.0.0.1:${OUR_PORT + 1}`, "--target", "iqn.2026-11.dev.hawser:locked"];
    const dead = ["--portal", `127.0.0.1:${DEAD_PORT}`];
    const file = (path: string): string[] => ["--chap-user", "user", "--chap-secret-file", path];
    test.each<[string, number, RegExp, string[]]>([
      ["a port where nobody listens", 10, /127\.0\.0\.1:13499.*nothing listens/, ["discover", ...dead]],
      [
        "a name without address",
        10,
        /no-such-host\.invalid.*no address/,
        ["discover", "--portal", "no-such-host.invalid"],
      ],
      [
        "a target that is not there",
        11,
        /tgt-disk0.*check the target's name/,
        ["luns", ...theirs.slice(0, 3), `${TGT_IQN}0`],
      ],
      ["a wrong CHAP secret", 11, /login to .*:locked.*CHAP/i, ["luns", ...locked1, ...file(wrongSecretFile)]],
      ["no CHAP where it is demanded", 11, /login to .*:locked/, ["luns", ...locked1]],
      ["a LUN that is not there", 13, /LUN 7/, ["bench", ...ours, "--lun", "7", "--runtime", "1"]],
      ["no dataplane", 15, /is "hawser dataplane" running/, ["volumes", "--dataplane", join(folder, "none.sock")]],
      [
        "no dataplane for sessions",
        15,
        /is "hawser dataplane" running/,
        ["sessions", "--dataplane", join(folder, "none.sock")],
      ],
      ["an unknown flag", 2, /unknown option '--bogus'/, ["luns", ...ours, "--bogus"]],
      ["an unknown command", 2, /unknown command 'bogus'/, ["bogus"]],
      ["a portal that is none", 2, /127\.0\.0\.1:99999.*HOST:PORT/, ["discover", "--portal", "127.0.0.1:99999"]],
      ["a timeout that is no number", 2, /--timeout.*whole number from 1/, ["discover", ...dead, "--timeout", "abc"]],
      ["a size that is none", 2, /--bs.*4x.*for example/, ["bench", ...ours, "--bs", "4x"]],
      ["a mode that is none", 2, /--rw.*Allowed choices/, ["bench", ...ours, "--rw", "sideways"]],
      ["blocks that do not fit", 3, /1000 bytes.*blocks of 512/, ["bench", ...ours, "--bs", "1000"]],
      ["no portal", 3, /--portal HOST/, ["luns", "--target", OUR_IQN]],
      [
        "a secret file that is not there",
        3,
        /--chap-secret-file: cannot read .*gone/,
        ["luns", ...ours, ...file("/gone")],
      ],
      ["half of a CHAP pair", 3, /go together/, ["luns", ...ours, "--chap-user", "user"]],
      [
        "a socket in no folder",
        3,
        /--socket: there is no folder \/gone/,
        ["nbd-serve", ...ours, "--socket", "/gone/x.sock"],
      ],
    ])("%s: %d", async (_title, exitCode, reason, args) => {
      const result = await runCli("hawserctl", ...args);
      expect(result.err).toMatch(reason);
      expect(result.err).toMatch(/^error: /);
      expect({ exitCode: result.exitCode, out: result.out }).toEqual({ exitCode, out: "" });
      expect(result.err).not.toMatch(/\n\s+at |secret of 20|wrong secret/);
    });

    test("a secret file that everybody may read", async () => {
      const path = join(folder, "open-secret");
      writeFileSync(path, SECRET, { mode: 0o644 });
      const { exitCode, err } = await runCli("hawserctl", "luns", ...ours, ...file(path));
      expect(exitCode).toBe(3);
      expect(err).toContain(`run chmod 600 ${path}`);
    });

    test.each<[string, number, RegExp, string[]]>([
      ["a store that is none", 2, /"tape" is not a store; write file:DIR/, ["--store", "tape"]],
      ["a volume that is none", 2, /"Disk" is not NAME=SIZE/, ["--store", "memory", "--volume", "Disk"]],
      [
        ...(["a store where no folder can be", 3, /--store: the folder \/dev\/null\/x cannot be made/] as const),
        ["--store", "file:/dev/null/x", "--portal", "127.0.0.1:13473", "--volume", "x=1Mi"],
      ],
      ["no volume", 3, /--volume NAME=SIZE/, ["--store", "memory", "--portal", "127.0.0.1:13473"]],
      [
        ...(["a port that is taken", 14, /127\.0\.0\.1:\d+ failed: another process listens there/] as const),
        ["--store", "memory", "--portal", `127.0.0.1:${OUR_PORT}`, "--volume", "x=1Mi"],
      ],
    ])("hawser target with %s: %d", async (_title, exitCode, reason, args) => {
      const result = await runCli("hawser", "target", ...args);
      expect(result.err).toMatch(reason);
      expect(result.exitCode).toBe(exitCode);
    });
  });

  describe("a reader that has seen enough", () => {
    const [hawser = "", hawserctl = ""] = CLI_NEEDS;

    test("ends what only prints, without a word", async () => {
      const shell = `set -o pipefail; for n in 1 2 3 4; do node '${hawserctl}' --help | true; done`;
      expect(await run("bash", ["-c", shell])).toMatchObject({ stdout: "", stderr: "" });
    });

    test("does not end a service", async () => {
      const args = `target --store memory --volume v=1Mi --portal 127.0.0.1:${OUR_PORT + 2}`;
      const shell = `node '${hawser}' ${args} 2>'${join(folder, "log")}' > >(true) & pid=$!; sleep 3; kill $pid && wait $pid`;
      await run("bash", ["-c", shell]);
      expect(readFileSync(join(folder, "log"), "utf8")).not.toContain("EPIPE");
    }, 20_000);
  });

  describe("Ctrl-C", () => {
    test("ends a bench at once, with 130", async () => {
      const bench = new CliProcess("hawserctl", ["bench", ...ours, "--runtime", "60"]);
      await bench.says(/Running randread/);
      const startMs = performance.now();
      expect(await bench.interrupt()).toMatchObject({ exitCode: 130, out: "" });
      expect(performance.now() - startMs).toBeLessThan(5000);
    });

    test.each(["discover", "nbd-serve"])("ends a %s that waits for a target that says nothing", async (command) => {
      tgtd.signal("SIGSTOP");
      try {
        const more = command === "discover" ? theirs.slice(0, 2) : [...theirs, "--socket", join(folder, "never.sock")];
        const waiting = new CliProcess("hawserctl", [command, ...more]);
        await waiting.says(command === "discover" ? /Discovering 127/ : /Logging in to/);
        expect((await waiting.interrupt()).exitCode).toBe(130);
        expect(existsSync(join(folder, "never.sock"))).toBe(false);
      } finally {
        tgtd.signal("SIGCONT");
      }
    });
  });
});
