import { spawn } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a test needs for `runInUml`, for `describeNeeding`. */
export const UML_NEEDS = ["linux.uml", "modprobe", "root", "/usr/lib/uml/modules"] as const;

export interface UmlOptions {
  /**
   * Body of a shell script run as root in the guest with `set -eu`. The guest sees the host's file system, with its
   * own /proc, /sys, /run, /dev and /dev/shm (tmpfs). `$RESULTS` is a folder whose files come back, `$SCRATCH` an
   * empty folder in the guest's memory. `modprobe` finds the guest kernel's modules.
   */
  readonly script: string;
  /** Guest memory, for example `1G` (default). */
  readonly memory?: string;
  /** Longest run; then the guest is killed. Default 120 s. */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface UmlResult {
  /** Of the script; undefined when the guest ended without reporting one (timeout, kernel panic). */
  readonly exitCode: number | undefined;
  /** Standard output and standard error of the script. */
  readonly output: string;
  /** Messages of the guest's kernel. */
  readonly console: string;
  /** Contents of the files left in `$RESULTS`, by name. */
  readonly files: Readonly<Record<string, string>>;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function initScript(folder: string, options: UmlOptions): string {
  const exports = Object.entries(options.env ?? {}).map(([name, value]) => `export ${name}=${quote(value)}`);
  return `#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/shm; mount -t tmpfs shm /dev/shm
ip link set lo up
# The guest's modules, found without touching the host's /lib/modules.
mkdir -p /run/modprobe/lib /run/scratch
ln -s /usr/lib/uml/modules /run/modprobe/lib/modules
printf '#!/bin/sh\\nexec /sbin/modprobe -d /run/modprobe "$@"\\n' > /run/modprobe/modprobe
chmod +x /run/modprobe/modprobe
echo /run/modprobe/modprobe > /proc/sys/kernel/modprobe
export PATH=/run/modprobe:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
export RESULTS=${quote(join(folder, "results"))} SCRATCH=/run/scratch
${exports.join("\n")}
cd ${quote(process.cwd())}
sh -eu ${quote(join(folder, "script.sh"))} > ${quote(join(folder, "output"))} 2>&1 </dev/null
echo $? > ${quote(join(folder, "exit-code"))}
halt -f
`;
}

async function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}

async function readFolder(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder);
  const entries = await Promise.all(names.map(async (name) => [name, await readText(join(folder, name))] as const));
  return Object.fromEntries(entries);
}

/**
 * Runs a guest, which makes itself a process group with the processes that its programs are here, until it ends, or until
 * standard input does: so it ends with its owner too.
 */
const WITH_OWNER =
  'exec 3<&0; "$@" </dev/null & guest=$!; ' +
  "{ cat <&3; kill -s KILL -- -$guest $guest; } >/dev/null 2>&1 & wait $guest; kill -s KILL 0";

/** Boots the kernel and returns what it printed; kills its whole process group when time is up. */
function boot(folder: string, options: UmlOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const guest = spawn(
      "sh",
      [
        ...["-c", WITH_OWNER, "sh", "linux.uml"],
        `mem=${options.memory ?? "1G"}`,
        ...["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet", "con=null", "con0=fd:0,fd:1"],
        `init=${join(folder, "init.sh")}`,
        `uml_dir=${folder}`,
      ],
      { stdio: ["pipe", "pipe", "pipe"], detached: true, env: { ...process.env, TMPDIR: "/dev/shm" } },
    );
    let printed = "";
    const collect = (chunk: Buffer): void => {
      if (printed.length < 1_000_000) printed += chunk.toString("latin1");
    };
    guest.stdout.on("data", collect);
    guest.stderr.on("data", collect);
    const timer = setTimeout(() => guest.stdin.end(), options.timeoutMs ?? 120_000);
    guest.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    guest.on("close", () => {
      clearTimeout(timer);
      resolve(printed);
    });
  });
}

/**
 * Runs a script as root in User-Mode Linux: a real kernel with nbd, LIO, iscsi_tcp, device-mapper and loop, as an
 * ordinary process over the host's file system. It has one processor and boots in about a second. The script's
 * failure is a result, not an exception. Leaves nothing behind but what the script itself wrote on the host.
 */
export async function runInUml(options: UmlOptions): Promise<UmlResult> {
  const folder = await mkdtemp(join(tmpdir(), "hawser-uml-"));
  try {
    await mkdir(join(folder, "results"));
    await writeFile(join(folder, "script.sh"), options.script);
    await writeFile(join(folder, "init.sh"), initScript(folder, options));
    await chmod(join(folder, "init.sh"), 0o755);
    const printed = await boot(folder, options);
    const exitText = (await readText(join(folder, "exit-code"))).trim();
    return {
      exitCode: exitText === "" ? undefined : Number(exitText),
      output: await readText(join(folder, "output")),
      console: printed,
      files: await readFolder(join(folder, "results")),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Fails with everything the guest said unless its script ended with 0. */
export function expectUmlSuccess(result: UmlResult): void {
  if (result.exitCode === 0) return;
  const verdict = result.exitCode === undefined ? "did not finish" : `ended with ${result.exitCode}`;
  throw new Error(
    `the guest's script ${verdict}\n--- output\n${result.output.slice(-8000)}\n--- kernel\n${result.console.slice(-2000)}`,
  );
}
