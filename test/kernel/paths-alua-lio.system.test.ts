import { join } from "node:path";
import { reportMeasured } from "../support/file-load.js";
import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { lioBackstoreName, lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import type { AccessChange, AccessReport } from "../support/path-reports-alua.js";
import { textTable } from "../support/path-reports.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const IQN = "iqn.2026-11.test:alua";
const PORTALS = ["127.0.0.1:13520", "127.0.0.2:13520"] as const;
const GROUPS = ["ctrl_a", "ctrl_b"] as const;
const FOLLOW_MS = 1_000;

describeNeeding([...UML_NEEDS, "fio", join(process.cwd(), "dist", "main.js")], "access states of LIO", () => {
  let build: GuestBuild;

  beforeAll(async () => {
    build = await buildForGuest();
  });

  afterAll(() => build.remove());

  it("requests follow them within a second, without an error", async () => {
    const target = lioTarget({
      ...{ iqn: IQN, lunSizesBytes: [32 << 20], initiators: ["iqn.2026-11.test:node-alua"] },
      portalGroups: PORTALS.map((portal, index) => ({
        portals: [portal],
        accessGroup: { name: GROUPS[index] ?? "", id: index + 16, accessType: 3 },
      })),
    });
    const backstore = `/sys/kernel/config/target/core/fileio_0/${lioBackstoreName(IQN)}-0`;
    const startMs = Date.now();
    const result = await runInUml({
      script: `modprobe nbd nbds_max=0\n${lioStart()}${target}
node ${build.folder}/test/kernel/guest/paths-alua.js`,
      timeoutMs: 200_000,
      env: {
        TARGET: JSON.stringify({
          ...{ iqn: IQN, portals: PORTALS },
          groups: GROUPS.map((group) => `${backstore}/alua/${group}`),
        }),
      },
    });
    const changes = JSON.parse(result.files["changes.json"] ?? "[]") as readonly AccessChange[];
    const rows = changes.map(({ policy, text, expected, followedMs, isUntold, atTarget, seen }) => [
      ...[policy, text, expected.join(" + "), followedMs ?? "never", isUntold ? "asked" : "told"],
      ...[atTarget.join(" / "), seen.join(" / ")],
    ]);
    const head = ["policy", "change at the target", "paths", "followed, ms", "we are", "target has", "paths show"];
    process.stdout.write(`${textTable(head, rows)}\n`);
    expectUmlSuccess(result);
    const report = JSON.parse(result.files["alua.json"] ?? "{}") as AccessReport;
    reportMeasured(`fio: ${JSON.stringify(report.load)}; attach with all on standby: ${report.standbyAttachMs} ms`);
    reportMeasured(`set by us: ${report.setByUs.join("; ")}`);
    for (const { id, readOperations, writeOperations, errors, failures } of report.paths) {
      reportMeasured(
        `${id}: ${readOperations} reads, ${writeOperations} writes, ${errors} moved away, ${failures} lost`,
      );
    }
    reportMeasured(`the guest ran for ${((Date.now() - startMs) / 1000).toFixed(0)} s`);
    expect(report.changes.length).toBeGreaterThanOrEqual(15);
    const late = report.changes.filter((change) => {
      return change.followedMs === undefined || change.followedMs > FOLLOW_MS;
    });
    expect(late).toEqual([]);
    expect(report.load.writtenBytes).toBeGreaterThan(8 << 20);
    expect(report.load.readBytes).toBeGreaterThan(8 << 20);
    // Access states are no faults of a path.
    expect(report.paths.map(({ failures }) => failures)).toEqual([0, 0]);
    expect(result.console).not.toMatch(/I\/O error|Kernel panic/i);
  }, 220_000);
});
