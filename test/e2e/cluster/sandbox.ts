import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCgroups } from "./cgroups.js";
import { NETWORK, PATHS, STATE } from "./layout.js";
import { startInBackground, waitFor, type Background } from "./process.js";

/** What is written down so that a later run can end the cluster and put the machine back as it was. */
export interface ClusterRecord {
  /** Process 1 of the sandbox, as this machine counts, and when it started, since numbers are used again. */
  readonly sandboxPid: number;
  readonly startTicks: string;
  /** The sandbox's own mount and network namespaces. */
  readonly namespaces: readonly string[];
  /** The machine's settings that the kubelet changes, as they were. */
  readonly sysctls: Readonly<Record<string, string>>;
}

/** Settings of the whole machine that the kubelet writes. */
const SYSCTLS = [
  "vm/overcommit_memory",
  "vm/panic_on_oom",
  "kernel/panic",
  "kernel/panic_on_oops",
  "kernel/keys/root_maxkeys",
  "kernel/keys/root_maxbytes",
];

const START_LIMIT_MS = 20_000;
const pidFile = join(PATHS.config, "sandbox.pid");

/**
 * Process 1 of the sandbox. Mounts are made before `/` is shared, so that each is a group of its own: a bind mount in
 * the group of `/` would show every later mount below it twice. `/var/lib` and `/var/log` are folders of the state, and
 * `/run` is empty: nothing the cluster writes lands among this machine's own files.
 */
const INIT = `#!/bin/bash
set -euo pipefail
# Read by the shell itself while /proc is still the machine's: its own number there.
read -r pid _ < /proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock ${PATHS.varLib}/hawser-e2e
mount --bind ${PATHS.varLog} /var/log
mount --bind ${STATE} ${PATHS.varLib}/hawser-e2e
mount --rbind ${PATHS.varLib} /var/lib
mount --make-rshared /
hostname ${NETWORK.nodeName}
ip link set lo up
ip link add node0 type veth peer name outside0
ip addr add ${NETWORK.nodeAddress}/${NETWORK.nodePrefix} dev node0
ip link set node0 up
ip link set outside0 up
# Leads nowhere; programs that look for "the" address of the machine take the one of the default route.
ip route add default via ${NETWORK.gateway} dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
# Traffic between pods of one bridge must pass the rules that translate service addresses.
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi
echo "$pid" > ${pidFile}.new
mv ${pidFile}.new ${pidFile}
# Bash reaps what is left to process 1. Killing this process ends everything in here.
while :; do sleep 3600 & wait $!; done
`;

/**
 * Runs a command inside the sandbox and its cgroup, in the same folder. The command does not outlive the program that
 * is waited for outside: killing that one ends it too.
 */
function enterScript(pid: number, cgroupFiles: readonly string[]): string {
  return `#!/bin/sh
# Runs a command inside the sandbox of the e2e cluster: ${PATHS.enter} COMMAND [ARGUMENT...]
for file in ${cgroupFiles.join(" ")}; do echo $$ > "$file"; done
exec nsenter --target ${pid} --mount --pid --net --uts --ipc -- \\
  setpriv --pdeathsig KILL sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
`;
}

/**
 * Runs a client of the API server: in the sandbox's network, but otherwise an ordinary process of this machine, which
 * finds files where they are and gets signals itself.
 */
function clientScript(pid: number, program: string): string {
  // helm keeps what it remembers here, so that this user's repositories and plug-ins play no part.
  const home = join(PATHS.config, "helm");
  const homes = ["CACHE", "CONFIG", "DATA"].map((name) => `HELM_${name}_HOME=${home}`).join(" ");
  return `#!/bin/sh
export KUBECONFIG=${PATHS.admin} ${homes}
exec nsenter --target ${pid} --net -- ${program} "$@"
`;
}

