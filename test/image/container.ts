import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The runtime that starts containers in tests: the one below containerd and Docker, without their daemons. */
export const RUNTIME = "runc";

/** For `describeNeeding`: what starts containers here. */
export const CONTAINER_NEEDS = ["root", RUNTIME, "unshare", "/sys/fs/cgroup/devices"] as const;

export interface ContainerMount {
  readonly source: string;
  readonly destination: string;
  readonly isReadOnly?: boolean;
  /** Mounts made inside are seen outside, as with Kubernetes' `mountPropagation: Bidirectional`. */
  readonly isBidirectional?: boolean;
}

export interface ContainerOptions {
  readonly args: readonly string[];
  /** Without `CAP_`. All that root in the container can ever have. */
  readonly capabilities: readonly string[];
  readonly mounts?: readonly ContainerMount[];
  /** The host's /dev and /sys with every device allowed, as in a privileged container; its capabilities are not. */
  readonly hasDevices?: boolean;
}

const oneFolder = (destination: string, type: string, options: readonly string[]): object => ({
  destination,
  type,
  source: type,
  options: ["nosuid", "noexec", ...options],
});

function deviceMounts(hasDevices: boolean): readonly object[] {
  if (hasDevices) {
    return ["/dev", "/sys"].map((path) => ({
      ...{ destination: path, source: path, type: "none" },
      options: ["rbind", "rw"],
    }));
  }
  return [oneFolder("/dev", "tmpfs", ["mode=755", "size=64k"]), oneFolder("/sys", "sysfs", ["nodev", "ro"])];
}

function bind(mount: ContainerMount): object {
  const { source, destination, isReadOnly = false, isBidirectional = false } = mount;
  const options = ["rbind", isReadOnly ? "ro" : "rw", isBidirectional ? "rshared" : "rprivate"];
  return { destination, source, type: "none", options };
}

/**
 * The OCI runtime's configuration of a container as the chart describes it: root with few capabilities and no way to
 * get more, a read-only root file system, the host's network, nothing of the host but what is mounted.
 */
export function containerSpec(rootfs: string, options: ContainerOptions): object {
  const { hasDevices = false } = options;
  const names = options.capabilities.map((name) => `CAP_${name}`);
  return {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      cwd: "/opt/hawser",
      args: options.args,
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_ENV=production"],
      capabilities: { bounding: names, effective: names, permitted: names },
      noNewPrivileges: true,
    },
    root: { path: rootfs, readonly: true },
    hostname: "hawser-image-test",
    mounts: [oneFolder("/proc", "proc", ["nodev"]), ...deviceMounts(hasDevices), ...(options.mounts ?? []).map(bind)],
    linux: {
      namespaces: [{ type: "mount" }, { type: "pid" }, { type: "ipc" }, { type: "uts" }],
      resources: { devices: [{ allow: hasDevices, access: "rwm" }] },
      ...(hasDevices ? { rootfsPropagation: "rshared" } : {}),
    },
  };
}

/** Writes `folder/NAME/config.json` for `crun run --bundle`. */
export function writeBundle(folder: string, name: string, spec: object): void {
  mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, name, "config.json"), JSON.stringify(spec));
}

export interface Ended {
  readonly exitCode: number;
  /** Standard output, then standard error. */
  readonly output: string;
}

/**
 * Runs a shell script with `set -eu` as root in mount and process namespaces of its own: whatever it mounts and starts
 * ends with it. A failure of the script is a result.
 */
export async function runIsolated(script: string, timeoutMs = 120_000): Promise<Ended> {
  const isolated = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"];
  try {
    const { stdout, stderr } = await run("unshare", [...isolated, "sh", "-euc", script], {
      timeout: timeoutMs,
      env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
    });
    return { exitCode: 0, output: stdout + stderr };
  } catch (error) {
    const failed = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof failed.code !== "number") throw error;
    return { exitCode: failed.code, output: (failed.stdout ?? "") + (failed.stderr ?? "") };
  }
}

/** Runs one container to its end. */
export async function runContainer(rootfs: string, options: ContainerOptions): Promise<Ended> {
  const folder = mkdtempSync(join(tmpdir(), "hawser-image-"));
  try {
    writeBundle(folder, "one", containerSpec(rootfs, options));
    return await runIsolated(
      `exec ${RUNTIME} --root ${folder}/state run --bundle ${folder}/one hawser-one-${process.pid}`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
