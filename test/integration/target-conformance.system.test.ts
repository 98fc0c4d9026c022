import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeNeeding } from "../support/needs.js";
import type { ServedDisk } from "../support/target-main.js";
import { runProgram } from "../support/target-server.js";
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

/** Our target in a process of its own, judged. */
async function judgeOurs(disk: Omit<ServedDisk, "targetName" | "sizeBytes">): Promise<Verdict> {
  const served: ServedDisk = { targetName: TARGET_NAME, sizeBytes: SIZE_BYTES, ...disk };
  const script = ["--import", "tsx", "test/support/target-main.ts", JSON.stringify(served)];
  const child = spawn(process.execPath, script, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [port] = (await once(child.stdout, "data")) as [Buffer];
    return await judge(`iscsi://127.0.0.1:${port.toString().trim()}/${TARGET_NAME}/0`);
  } finally {
    child.kill("SIGKILL");
  }
}

/** libiscsi's suite judges the target from outside; tgtd stands beside it as the measure. */
describeNeeding(["iscsi-test-cu"], "conformance by iscsi-test-cu", () => {
  let folder = "";
  const verdicts: (Verdict & { readonly name: string })[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "hawser-conformance-"));
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    console.table(verdicts, ["name", "total", "passed", "failed", "skips"]);
  });

  // The suite waits much of the time. Physical blocks in memory are as large as logical ones: for larger ones its
  // GET LBA STATUS test asks for a descriptor that begins after the block it names.
  test("memory with 512-byte and 4096-byte blocks, and a file", async () => {
    const found = await Promise.all([
      judgeOurs({ logicalBlockBytes: 512, offersAtomicWrites: true }),
      judgeOurs({ logicalBlockBytes: 4096, offersAtomicWrites: true }),
      judgeOurs({ logicalBlockBytes: 4096, offersAtomicWrites: false, path: join(folder, "disk.img") }),
    ]);
    const names = ["memory, 512-byte blocks", "memory, 4096-byte blocks", "file, 4096-byte blocks"];
    for (const [index, verdict] of found.entries()) {
      verdicts.push({ name: names[index] ?? "", ...verdict });
      expect(verdict).toMatchObject({ failed: 0, failures: "" });
      expect(verdict.total).toBeGreaterThanOrEqual(228);
    }
    for (const { skips } of found.slice(0, 2)) expect(skips).toBeLessThan(30);
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
