import { reportMeasured } from "../support/file-load.js";
import { readFioReport } from "../support/fio-report.js";
import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { type RepairedModule, repairedLioModule } from "../support/lio-repair.js";
import { lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";
import type { ProxyReport } from "../support/corrupting-proxy.js";
import type { VolumeSessionStatus } from "../../src/initiator/connect-volume.js";

const IQN = "iqn.2026-11.test:kills";
const TARGET_PORTS = [13_475, 13_476, 13_477, 13_478];
const PROXY_PORTS = [13_485, 13_486, 13_487, 13_488];
const KILLING_SECONDS = 25;

interface SessionReport {
  readonly sessions: readonly VolumeSessionStatus[];
  readonly events: Readonly<Record<string, number>>;
}

const loopback = (port: number): string => `127.0.0.1:${port}`;

describeNeeding([...UML_NEEDS, "fio", "mkfs.ext4", "e2fsck"], "four connections to LIO, killed one by one", () => {
  let build: GuestBuild;
  let module: RepairedModule;

  beforeAll(async () => {
    build = await buildForGuest();
    module = await repairedLioModule();
  });

  afterAll(async () => {
    await build.remove();
    await module.remove();
  });

  it("a file system under fio sees no error and every byte is right", async () => {
    const digests = { headerDigest: "CRC32C,None", dataDigest: "CRC32C,None" };
    const target = lioTarget({
      ...{ iqn: IQN, portals: TARGET_PORTS.map(loopback), errorRecoveryLevel: 2, maxConnections: 8, ...digests },
      lunSizesBytes: [96 << 20],
    });
    const routes = PROXY_PORTS.map((port, index) => ({
      listen: { host: "127.0.0.1", port },
      target: { host: "127.0.0.1", port: TARGET_PORTS[index] },
    }));
    const script = `modprobe nbd nbds_max=0
${lioStart(module.path)}${target}
node ${build.folder}/test/support/corrupting-proxy-main.js "$PROXY" > $SCRATCH/proxy.log 2>&1 &
PROXY_PID=$!
n=0; until grep -q ready $SCRATCH/proxy.log; do sleep 0.2; n=$((n+1)); test $n -lt 100; done
node ${build.folder}/test/kernel/guest/recovery-device.js ${IQN} ${PROXY_PORTS.map(loopback).join(" ")} > $RESULTS/device.log 2>&1 &
DEVICE_PID=$!
n=0; until test -s $SCRATCH/bound; do sleep 0.2; n=$((n+1)); test $n -lt 150 && kill -0 $DEVICE_PID || { cat $RESULTS/device.log; exit 90; }; done
DEV=$(cat $SCRATCH/bound)
mkfs.ext4 -q $DEV; mkdir $SCRATCH/m; mount $DEV $SCRATCH/m
fio --name=load --directory=$SCRATCH/m --size=12M --rw=randwrite --bsrange=4k-64k --ioengine=libaio --iodepth=8 --direct=1 \\
  --verify=crc32c --verify_fatal=1 --verify_state_save=0 --fsync=64 --end_fsync=1 --time_based=1 --runtime=${KILLING_SECONDS + 3} \\
  --rate=3m --output-format=json --output=$RESULTS/fio > /dev/null 2>&1 &
FIO_PID=$!
sleep 1; kill -USR1 $PROXY_PID
sleep ${KILLING_SECONDS}; kill -USR2 $PROXY_PID
wait $FIO_PID; echo fio $?
umount $SCRATCH/m
e2fsck -fn $DEV > $RESULTS/fsck 2>&1; echo fsck $?
kill -TERM $DEVICE_PID; wait $DEVICE_PID; echo device $?
kill -TERM $PROXY_PID; wait $PROXY_PID; cp $SCRATCH/proxy.json $RESULTS/proxy.json
`;
    const proxy = { routes, reportFile: "/run/scratch/proxy.json", killEveryMs: 1000 };
    const result = await runInUml({ script, memory: "1G", timeoutMs: 200_000, env: { PROXY: JSON.stringify(proxy) } });
    reportMeasured(`session: ${result.files["session.json"] ?? "nothing"}`);
    reportMeasured(`proxy: ${result.files["proxy.json"] ?? "nothing"}`);
    expectUmlSuccess(result);
    expect(result.output.trim().split("\n").slice(-3)).toEqual(["fio 0", "fsck 0", "device 0"]);
    const fio = readFioReport(result.files["fio"] ?? "");
    reportMeasured(`fio: ${JSON.stringify(fio)}`);
    expect(fio.writtenBytes).toBeGreaterThan(8 << 20);
    expect(fio.readBytes).toBeGreaterThan(8 << 20);
    const { killed } = JSON.parse(result.files["proxy.json"] ?? "{}") as ProxyReport;
    const report = JSON.parse(result.files["session.json"] ?? "{}") as SessionReport;
    const [session] = report.sessions;
    expect(killed).toBeGreaterThanOrEqual(20);
    expect(session).toMatchObject({ errorRecoveryLevel: 2, state: "ready" });
    expect(session?.connections.length).toBe(4);
    expect(session?.recovery.connectionRecoveries).toBeGreaterThanOrEqual(killed / 2);
    expect(session?.recovery.taskReassigns).toBeGreaterThan(0);
    // What the kernel says when a file system or a device has met an error.
    expect(result.console).not.toMatch(/I\/O error|Aborting journal|EXT4-fs error|Kernel panic/i);
  }, 220_000);
});