/** Field 22 of /proc/PID/stat, or undefined when there is no such process. */
async function startTicks(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  // The name in the second field may hold spaces and brackets.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

/** Is the sandbox of a record still there? */
export async function isAlive(record: ClusterRecord): Promise<boolean> {
  return (await startTicks(record.sandboxPid)) === record.startTicks;
}

/** The record of the cluster that was started last, if it was not ended. */
export async function readRecord(): Promise<ClusterRecord | undefined> {
  const text = await readFile(PATHS.record, "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as ClusterRecord);
}

async function readSysctls(): Promise<Record<string, string>> {
  const present = SYSCTLS.filter((name) => existsSync(`/proc/sys/${name}`));
  const entries = present.map(async (name) => [name, (await readFile(`/proc/sys/${name}`, "utf8")).trim()] as const);
  return Object.fromEntries(await Promise.all(entries));
}

/** Writes the record, and what else there is to say about the cluster. */
export async function writeRecord(record: ClusterRecord): Promise<void> {
  await writeFile(PATHS.record, `${JSON.stringify(record, null, 1)}\n`);
}

/** Puts back the settings the kubelet changed. */
export async function restoreSysctls(record: ClusterRecord): Promise<void> {
  for (const [name, value] of Object.entries(record.sysctls)) await writeFile(`/proc/sys/${name}`, value);
}

/**
 * Makes the state folder, the cgroup and the namespaces, and writes the record. Needs root. Everything that is started
 * through `PATHS.enter` afterwards ends with process 1 of the sandbox.
 */
export async function makeSandbox(clients: { readonly kubectl: string; readonly helm: string }): Promise<Background> {
  for (const folder of [STATE, PATHS.logs, PATHS.config, PATHS.varLib, PATHS.varLog])
    await mkdir(folder, { recursive: true });
  const cgroupFiles = await makeCgroups();
  const sysctls = await readSysctls();
  const script = join(PATHS.config, "init");
  await writeFile(script, INIT, { mode: 0o700 });
  const namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--net", "--uts", "--ipc"];
  const intoCgroup = cgroupFiles.map((path) => `echo $$ > ${path}`).join("; ");
  const sandbox = await startInBackground("sandbox", join(PATHS.logs, "sandbox.log"), [
    ...["sh", "-c", `${intoCgroup}; exec unshare ${namespaces.join(" ")} ${script}`],
  ]);
  await waitFor("the sandbox of namespaces", [sandbox], START_LIMIT_MS, () => Promise.resolve(existsSync(pidFile)));
  const pid = Number(await readFile(pidFile, "utf8"));
  const ticks = await startTicks(pid);
  if (ticks === undefined) throw new Error(`process 1 of the sandbox (${pid}) ended at once; see ${sandbox.log}`);
  const links = await Promise.all(["mnt", "net"].map((name) => readlink(`/proc/${pid}/ns/${name}`)));
  const record: ClusterRecord = { sandboxPid: pid, startTicks: ticks, namespaces: links, sysctls };
  await writeRecord(record);
  await writeFile(PATHS.enter, enterScript(pid, cgroupFiles), { mode: 0o755 });
  await writeFile(PATHS.kubectl, clientScript(pid, clients.kubectl), { mode: 0o755 });
  await writeFile(PATHS.helm, clientScript(pid, clients.helm), { mode: 0o755 });
  return sandbox;
}

/** Starts a component inside the sandbox; its log is `NAME.log`. */
export function startInside(
  name: string,
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Background> {
  return startInBackground(name, join(PATHS.logs, `${name}.log`), [PATHS.enter, ...command], env);
}

/** Processes of this machine that are in one of the sandbox's namespaces. */
export async function namespaceProcesses(record: ClusterRecord): Promise<readonly number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const inside = pids.map(async (pid) => {
    const links = await Promise.all(["mnt", "net"].map((name) => readlink(`/proc/${pid}/ns/${name}`).catch(() => "")));
    return links.some((link) => record.namespaces.includes(link)) ? [Number(pid)] : [];
  });
  return (await Promise.all(inside)).flat();
}
