import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BlockDevice } from "../../src/block/device.js";
import { FileDevice } from "../../src/block/file-device.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import type { TargetServer } from "../../src/target/api.js";
import { describeNeeding } from "../support/needs.js";
import { realTargetServer, runProgram } from "../support/target-server.js";
import { Tgtd } from "../support/tgt.js";

const SIZE_BYTES = 128 << 20;
const TARGET_NAME = "iqn.2026-11.dev.hawser:conformance";
const TGT_PORT = 13_359;
const TGT_NAME = "iqn.2026-11.test:conformance";

interface Verdict {
  readonly total: number;
  readonly passed: number;
  readonly failed: number;
  readonly skips: number;
  readonly failures: string;
}

/** Runs all tests of libiscsi's suite, the destructive and the two-path ones included. */
async function judge(url: string): Promise<Verdict> {
  const args = ["--dataloss", "--allow-sanitize", "--normal", "--test=ALL", url, url];
  const { output } = await runProgram("iscsi-test-cu", args, 240_000);
  const totals = /^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s/m.exec(output);
  if (totals === null) throw new Error(`iscsi-test-cu gave no totals:\n${output.slice(-2000)}`);
  return {
    total: Number(totals[1]),
    passed: Number(totals[3]),
    failed: Number(totals[4]),
    skips: output.split("[SKIPPED]").length - 1,
    failures: (output.match(/^\s*\d+\. .*$/gm) ?? []).join("\n"),
  };
}

/** libiscsi's suite judges the target from outside; tgtd stands beside it as the measure. */
describeNeeding(["iscsi-test-cu"], "conformance by iscsi-test-cu", () => {
  let folder = "";
  let server: TargetServer | undefined;
  let device: BlockDevice | undefined;
  const verdicts: (Verdict & { readonly name: string })[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "hawser-conformance-"));
  });

  afterEach(async () => {
    await server?.stop();
    await device?.close();
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    console.table(verdicts, ["name", "total", "passed", "failed", "skips"]);
  });

  async function judgeDevice(name: string, served: BlockDevice, offersAtomicWrites: boolean): Promise<Verdict> {
    device = served;
    server = realTargetServer({ portals: [{ host: "127.0.0.1", port: 0 }], offersAtomicWrites });
    await server.start();
    server.addTarget({ name: TARGET_NAME, luns: new Map([[0, served]]), access: { kind: "any" } });
    const verdict = await judge(`iscsi://127.0.0.1:${server.portals[0]?.port ?? 0}/${TARGET_NAME}/0`);
    verdicts.push({ name, ...verdict });
    return verdict;
  }

  // Physical blocks as large as logical ones: for larger ones the suite's GET LBA STATUS test asks for a descriptor
  // that begins after the block it names.
  test.each([
    ["memory, 512-byte blocks", 512 as const],
    ["memory, 4096-byte blocks", 4096 as const],
  ])(
    "%s",
    async (name, logicalBlockBytes) => {
      const sizes = { sizeBytes: SIZE_BYTES, logicalBlockBytes, physicalBlockBytes: logicalBlockBytes };
      const verdict = await judgeDevice(name, new MemoryDevice(sizes), true);
      expect(verdict).toMatchObject({ failed: 0, failures: "" });
      expect(verdict.total).toBeGreaterThanOrEqual(228);
      expect(verdict.skips).toBeLessThan(30);
    },
    300_000,
  );

  test("file, 4096-byte blocks", async () => {
    const path = join(folder, "disk.img");
    const served = await FileDevice.open({ path, sizeBytes: SIZE_BYTES, logicalBlockBytes: 4096 });
    expect(await judgeDevice("file, 4096-byte blocks", served, false)).toMatchObject({ failed: 0, failures: "" });
  }, 300_000);

  describeNeeding(["tgtd", "tgtadm"], "beside tgtd", () => {
    let tgtd: Tgtd;

    beforeAll(async () => {
      tgtd = await Tgtd.start({
        controlPort: 359,
        portals: [`127.0.0.1:${TGT_PORT}`],
        targets: [{ name: TGT_NAME, diskBytes: [SIZE_BYTES], diskParameters: "thin_provisioning=1" }],
      });
    });

    afterAll(async () => tgtd.stop());

    test("every verdict on ours has fewer failures and fewer skips than tgtd's", async () => {
      const rival = await judge(`iscsi://127.0.0.1:${TGT_PORT}/${TGT_NAME}/1`);
      const ours = [...verdicts];
      verdicts.push({ name: "tgtd, 512-byte blocks", ...rival });
      expect(ours.length).toBeGreaterThan(0);
      for (const verdict of ours) {
        expect(verdict.failed).toBeLessThanOrEqual(rival.failed);
        expect(verdict.skips).toBeLessThan(rival.skips);
      }
    }, 300_000);
  });
});
