import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { connectVolume } from "../../src/initiator/connect-volume.js";
import { reportMeasured } from "../support/file-load.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, volumeRequest } from "../support/real-volume.js";

const NAMESPACE = `hawser-silent-${process.pid}`;
const PORT = 13_536;
const targetName = "iqn.2026-11.test:silent";
const ip = (...args: readonly string[]): void => {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"], timeout: 10_000 });
};

/** Two networks between this host and the namespace of the target; `10.251.N.1` here, `10.251.N.2` there. */
const NETWORKS = [1, 2];
const portals = NETWORKS.map((network) => ({ host: `10.251.${network}.2`, port: PORT }));

const linkName = (network: number): string => `hws${process.pid % 100_000}${network}`;

describeNeeding(["root", "ip", "tgtd", "tgtadm"], "a portal that falls silent", () => {
  let target: ChildProcess | undefined;

  beforeAll(async () => {
    ip("netns", "add", NAMESPACE);
    ip("-n", NAMESPACE, "link", "set", "lo", "up");
    for (const network of NETWORKS) {
      const link = linkName(network);
      ip("link", "add", link, "type", "veth", "peer", "name", `peer${network}`, "netns", NAMESPACE);
      ip("address", "add", `10.251.${network}.1/24`, "dev", link);
      ip("link", "set", link, "up");
      ip("-n", NAMESPACE, "address", "add", `10.251.${network}.2/24`, "dev", `peer${network}`);
      ip("-n", NAMESPACE, "link", "set", `peer${network}`, "up");
    }
    const names = portals.map(({ host, port }) => `${host}:${port}`);
    const program = [process.execPath, "--import", "tsx", "test/support/tgtd-child.ts", targetName, ...names];
    const child = spawn("ip", ["netns", "exec", NAMESPACE, ...program], { stdio: ["pipe", "pipe", "inherit"] });
    target = child;
    const ended = once(child, "exit").then(() => Promise.reject(new Error("tgtd did not start")));
    await Promise.race([once(child.stdout, "data"), ended]);
    ended.catch(() => undefined);
  }, 60_000);

  afterAll(async () => {
    if (target?.exitCode === null) {
      const ended = once(target, "exit");
      target.stdin?.end();
      await ended;
    }
    for (const network of NETWORKS) ip("link", "delete", linkName(network));
    ip("netns", "delete", NAMESPACE);
  }, 60_000);

  it("costs a ping and one short attempt before the other portal serves", async () => {
    const volume = await connectVolume(volumeRequest({ portals, targetName, lun: 1 }), realDependencies());
    await volume.device.write(0, Buffer.alloc(4096, 1));
    // Nothing finds its way back over the first network from now on, and nobody is told.
    ip("-n", NAMESPACE, "route", "add", "blackhole", "10.251.1.1/32");
    const beginMs = performance.now();
    await volume.device.write(0, Buffer.alloc(4096, 2));
    const waitMs = Math.round(performance.now() - beginMs);
    reportMeasured(`first write after the portal fell silent: ${waitMs} ms`);
    const found = Buffer.alloc(4096);
    await volume.device.read(0, found);
    expect(found[0]).toBe(2);
    expect(volume.sessions()).toMatchObject([{ portal: `10.251.2.2:${PORT}`, reconnects: 1 }]);
    // 5 s of silence and 5 s for the ping, looked at once a second; 3 s for the silent portal.
    expect(waitMs).toBeGreaterThan(8_000);
    expect(waitMs).toBeLessThan(17_000);
    await volume.close();
  }, 120_000);
});
