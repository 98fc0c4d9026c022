import { join } from "node:path";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS, type UmlResult } from "../support/uml.js";

/** The embedded target, judged by the initiator of the Linux kernel. */

const PROGRAM = join(process.cwd(), "dist", "main.js");
const NEEDS = [...UML_NEEDS, PROGRAM, "iscsid", "iscsiadm", "fio", "mkfs.ext4", "e2fsck", "blkdiscard"];

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: { readonly total_ios: number };
    readonly write: { readonly total_ios: number; readonly clat_ns: { readonly max: number } };
  }[];
}

/**
 * Shell functions: open-iscsi with a database of its own in memory (`iscsid` is given short times, so that a lost
 * target is noticed soon), our target in the background, waiting for what the kernel does in its own time.
 */
const functions = `
cd $SCRATCH
for module in sd_mod iscsi_tcp crc32c_generic; do modprobe $module || true; done
mkdir -p /run/lock; mount -t tmpfs iscsi /etc/iscsi
echo InitiatorName=iqn.2026-11.test:guest > /etc/iscsi/initiatorname.iscsi
cat > /etc/iscsi/iscsid.conf <<'CONF'
node.startup = manual
node.leading_login = No
node.session.timeo.replacement_timeout = 120
node.conn[0].timeo.login_timeout = 15
node.conn[0].timeo.logout_timeout = 15
node.conn[0].timeo.noop_out_interval = 2
node.conn[0].timeo.noop_out_timeout = 2
node.session.initial_login_retry_max = 4
node.session.cmds_max = 128
node.session.queue_depth = 32
node.session.iscsi.InitialR2T = No
node.session.iscsi.ImmediateData = Yes
node.session.iscsi.FirstBurstLength = 65536
node.session.iscsi.MaxBurstLength = 262144
node.conn[0].iscsi.MaxRecvDataSegmentLength = 65536
node.session.scan = auto
CONF
wait_for() {
  n=0; until eval "$1"; do
    sleep 0.2; n=$((n+1))
    if [ $n -gt 150 ]; then echo "never: $1"; cat $SCRATCH/*.log; dmesg | tail -20; exit 90; fi
  done
}
start_target() {
  node ${PROGRAM} target --portal 127.0.0.1:13460 --volume disk=96Mi "$@" > $SCRATCH/target.out 2>> $SCRATCH/target.log &
  TARGET=$!
  wait_for 'grep -q listening $SCRATCH/target.out'
}
IQN=iqn.2026-11.dev.hawser:disk
adm() { iscsiadm -m node -T $IQN -p 127.0.0.1:13460 "$@"; }
set_node() { adm -o update -n "$1" -v "$2"; }
iscsid -f -d 1 > $SCRATCH/iscsid.log 2>&1 &
`;

