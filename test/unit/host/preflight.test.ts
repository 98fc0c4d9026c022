import { readFileSync } from "node:fs";
import { parseCapabilities } from "../../../src/host/capabilities.js";
import { parseMountInfo } from "../../../src/host/mountinfo.js";
import { deviceAccess, gatherHostFacts, gatherKubeletFolder, mountOf } from "../../../src/host/preflight-facts.js";
import { dataplaneFindings, nodeFindings, type DataplaneFacts, type NodeFacts } from "../../../src/host/preflight.js";

const all = new Set(["SYS_ADMIN", "SYS_RESOURCE", "IPC_LOCK", "DAC_READ_SEARCH"]);
const without = (name: string): ReadonlySet<string> => new Set([...all].filter((each) => each !== name));

const node: NodeFacts = { capabilities: { effective: all, bounding: all }, missingPrograms: new Set() };
const dataplane: DataplaneFacts = {
  ...node,
  backend: "nbd",
  nbd: { isAvailable: true, reason: "" },
  fuseDevice: "ok",
  loopControl: "ok",
  isQueueWritable: true,
  protections: [{ measure: "locked program", capability: "IPC_LOCK", reason: "" }],
  requireProtections: true,
};
const noNbd = { nbd: { isAvailable: false, reason: "no driver" } };
const refused = { protections: [{ measure: "locked program", capability: "IPC_LOCK", reason: "mlock2 failed" }] };

/** Each finding as `fatal: …` or `warning: …`. */
const told = (findings: readonly { readonly isFatal: boolean; readonly message: string }[]): string[] =>
  findings.map(({ isFatal, message }) => `${isFatal ? "fatal" : "warning"}: ${message}`);

describe("preflight of the node", () => {
  it("finds nothing where nothing is missing", () => {
    expect(nodeFindings(node)).toEqual([]);
  });

  it.each<[string, Partial<NodeFacts>, RegExp]>([
    [
      "SYS_ADMIN is dropped",
      { capabilities: { effective: without("SYS_ADMIN"), bounding: without("SYS_ADMIN") } },
      /^fatal: CAP_SYS_ADMIN is missing and is not in the bounding set either: nothing can be mounted; add SYS_ADMIN to securityContext/,
    ],
    [
      "SYS_RESOURCE is given up",
      { capabilities: { effective: without("SYS_RESOURCE"), bounding: all } },
      /^warning: CAP_SYS_RESOURCE is missing: a mounted ext4 cannot grow .*; add SYS_RESOURCE/,
    ],
    [
      "DAC_READ_SEARCH is given up",
      { capabilities: { effective: without("DAC_READ_SEARCH"), bounding: all } },
      /^warning: CAP_DAC_READ_SEARCH is missing: a volume whose root .* cannot grow; add DAC_READ_SEARCH/,
    ],
    [
      "mount is missing",
      { missingPrograms: new Set(["mount"]) },
      /^fatal: the program mount is missing: nothing can be/,
    ],
    [
      "mkfs.xfs is missing",
      { missingPrograms: new Set(["mkfs.xfs"]) },
      /^warning: the program mkfs.xfs is missing: xfs/,
    ],
    [
      "mounts do not reach the host",
      { kubeletFolder: { path: "/k", mountPoint: "/k", isShared: false } },
      /^fatal: mounts below \/k stay in this container: .*mountPropagation: Bidirectional$/,
    ],
  ])("when %s, says so once", (_, facts, message) => {
    expect(told(nodeFindings({ ...node, ...facts }))).toEqual([expect.stringMatching(message)]);
  });
});

