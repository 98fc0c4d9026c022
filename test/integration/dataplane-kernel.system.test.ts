import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const target = "iqn.2026-11.dev.hawser.test:kernel";

/** Starts a dataplane and waits until it serves; calls it. */
const functions = `
${lioStart()}${lioTarget({ iqn: target, lunSizesBytes: [96 * 1024 * 1024] })}
modprobe nbd nbds_max=0
start() {
  : > $SCRATCH/ready
  node $BUILD/test/support/dataplane-child.js $SCRATCH/state $SCRATCH/run $SCRATCH/dp.sock nbd $SCRATCH/log \\
    >> $SCRATCH/ready 2>&1 &
  DP=$!
  n=0; while ! grep -q ready $SCRATCH/ready; do
    sleep 0.1; n=$((n+1))
    if [ $n -gt 300 ] || ! kill -0 $DP; then cat $SCRATCH/ready $SCRATCH/log; exit 90; fi
  done
}
call() { node $BUILD/test/support/dataplane-call.js $SCRATCH/dp.sock "$@"; }
sessions() { cat $TPG/dynamic_sessions | tr -d '\\0' | grep -c iqn || true; }
`;

describeNeeding(
  [...UML_NEEDS, "fio", "mkfs.ext4", "e2fsck"],
  "the dataplane process with kernel nbd, against LIO",
  () => {
    let build: GuestBuild;

    beforeAll(async () => {
      build = await buildForGuest(["test/support"]);
    });
    afterAll(() => build.remove());

    it("carries a mounted file system through kill -9 under load and through a stop, and leaves nothing behind", async () => {
      const { output, files } = await runAndCheck(`
start
FIRST=$(call attach pvc/1 ${target}); echo "attached $FIRST"
DEV=\${FIRST%% *}; NAME=\${DEV#/dev/}
cat /sys/block/$NAME/backend > $RESULTS/backend
mkfs.ext4 -q $DEV; mkdir $SCRATCH/m; mount $DEV $SCRATCH/m
fio --name=v --verify_state_save=0 --directory=$SCRATCH/m --size=12M --bs=4k --rw=randwrite --iodepth=8 --ioengine=libaio --direct=1 \\
  --verify=crc32c --fsync=64 --output=$RESULTS/fio --output-format=json &
FIO=$!
sleep 1.5; { kill -9 $DP; wait $DP || true; } 2> /dev/null
kill -0 $FIO && echo "fio was under way"
start
wait $FIO && echo "fio without an error"
echo "resumed $(call wait pvc/1 attached)"
echo "busy $(call detach pvc/1 | cut -d' ' -f1)"
echo kept > $SCRATCH/m/file; sync
kill -TERM $DP; wait $DP && echo "stopped, sessions: $(sessions)"
test -e /sys/block/$NAME/backend && echo "the device waits"
start
echo "again $(call wait pvc/1 attached)"
echo 3 > /proc/sys/vm/drop_caches; cat $SCRATCH/m/file
umount $SCRATCH/m; e2fsck -fn $DEV > /dev/null 2>&1 && echo clean
call detach pvc/1
test ! -e /sys/block/$NAME/backend && echo "gone, sessions: $(sessions)"
kill -TERM $DP; wait $DP; cp $SCRATCH/log $RESULTS/log
`);
      const lines = output.trim().split("\n");
      const [, device = "", , isid = ""] = lines[0]?.split(" ") ?? [];
      expect(device).toMatch(/^\/dev\/nbd\d+$/);
      expect(lines).toEqual([
        `attached ${device} 1 ${isid}`,
        "fio was under way",
        "fio without an error",
        `resumed ${device} 1 ${isid}`,
        "busy DEVICE_BUSY",
        "stopped, sessions: 0",
        "the device waits",
        `again ${device} 1 ${isid}`,
        "kept",
        "clean",
        "- 0 -",
        "gone, sessions: 0",
      ]);
      expect(files["backend"]).toMatch(/^test\/pvc%2F1\/naa\.6001405/);
    }, 180_000);

    const runAndCheck = async (script: string): ReturnType<typeof runInUml> => {
      const result = await runInUml({ script: functions + script, env: { BUILD: build.folder }, timeoutMs: 150_000 });
      expectUmlSuccess(result);
      return result;
    };
  },
);
