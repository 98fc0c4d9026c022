import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { AttachRequest } from "../../src/dataplane/api.js";
import { DataplaneClient } from "../../src/dataplane/client.js";
import { connectVolume } from "../../src/initiator/connect-volume.js";
import { CLI_NEEDS, CliProcess, type CliResult, runCli } from "../support/cli-process.js";
import { ISTGT_TARGET_NAME, Istgt } from "../support/istgt.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, verifyTransfers, volumeRequest } from "../support/real-volume.js";

const PORTALS = [13_531, 13_532].map((port) => ({ host: "127.0.0.1", port }));
const needs = ["root", "istgt", "nbdfuse", "dd", "/dev/fuse", "/dev/loop-control", ...CLI_NEEDS];

interface ShownConnection {
  readonly cid: number;
  readonly portal: string;
}

describeNeeding(needs, "connections of a volume at istgt, through the dataplane", () => {
  let istgt: Istgt;
  let folder = "";
  let dataplane: CliProcess;
  let client: DataplaneClient;

  const request: AttachRequest = {
    ...{ volumeHandle: "pvc-1", portals: PORTALS, targetName: ISTGT_TARGET_NAME, lun: 0, expectedId: "" },
    ...{ isReadOnly: false, headerDigest: "none", dataDigest: "none", publicationId: "" },
    settings: { connections: 2, maxConnections: 4 },
  };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "hawser-connections-"));
    istgt = await Istgt.start({ controlPort: 13_530, portals: PORTALS, diskBytes: 64 << 20 });
    dataplane = new CliProcess("hawser", [
      ...["dataplane", "--socket", join(folder, "dp.sock"), "--state-dir", join(folder, "state")],
      ...["--runtime-dir", join(folder, "run"), "--node-name", "test", "--backend", "fuse"],
    ]);
    await dataplane.says(/dataplane is ready/);
    client = new DataplaneClient({ socketPath: join(folder, "dp.sock"), packageDirectory: process.cwd() });
  }, 60_000);

  afterAll(async () => {
    await client.detach("pvc-1").catch(() => undefined);
    client.close();
    await dataplane.interrupt();
    await istgt.stop();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  const hawserctl = (...args: string[]): Promise<CliResult> =>
    runCli("hawserctl", ...args, "--dataplane", join(folder, "dp.sock"));

  const shown = async (): Promise<readonly ShownConnection[]> => {
    const { out } = await hawserctl("connections", "-o", "json");
    return JSON.parse(out) as readonly ShownConnection[];
  };

  async function until(count: number): Promise<readonly ShownConnection[]> {
    for (let attempt = 0; attempt < 50; attempt += 1) {
      const connections = await shown();
      if (connections.length === count) return connections;
      await delay(100);
    }
    throw new Error(`never ${count} connections`);
  }

  it("are planned over the portals, added, removed and used otherwise while data flows", async () => {
    const { devicePath } = await client.attach(request);
    const [first, second] = await until(2);
    expect([first?.portal, second?.portal]).toEqual(["127.0.0.1:13531", "127.0.0.1:13532"]);

    const copy = (from: string, to: string): Promise<unknown> =>
      promisify(execFile)("dd", [`if=${from}`, `of=${to}`, "bs=64k", "count=512", "conv=fsync", "status=none"]);
    const image = join(folder, "image");
    await copy("/dev/urandom", image);
    const writing = copy(image, devicePath);
    for (const policy of ["least-queue-depth", "fail-over-only", "weighted-path", "round-robin-subset"]) {
      expect(await hawserctl("sessions", "set-policy", "pvc-1", policy)).toEqual({ exitCode: 0, out: "", err: "" });
      expect((await hawserctl("sessions")).out).toMatch(new RegExp(`0 +\\d/4 +${policy}`));
    }
    expect((await hawserctl("connections", "add", "pvc-1", "--portal", "127.0.0.1:13531")).err).toMatch(
      /^connection \d+ added/,
    );
    const added = (await until(3)).at(-1);
    expect((await hawserctl("connections", "remove", "pvc-1", "--cid", String(added?.cid))).exitCode).toBe(0);
    await until(2);
    await writing;
    await promisify(execFile)("cmp", ["-n", String(512 * 65_536), image, devicePath]);
    expect((await client.get("pvc-1"))?.sessions).toMatchObject([{ state: "ready", reconnects: 0 }]);
  }, 60_000);

  it("are refused in words: too many, unknown, the last, no such volume", async () => {
    await client.attach(request);
    await until(2);
    for (let cid = 2; cid < 4; cid += 1) {
      expect((await hawserctl("connections", "add", "pvc-1", "--portal", "127.0.0.1:13532")).exitCode).toBe(0);
    }
    const full = await hawserctl("connections", "add", "pvc-1", "--portal", "127.0.0.1:13532");
    expect(full.err).toContain("[SESSION_CONNECTION_LIMIT]");
    const unknown = await hawserctl("connections", "remove", "pvc-1", "--cid", "999");
    expect(unknown.err).toContain("[SESSION_CONNECTION_UNKNOWN]");
    for (const { cid } of (await until(4)).slice(1)) {
      expect(await hawserctl("connections", "remove", "pvc-1", "--cid", String(cid))).toMatchObject({ exitCode: 0 });
    }
    const [last] = await until(1);
    const refused = await hawserctl("connections", "remove", "pvc-1", "--cid", String(last?.cid));
    expect(refused.err).toContain("[SESSION_CONNECTION_LAST]");
    expect((await hawserctl("sessions", "set-policy", "pvc-2", "round-robin")).err).toContain("[VOLUME_NOT_FOUND]");
    expect((await hawserctl("sessions", "set-policy", "pvc-1")).err).toContain("[ARGUMENT_MISSING]");
    expect((await hawserctl("sessions", "set-policy", "pvc-1", "fastest")).exitCode).toBe(2);
  }, 60_000);

  it("are flags of the commands that log in themselves", async () => {
    const flags = ["--portal", "127.0.0.1:13531", "--portal", "127.0.0.1:13532", "--target", ISTGT_TARGET_NAME];
    const more = ["--connections", "3", "--policy", "round-robin", "--set", "tcpConnectTimeSeconds=5"];
    const bench = await runCli("hawserctl", "bench", ...flags, ...more, "--runtime", "1", "-o", "json");
    expect(JSON.parse(bench.out)).toMatchObject({ connections: 3, errorRecoveryLevel: 0 });
    const luns = await runCli("hawserctl", "luns", ...flags, ...more, "--error-recovery-level", "2");
    expect(luns.out).toMatch(/64 MiB/);
    const wrong = await runCli("hawserctl", "bench", ...flags, "--policy", "round-robin");
    expect(wrong).toMatchObject({ exitCode: 3, err: expect.stringContaining("[INITIATOR_SETTING_INVALID]") });
  }, 60_000);
});