describe("preflight of the dataplane", () => {
  it.each<[string, Partial<DataplaneFacts>, readonly RegExp[]]>([
    ["nothing is missing", {}, []],
    [
      "SYS_ADMIN is missing",
      { capabilities: { effective: without("SYS_ADMIN"), bounding: all } },
      [/^fatal: CAP_SYS_ADMIN is missing: the kernel gives no block device/],
    ],
    ["nbd is wanted and missing", noNbd, [/^fatal: the nbd interface .* \(no driver\).*modprobe nbd.*--backend fuse/]],
    [
      "nbd's queues are read-only",
      { isQueueWritable: false },
      [/^warning: \/sys\/devices\/virtual\/block is read-only/],
    ],
    ["either will do and nbd is missing", { ...noNbd, backend: "auto" }, []],
    [
      "either will do and both are missing",
      { ...noNbd, backend: "auto", fuseDevice: "missing", loopControl: "refused" },
      [
        /^fatal: the nbd interface .*, and FUSE cannot take its place/,
        /^fatal: \/dev\/fuse cannot be used: .*\(modprobe fuse\)/,
        /^fatal: \/dev\/loop-control cannot be used: .*privileged: true$/,
      ],
    ],
    ["fuse is wanted and nbd missing", { ...noNbd, backend: "fuse", isQueueWritable: false }, []],
    [
      "fuse is wanted and its programs are missing",
      { backend: "fuse", missingPrograms: new Set(["nbdfuse", "setpriv"]) },
      [/^fatal: the program nbdfuse is missing/, /^fatal: the program setpriv is missing/],
    ],
    ["nbd is wanted and FUSE's programs are missing", { missingPrograms: new Set(["nbdfuse"]) }, []],
    [
      "a protection is required and its capability missing",
      { ...refused, capabilities: { effective: without("IPC_LOCK"), bounding: without("IPC_LOCK") } },
      [
        /^fatal: locked program: mlock2 failed: .*CAP_IPC_LOCK is missing and is not in the bounding set either; add IPC_/,
      ],
    ],
    [
      "a protection is refused all the same",
      refused,
      [/^fatal: .*CAP_IPC_LOCK is there, so it is the kernel or a limit/],
    ],
    [
      "a protection is refused and not required",
      { ...refused, requireProtections: false },
      [/^warning: locked program/],
    ],
  ])("when %s", (_, facts, messages) => {
    expect(told(dataplaneFindings({ ...dataplane, ...facts }))).toEqual(
      messages.map((message) => expect.stringMatching(message) as string),
    );
  });
});

describe("the facts", () => {
  it("read capabilities by name", () => {
    const status = "Name:\tnode\nCapEff:\t0000000000204000\nCapBnd:\t000001fffeffffff\n";
    const { effective, bounding } = parseCapabilities(status);
    expect([...effective]).toEqual(["IPC_LOCK", "SYS_ADMIN"]);
    expect(bounding.has("SYS_RESOURCE")).toBe(false);
    expect(bounding.has("CHECKPOINT_RESTORE")).toBe(true);
    expect(() => parseCapabilities("CapEff:\tzz\n")).toThrow("no line CapEff");
  });

  it("are what this machine says", async () => {
    const hex = /^CapEff:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "";
    const bits = BigInt(`0x${hex}`).toString(2).replaceAll("0", "");
    const facts = await gatherHostFacts();
    expect(facts.capabilities.effective.size).toBe(bits.length);
    expect(facts.missingPrograms.has("mount")).toBe(false);
    expect(await deviceAccess("/dev/null")).toBe("ok");
    expect(await deviceAccess("/dev/no-such-device")).toBe("missing");
    await expect(gatherKubeletFolder("/no/such/folder")).rejects.toMatchObject({ code: "HOST_PATH_INVALID" });
    expect(await gatherKubeletFolder("/proc/self")).toMatchObject({ path: "/proc/self", mountPoint: "/proc" });
  });

  it("find the mount that a folder lies on", () => {
    const entries = parseMountInfo(
      [
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw",
        "2 1 8:2 / /k rw - ext4 /dev/sdb rw",
        "3 2 8:3 / /k rw shared:7 - ext4 /dev/sdc rw",
        "4 1 8:4 / /kubelet rw - ext4 /dev/sdd rw",
      ].join("\n"),
    );
    expect(mountOf(entries, "/k/plugins")?.id).toBe(3);
    expect(mountOf(entries, "/kubelet")?.id).toBe(4);
    expect(mountOf(entries, "/kub")?.id).toBe(1);
  });
});
