import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS, type UmlResult } from "../support/uml.js";

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: { readonly total_ios: number };
    readonly write: { readonly total_ios: number };
  }[];
}

/**
 * Shell functions: start a server and wait until it has bound (`serve`), tell it something and wait for the outcome
 * (`tell`). Everything lives in the guest's memory.
 */
const functions = `
modprobe nbd nbds_max=0
serve() {
  rm -f $SCRATCH/bound
  node $BUILD/test/kernel/guest/nbd-device.js "$@" >> $SCRATCH/server.log 2>&1 &
  SERVER=$!
  n=0; while [ ! -s $SCRATCH/bound ]; do
    sleep 0.1; n=$((n+1))
    if [ $n -gt 200 ] || ! kill -0 $SERVER; then cat $SCRATCH/server.log; exit 90; fi
  done
  read DEV NUMBERS < $SCRATCH/bound; NAME=\${DEV#/dev/}
}
tell() {
  rm -f $SCRATCH/outcome; kill -$1 $SERVER
  n=0; while [ ! -s $SCRATCH/outcome ]; do
    sleep 0.1; n=$((n+1)); if [ $n -gt 150 ]; then cat $SCRATCH/server.log; exit 91; fi
  done
  cat $SCRATCH/outcome
}
`;

describeNeeding([...UML_NEEDS, "fio", "mkfs.ext4", "e2fsck"], "kernel nbd devices", () => {
  let build: GuestBuild;

  beforeAll(async () => {
    build = await buildForGuest(["test/kernel/guest"]);
  });

  afterAll(() => build.remove());

  const inGuest = async (script: string): Promise<UmlResult> => {
    const result = await runInUml({ script: functions + script, env: { BUILD: build.folder }, timeoutMs: 150_000 });
    expectUmlSuccess(result);
    return result;
  };

  it("carry a file system, and go away when released", async () => {
    const { output } = await inGuest(`
serve bind cluster/volume/naa.1 134217728
cat /sys/block/$NAME/backend /sys/block/$NAME/queue/io_timeout
test "$(cat /sys/block/$NAME/dev)" = $NUMBERS
blockdev --getsize64 --getss $DEV
mkfs.ext4 -q $DEV; mkdir $SCRATCH/m; mount $DEV $SCRATCH/m
fio --name=v --verify_state_save=0 --directory=$SCRATCH/m --size=8M --bs=4k --rw=randwrite --iodepth=16 --ioengine=libaio --direct=1 \\
  --verify=crc32c --end_fsync=1 --output=$RESULTS/fio
tell TERM
umount $SCRATCH/m; e2fsck -fn $DEV > /dev/null 2>&1; echo clean
tell TERM
wait $SERVER
test ! -e /sys/block/$NAME/backend; echo gone
`);
    const lines = output.trim().split("\n");
    expect(lines.slice(0, 4)).toEqual(["cluster/volume/naa.1", "1000", "134217728", "512"]);
    expect(lines[4]).toMatch(/^\/dev\/nbd0 is in use: mounted at \/run\/scratch\/m/);
    expect(lines.slice(5)).toEqual(["clean", "ok", "gone"]);
  }, 180_000);

  it("grow online under a mounted file system", async () => {
    const { output, files } = await inGuest(`
serve bind cluster/grow 67108864
mkfs.ext4 -q $DEV; mkdir $SCRATCH/m; mount $DEV $SCRATCH/m; echo kept > $SCRATCH/m/file
tell USR1
blockdev --getsize64 $DEV
resize2fs $DEV > /dev/null 2>&1; stat -f -c %S:%b $SCRATCH/m > $RESULTS/blocks
cat $SCRATCH/m/file
umount $SCRATCH/m; e2fsck -fn $DEV > /dev/null 2>&1; tell TERM
`);
    expect(output).toBe("ok\n134217728\nkept\nok\n");
    const [blockBytes = 0, blocks = 0] = (files["blocks"] ?? "").split(":").map(Number);
    expect(blockBytes * blocks).toBeGreaterThan(110 * 1024 * 1024);
  }, 180_000);

  it("survive SIGKILL of their server under load without an error", async () => {
    const { output, files } = await inGuest(`
truncate -s 128M $SCRATCH/disk
serve bind cluster/killed/naa.2 0 $SCRATCH/disk
mkfs.ext4 -q $DEV; mkdir $SCRATCH/m; mount $DEV $SCRATCH/m
fio --name=v --verify_state_save=0 --directory=$SCRATCH/m --size=12M --bs=4k --rw=randwrite --iodepth=16 --ioengine=libaio --direct=1 \\
  --fsync=64 --verify=crc32c --verify_fatal=1 --loops=2 --rate_iops=,500 --output=$RESULTS/fio --output-format=json > /dev/null 2>&1 &
FIO=$!
for round in 1 2; do
  sleep 3; kill -KILL $SERVER; wait $SERVER || true
  serve recover cluster/killed/naa.2 0 $SCRATCH/disk
  echo recovered $DEV
done
wait $FIO; echo fio $?
umount $SCRATCH/m; e2fsck -fn $DEV > /dev/null 2>&1; echo clean
tell TERM; cat $SCRATCH/server.log
`);
    expect(output.replaceAll("Killed\n", "")).toBe(
      [
        "recovered /dev/nbd0",
        "recovered /dev/nbd0",
        "fio 0",
        "clean",
        "ok",
        // What the recovered servers logged: nothing.
        "",
      ].join("\n"),
    );
    const fio = JSON.parse(files["fio"] ?? "") as FioReport;
    expect(fio.jobs[0]?.error).toBe(0);
    // Every block was written twice, and read back to be verified.
    expect(fio.jobs[0]?.write.total_ios).toBe(2 * 3072);
    expect(fio.jobs[0]?.read.total_ios).toBe(2 * 3072);
  }, 180_000);

  it("wait when parked, go to the next server, and refuse a second one", async () => {
    const { output } = await inGuest(`
truncate -s 64M $SCRATCH/disk
serve bind cluster/parked 0 $SCRATCH/disk
dd if=/dev/urandom of=$DEV bs=1M count=4 oflag=direct status=none
sum=$(dd if=$DEV bs=1M count=4 iflag=direct status=none | md5sum)
tell HUP; wait $SERVER
dd if=$DEV bs=1M count=4 iflag=direct status=none | md5sum > $SCRATCH/read & READ=$!
sleep 1; test ! -s $SCRATCH/read; echo waiting
truncate -s 128M $SCRATCH/disk
serve recover cluster/parked 0 $SCRATCH/disk
wait $READ; test "$(cat $SCRATCH/read)" = "$sum"; echo same
blockdev --getsize64 $DEV
node $BUILD/test/kernel/guest/nbd-device.js recover cluster/other 67108864 2>&1 | grep -o 'nothing to recover' | head -1
node $BUILD/test/kernel/guest/nbd-device.js bind cluster/parked 67108864 2>&1 | grep -o 'carries the backend id' | head -1
node $BUILD/test/kernel/guest/nbd-device.js recover cluster/parked 134217728 2>&1 | grep -o 'still served by another process' | head -1
tell TERM
`);
    expect(output).toBe(
      "ok\nwaiting\nsame\n134217728\nnothing to recover\ncarries the backend id\nstill served by another process\nok\n",
    );
  }, 180_000);
});
