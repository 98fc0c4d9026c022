import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeNeeding } from "../support/needs.js";
import { type BuiltImage, builtImage, IMAGE_BUILD_TIMEOUT_MS, IMAGE_NEEDS } from "./built-image.js";
import { CAPABILITIES, CAPABILITY_BITS, without } from "./capabilities.js";
import { containerSpec, type ContainerOptions, RUNTIME, runContainer, runIsolated, writeBundle } from "./container.js";
import { worldScript } from "./volume-world.js";

const needs = [
  ...IMAGE_NEEDS,
  join(process.cwd(), "dist", "hawserctl.js"),
  "/dev/fuse",
  "/dev/loop-control",
  "mkfs.xfs",
];

/** Capabilities that this process could hand on; a machine may withhold some. */
function bounding(): bigint {
  return BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"}`);
}

function available(names: readonly string[]): readonly string[] {
  return names.filter((name) => (bounding() & (1n << (CAPABILITY_BITS[name] ?? 63n))) !== 0n);
}

function bits(names: readonly string[]): string {
  return names
    .reduce((sum, name) => sum | (1n << (CAPABILITY_BITS[name] ?? 63n)), 0n)
    .toString(16)
    .padStart(16, "0");
}

describeNeeding(needs, "the image's processes on this kernel", () => {
  let image: BuiltImage;
  let folder: string;

  beforeAll(() => {
    image = builtImage();
    folder = mkdtempSync(join(tmpdir(), "hawser-image-"));
  }, IMAGE_BUILD_TIMEOUT_MS);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const start = (process: string, options: Omit<ContainerOptions, "args"> & { args: readonly string[] }) =>
    runContainer(image.rootfs, { ...options, args: ["hawser", process, ...options.args], hasDevices: true });
  const dataplaneArgs = ["--socket", "/dev/shm/none/s", "--state-dir", "/dev/shm/none", "--backend", "fuse"];

  it("carry a volume through its life over FUSE and loop, with the listed capabilities only", async () => {
    const capabilities = {
      ...CAPABILITIES,
      dataplane: available(CAPABILITIES.dataplane),
      node: available(CAPABILITIES.node),
    };
    const world = worldScript({
      ...{ rootfs: image.rootfs, bundles: join(folder, "bundles"), directory: join(folder, "world") },
      ...{ backend: "fuse", port: 13_790, capabilities },
    });
    const { exitCode, output } = await runIsolated(`LOGS=${folder}/logs; ${world}
world_start; world_life xfs || { tail -n 20 $LOGS/*.log; exit 1; }; world_stop`);
    expect([exitCode, output]).toEqual([
      0,
      expect.stringMatching(/ok +NodeExpandVolume, while mounted[^]*16 steps passed/),
    ]);
  }, 120_000);

  it("say which capability is missing, what for, and what to do", async () => {
    const dataplane = await start("dataplane", {
      capabilities: available(without(CAPABILITIES.dataplane, "SYS_ADMIN")),
      args: dataplaneArgs,
    });
    expect([dataplane.exitCode, dataplane.output]).toEqual([
      14,
      expect.stringMatching(
        /CAP_SYS_ADMIN is missing[^.]*: the kernel gives no block device to this process; add SYS_ADMIN/,
      ),
    ]);
    const node = await start("node", {
      capabilities: available(["DAC_READ_SEARCH"]),
      args: ["--endpoint", "unix:///dev/shm/none/s", "--state-dir", "/dev/shm/none"],
    });
    expect([node.exitCode, node.output]).toEqual([
      14,
      expect.stringMatching(/CAP_SYS_ADMIN is missing[^.]*: nothing can be mounted; add SYS_ADMIN/),
    ]);
    expect(node.output).toMatch(/CAP_SYS_RESOURCE is missing[^.]*: a mounted ext4 cannot grow/);
    const unlocked = await start("dataplane", {
      capabilities: ["SYS_ADMIN"],
      args: [...dataplaneArgs, "--require-protections"],
    });
    expect([unlocked.exitCode, unlocked.output]).toEqual([
      14,
      expect.stringMatching(/program code not locked in memory: [^]*CAP_IPC_LOCK is missing[^;]*; add IPC_LOCK/),
    ]);
  }, 60_000);

  it("need DAC_READ_SEARCH to grow a volume whose root belongs to the application alone", async () => {
    const mounted = join(folder, "grown");
    const attempt = (capabilities: readonly string[], name: string): string => {
      const spec = containerSpec(image.rootfs, {
        ...{ args: ["xfs_growfs", "-d", mounted], capabilities, hasDevices: true },
        mounts: [{ source: mounted, destination: mounted }],
      });
      writeBundle(folder, name, spec);
      return `${RUNTIME} --root ${folder}/state run --bundle ${folder}/${name} hawser-${name}-$$ 2>&1 || echo failed`;
    };
    const { exitCode, output } = await runIsolated(`
truncate -s 320M ${folder}/disk; L=$(losetup -f --show ${folder}/disk)
trap 'umount ${mounted}; losetup -d $L' EXIT
mkfs.xfs -q $L; mkdir ${mounted}; mount $L ${mounted}; chown 999 ${mounted}; chmod 700 ${mounted}
truncate -s 640M ${folder}/disk; losetup -c $L
echo without; ${attempt(["SYS_ADMIN"], "without")}
echo with; ${attempt(["SYS_ADMIN", "DAC_READ_SEARCH"], "with")}`);
    expect(exitCode).toBe(0);
    expect(output).toMatch(/without\n[^]*Permission denied\nfailed\nwith\n[^]*data blocks changed/);
  }, 60_000);

  it.each(["node", "dataplane"] as const)(
    "have what the chart's setpriv leaves of a privileged container: %s",
    async (name) => {
      const listed = CAPABILITIES[name];
      const bounds = ["-all", ...listed.map((one) => `+${one.toLowerCase()}`)].join(",");
      const { exitCode, output } = await runContainer(image.rootfs, {
        args: [
          ...["setpriv", `--bounding-set=${bounds}`, "--inh-caps=-all", "--no-new-privs"],
          ...["grep", "^Cap", "/proc/self/status"],
        ],
        capabilities: available(Object.keys(CAPABILITY_BITS)),
      });
      expect(exitCode).toBe(0);
      const sets = [...output.matchAll(/^Cap(\w+):\s*([0-9a-f]+)$/gm)].map(([, set, value]) => [set, value]);
      const expected = bits(available(listed));
      const none = bits([]);
      expect(sets).toEqual([
        ["Inh", none],
        ["Prm", expected],
        ["Eff", expected],
        ["Bnd", expected],
        ["Amb", none],
      ]);
    },
    60_000,
  );

  it("cannot open a device in a container that is not privileged, so the dataplane has to be", async () => {
    const { exitCode, output } = await runContainer(image.rootfs, {
      ...{
        args: ["sh", "-c", "dd if=/host-dev/loop-control count=1"],
        capabilities: available(CAPABILITIES.dataplane),
      },
      mounts: [{ source: "/dev", destination: "/host-dev", isReadOnly: true }],
    });
    expect([exitCode, output]).toEqual([1, expect.stringContaining("Operation not permitted")]);
  }, 60_000);
});