describeNeeding(NEEDS, "open-iscsi with the embedded target", () => {
  const inGuest = async (script: string): Promise<UmlResult> => {
    const result = await runInUml({ script: functions + script, timeoutMs: 150_000 });
    expectUmlSuccess(result);
    return result;
  };

  it("logs in with CHAP and digests, verifies data, keeps a file system, discards, logs out", async () => {
    const { output, files } = await inGuest(`
umask 077; printf 'the secret of the guest' > $SCRATCH/secret
start_target --store memory --chap-user guest --chap-secret-file $SCRATCH/secret
iscsiadm -m discovery -t st -p 127.0.0.1:13460
set_node 'node.conn[0].iscsi.HeaderDigest' CRC32C
set_node 'node.conn[0].iscsi.DataDigest' CRC32C
if adm --login > $SCRATCH/refused.log 2>&1; then echo "logged in without CHAP"; exit 1; else echo "refused: $?"; fi
set_node node.session.auth.authmethod CHAP
set_node node.session.auth.username guest
set_node node.session.auth.password 'a secret that is wrong'
if adm --login > $SCRATCH/refused.log 2>&1; then echo "logged in with a wrong secret"; exit 1; else echo "refused: $?"; fi
set_node node.session.auth.password 'the secret of the guest'
dmesg --clear
adm --login
wait_for 'test -b /dev/sda'
iscsiadm -m session -P 3 > $RESULTS/session
blockdev --getsize64 --getss /dev/sda
cat /sys/block/sda/device/vendor /sys/block/sda/device/model
fio --name=v --verify_state_save=0 --filename=/dev/sda --ioengine=libaio --direct=1 --rw=randwrite --bsrange=4k-64k --iodepth=16 --size=48M \\
  --verify=crc32c --verify_fatal=1 --verify_state_save=0 --output-format=json --output=$RESULTS/fio
blkdiscard -o 0 -l 33554432 /dev/sda
cmp -n 33554432 /dev/sda /dev/zero; echo discarded
mkfs.ext4 -q /dev/sda; mkdir $SCRATCH/m; mount /dev/sda $SCRATCH/m
head -c 20000000 /dev/urandom > $SCRATCH/data; cp $SCRATCH/data $SCRATCH/m/data; fstrim -v $SCRATCH/m > /dev/null
umount $SCRATCH/m; echo 3 > /proc/sys/vm/drop_caches
mount /dev/sda $SCRATCH/m; cmp $SCRATCH/data $SCRATCH/m/data; umount $SCRATCH/m
e2fsck -fn /dev/sda > /dev/null 2>&1; echo clean
adm --logout; wait_for 'test ! -e /sys/block/sda'
kill -INT $TARGET; if wait $TARGET; then echo "target ended: 0"; else echo "target ended: $?"; fi
cp $SCRATCH/target.log $RESULTS/log; dmesg > $RESULTS/dmesg
`);
    process.stdout.write(output);
    expect(output).toContain("127.0.0.1:13460,1 iqn.2026-11.dev.hawser:disk");
    // 24: ISCSI_ERR_LOGIN_AUTH_FAILED of iscsiadm(8).
    expect(output.match(/refused: \d+/g)).toEqual(["refused: 24", "refused: 24"]);
    expect(output).toContain("100663296\n512\n");
    expect(output).toMatch(/discarded\n(?:.*\n)*clean\n(?:.*\n)*target ended: 0\n/);
    const session = files["session"] ?? "";
    expect(session).toMatch(/HeaderDigest: CRC32C/);
    expect(session).toMatch(/DataDigest: CRC32C/);
    expect(session).toMatch(/username: guest/);
    const [job] = (JSON.parse(files["fio"] ?? "") as FioReport).jobs;
    expect(job?.error).toBe(0);
    expect(job?.read.total_ios).toBe(job?.write.total_ios);
    const kernel = (files["dmesg"] ?? "").split("\n");
    expect(kernel.filter((line) => /conn error|I\/O error|Medium Error|Illegal Request/i.test(line))).toEqual([]);
    expect(kernel.join()).toContain("Attached SCSI disk");
    expect(files["log"]).not.toContain("the secret of the guest");
  }, 170_000);

  it("recovers when the target dies and comes back with its files", async () => {
    const { output, files } = await inGuest(`
start_target --store file:$SCRATCH/store
iscsiadm -m discovery -t st -p 127.0.0.1:13460 > /dev/null
set_node 'node.conn[0].iscsi.HeaderDigest' CRC32C
adm --login > /dev/null
wait_for 'test -b /dev/sda'
fio --name=v --verify_state_save=0 --filename=/dev/sda --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=8 --size=32M --rate_iops=700 \\
  --verify=crc32c --verify_fatal=1 --verify_state_save=0 --output-format=json --output=$RESULTS/fio &
FIO=$!
for signal in KILL TERM; do
  sleep 3; kill -$signal $TARGET; wait $TARGET || true; sleep 1
  kill -0 $FIO; echo "restarted after $signal"
  start_target --store file:$SCRATCH/store
done
wait $FIO; echo "fio ended"
iscsiadm -m session
adm --logout > /dev/null; wait_for 'test ! -e /sys/block/sda'
kill -INT $TARGET; wait $TARGET; echo "target ended"
dmesg > $RESULTS/dmesg
`);
    process.stdout.write(output);
    expect(output).toMatch(/restarted after KILL\nrestarted after TERM\nfio ended\ntcp: \[\d+\].*\ntarget ended\n/);
    const [job] = (JSON.parse(files["fio"] ?? "") as FioReport).jobs;
    expect(job).toMatchObject({ error: 0, write: { total_ios: 8192 }, read: { total_ios: 8192 } });
    // It was really interrupted: somebody waited for the target to come back.
    expect(files["dmesg"]).toMatch(/detected conn error/);
    process.stdout.write(`longest write: ${Math.round((job?.write.clat_ns.max ?? 0) / 1e6)} ms\n`);
    expect(files["dmesg"]).not.toMatch(/I\/O error/);
  }, 170_000);
});
