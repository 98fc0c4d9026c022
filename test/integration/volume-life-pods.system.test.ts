import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CLI_NEEDS, CliProcess } from "../support/cli-process.js";
import { reportMeasured } from "../support/file-load.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { StaticVolume } from "../support/static-volume.js";
import { Tgtd } from "../support/tgt.js";

const MIB = 1_048_576;
const PORT = 13_460;
const TARGET = "iqn.2026-11.test:pods";
/** No other test has this size. */
const DISK_BYTES = 133 * MIB;

const WITHOUT_KUBELET =
  "awk '$5 ~ /hawser-life-.*[/]kubelet[/]/ { print $5 }' /proc/self/mountinfo | xargs --no-run-if-empty umount --lazy";

const needs = [...HOST_NEEDS, ...CLI_NEEDS, "tgtd", "tgtadm", "mkfs.ext4", "e2fsck", "unshare", "setpriv", "/dev/fuse"];

/** Loop devices of this size over a file that went away with its mount namespace: such a file has no name. */
function namelessLoops(): readonly string[] {
  const read = (name: string, attribute: string): string => {
    const path = `/sys/block/${name}/loop/${attribute}`;
    return existsSync(path) ? readFileSync(path, "utf8").trim() : "";
  };
  const names = readdirSync("/sys/block");
  return names.filter((name) => read(name, "backing_file") === "/" && Number(read(name, "sizelimit")) === DISK_BYTES);
}

/**
 * Node and dataplane as in pods: each with its own mount namespace (the node's mounts reach the host, the dataplane's
 * do not) and the capabilities of the chart, no more. What a FUSE device was made of goes away with the dataplane's
 * namespace; its loop device does not.
 */
describeNeeding(needs, "a dataplane whose pod goes away", () => {
  let tgtd: Tgtd;
  let host: HawserHost;
  let count = 0;
  const cut = (capabilities: string): string[] => [
    ...["setpriv", `--bounding-set=-all,${capabilities}`, "--inh-caps=-all", "--no-new-privs"],
  ];

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      ...{ controlPort: PORT, portals: [`127.0.0.1:${PORT}`] },
      targets: [{ name: TARGET, diskBytes: [DISK_BYTES] }],
    });
    host = await HawserHost.start({
      dataplaneArgs: ["--backend", "fuse"],
      // A container sees no mount of the kubelet's folder; here a new namespace begins with a copy of all, which pins them.
      dataplaneStarter: [
        ...["unshare", "--mount", "--propagation", "private", "sh", "-c", `${WITHOUT_KUBELET}; exec "$@"`, "sh"],
        ...cut("+sys_admin,+sys_resource,+ipc_lock"),
      ],
      nodeStarter: cut("+sys_admin,+sys_resource"),
    });
  }, 60_000);

  afterAll(async () => {
    await host.remove();
    // What a failed test left; there is nothing by which the host's own clean-up could know it.
    for (const name of namelessLoops()) execFileSync("losetup", ["-d", `/dev/${name}`]);
    await tgtd.stop();
  }, 60_000);

  const mountedVolume = async (): Promise<StaticVolume> => {
    truncateSync(tgtd.diskPath(0, 1), 0);
    truncateSync(tgtd.diskPath(0, 1), DISK_BYTES);
    const volume = new StaticVolume(host, {
      ...{ volumeId: `pod-${(count += 1)}`, fsType: "ext4" },
      attributes: { targetPortal: `127.0.0.1:${PORT}`, targetIQN: TARGET, lun: "1" },
    });
    await volume.attach();
    await volume.mount();
    writeFileSync(join(volume.podPath, "synced"), "kept", { flush: true });
    return volume;
  };

  /** The kubelet's way: the same call until it succeeds. */
  const insist = async (call: () => Promise<void>): Promise<void> => {
    const deadlineMs = Date.now() + 20_000;
    for (;;) {
      try {
        await call();
        return;
      } catch (error) {
        if (Date.now() > deadlineMs) throw error;
        await delay(250);
      }
    }
  };

  /** The pod that used the volume is deleted, and another comes. */
  const expectUsableAgain = async (volume: StaticVolume): Promise<void> => {
    const startMs = Date.now();
    await insist(() => volume.unpublish());
    await insist(() => volume.unstage());
    expect(namelessLoops()).toEqual([]);
    await insist(() => volume.mount());
    reportMeasured(`a volume was usable again ${Date.now() - startMs} ms after its dataplane was`);
    expect(readFileSync(join(volume.podPath, "synced"), "utf8")).toBe("kept");
    writeFileSync(join(volume.podPath, "after"), "written", { flush: true });
    await volume.unmount();
    expect(namelessLoops()).toEqual([]);
    expect(host.leftovers()).toEqual([]);
    execFileSync("e2fsck", ["-f", "-n", tgtd.diskPath(0, 1)], { stdio: "pipe" });
  };

  it("leaves volumes that can be taken away and mounted again after a kill", async () => {
    const volume = await mountedVolume();
    await host.dataplane.kill();
    // The kernel takes the namespace apart a moment after its last process.
    const deadlineMs = Date.now() + 10_000;
    while (namelessLoops().length === 0 && Date.now() < deadlineMs) await delay(20);
    expect(namelessLoops()).toHaveLength(1);
    await host.dataplane.start();
    await expectUsableAgain(volume);
  }, 60_000);

  it("stops in good time with a mounted volume, and says what is lost", async () => {
    const volume = await mountedVolume();
    const startMs = Date.now();
    expect(await host.dataplane.stop()).toBe(0);
    // Kubernetes gives a container 30 s.
    expect(Date.now() - startMs).toBeLessThan(15_000);
    expect(host.dataplane.log).toMatch(/mounted at [^"]*globalmount.*goes away with this process/);
    await host.dataplane.start();
    await expectUsableAgain(volume);
  }, 60_000);

  it("leaves nothing of a volume that nobody used when it stopped", async () => {
    const volume = await mountedVolume();
    await volume.unpublish();
    // Unmounted behind the driver's back: the device stays attached, and nobody has it open.
    execFileSync("umount", [volume.stagingPath]);
    expect(await host.dataplane.stop()).toBe(0);
    expect(namelessLoops()).toEqual([]);
    await host.dataplane.start();
    await expectUsableAgain(volume);
  }, 60_000);

  it("keeps a second dataplane away from its state, whatever its socket", async () => {
    const second = new CliProcess("hawser", [
      ...["dataplane", "--socket", join(host.directory, "second.sock"), "--state-dir", host.stateDirectory],
      ...["--runtime-dir", join(host.directory, "second-run"), "--backend", "fuse", "--node-name", "test-node"],
    ]);
    expect(await second.end()).toMatchObject({
      exitCode: 15,
      err: expect.stringMatching(/another dataplane uses .*state.*DATAPLANE_ALREADY_RUNNING/s) as string,
    });
  }, 30_000);
});