describeNeeding(["istgt"], "portal hopping at istgt", () => {
  let istgt: Istgt;
  let proxy: Server;
  const sockets = new Set<Socket>();
  const NAMED = { host: "127.0.0.1", port: 13_535 };

  beforeAll(async () => {
    istgt = await Istgt.start({ controlPort: 13_530, portals: PORTALS, diskBytes: 64 << 20 });
    // A way to the first portal that can be taken away; the target knows nothing of it.
    proxy = createServer((from) => {
      const to = createConnection(13_531, "127.0.0.1");
      for (const [socket, other] of [
        [from, to],
        [to, from],
      ] as const) {
        sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => other.destroy());
        socket.pipe(other);
      }
    });
    await new Promise<void>((resolve) => proxy.listen(NAMED.port, NAMED.host, resolve));
  }, 60_000);

  afterAll(async () => {
    proxy.close();
    for (const socket of sockets) socket.destroy();
    await istgt.stop();
  });

  it("a volume that was given one portal comes back through one that the target advertises", async () => {
    const volume = await connectVolume(
      volumeRequest({
        ...{ portals: [NAMED], targetName: ISTGT_TARGET_NAME, lun: 0 },
        settings: { portalHopping: "advertised" },
      }),
      realDependencies(),
    );
    expect(volume.sessions()[0]?.portal).toBe("127.0.0.1:13535");
    await delay(1_000);
    proxy.close();
    for (const socket of sockets) socket.destroy();
    await verifyTransfers(volume.device, [4096, 65_536, 262_656]);
    expect(volume.sessions()).toMatchObject([{ portal: "127.0.0.1:13531", reconnects: 1, state: "ready" }]);
    await volume.close();
  }, 60_000);
});
