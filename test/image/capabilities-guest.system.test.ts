import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";
import { type BuiltImage, builtImage, IMAGE_BUILD_TIMEOUT_MS, IMAGE_NEEDS } from "./built-image.js";
import { CAPABILITIES, without } from "./capabilities.js";
import { containerSpec, RUNTIME, writeBundle } from "./container.js";
import { processContainer, type WorldOptions, worldScript } from "./volume-world.js";

const needs = [...UML_NEEDS, ...IMAGE_NEEDS, join(process.cwd(), "dist", "hawserctl.js")];
const DIRECTORY = "/run/scratch/world";

/** What a container runtime wants of a kernel that has just booted. */
const controlGroups = `
mount -t tmpfs cgroup /sys/fs/cgroup
for c in cpu cpuacct blkio memory devices freezer pids; do
  mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c
done
`;

describeNeeding(needs, "the image's processes on a kernel with nbd and every capability", () => {
  let image: BuiltImage;
  let folder: string;

  beforeAll(() => {
    image = builtImage();
    folder = mkdtempSync(join(tmpdir(), "hawser-image-"));
  }, IMAGE_BUILD_TIMEOUT_MS);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const world = (): WorldOptions => ({
    ...{ rootfs: image.rootfs, bundles: join(folder, "bundles"), directory: DIRECTORY },
    ...{ backend: "nbd", port: 13_791, capabilities: CAPABILITIES },
  });

  /** Runs a container to its end and shows its exit code. */
  const once = (name: string, spec: object): string => {
    writeBundle(folder, name, spec);
    return `
echo "@ ${name}"; code=0
${RUNTIME} --root ${DIRECTORY}/runtime run --bundle ${folder}/${name} hawser-${name} </dev/null 2>&1 || code=$?
echo "exit code $code"
`;
  };

  const loadModule = (name: string, capabilities: readonly string[]): string =>
    once(
      name,
      containerSpec(image.rootfs, {
        ...{ args: ["modprobe", "nbd"], capabilities },
        mounts: [{ source: "/usr/lib/uml/modules", destination: "/usr/lib/modules", isReadOnly: true }],
      }),
    );

  const dataplaneLacking = (capability: string): string => {
    const container = processContainer("dataplane", world());
    return once(
      `lacks-${capability}`,
      containerSpec(image.rootfs, {
        ...container,
        args: [...container.args, "--require-protections"],
        capabilities: without(container.capabilities, capability),
      }),
    );
  };

  it("load nbd, carry a volume through its life, grow ext4 online, and say what is missing", async () => {
    const result = await runInUml({
      script: `${controlGroups} LOGS=$RESULTS
mkdir -p ${DIRECTORY}/runtime ${DIRECTORY}/sockets ${DIRECTORY}/state ${DIRECTORY}/run
${loadModule("module-refused", [])}
test ! -e /sys/module/nbd
${loadModule("module-loaded", CAPABILITIES.loadModule)}
test -e /sys/module/nbd
${CAPABILITIES.dataplane.map(dataplaneLacking).join("")}
echo "@ life"
${worldScript(world())}
world_start; world_life ext4 || { tail -n 20 $LOGS/*.log; exit 1; }; world_stop`,
      memory: "2G",
      timeoutMs: 280_000,
    });
    expectUmlSuccess(result);
    const parts = new Map(
      result.output
        .split(/^@ /m)
        .map((part) => [part.slice(0, part.indexOf("\n")), part.slice(part.indexOf("\n") + 1)] as const),
    );
    expect(parts.get("module-refused")).toMatch(/Operation not permitted[^]*exit code 1\n/);
    expect(parts.get("module-loaded")).toBe("exit code 0\n");
    const missing = (capability: string): string | undefined => parts.get(`lacks-${capability}`);
    expect(missing("SYS_ADMIN")).toMatch(/CAP_SYS_ADMIN is missing[^;]*; add SYS_ADMIN[^]*exit code 14\n/);
    expect(missing("SYS_RESOURCE")).toMatch(
      /I\/O flusher[^]*CAP_SYS_RESOURCE is missing[^;]*; add SYS_RESOURCE[^]*exit code 14\n/,
    );
    expect(missing("IPC_LOCK")).toMatch(/CAP_IPC_LOCK is missing[^;]*; add IPC_LOCK[^]*exit code 14\n/);
    expect(parts.get("life")).toMatch(/ok +NodeExpandVolume, while mounted[^]*16 steps passed/);
    // With all it needs, the dataplane has nothing to complain about.
    expect(result.files["dataplane.log"]).toContain("(nbd, ");
    expect(result.files["dataplane.log"]).not.toMatch(/"level":[45]0/);
  }, 300_000);
});
