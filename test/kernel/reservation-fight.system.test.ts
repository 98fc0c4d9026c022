import { join } from "node:path";
import { reportMeasured } from "../support/file-load.js";
import type { FightReport, OneGroupReport } from "../support/fight-report.js";
import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { lioBackstoreName, lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { textTable } from "../support/path-reports.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const IQN = "iqn.2026-11.test:fight-lio";
const PORTS = [13_530, 13_531];
const NODES = ["a", "b", "stranger", "watcher", "stubborn"].map((node) => `iqn.2026-11.test:node-${node}`);

const needs = [...UML_NEEDS, "tgtd", "tgtadm", "dd", join(process.cwd(), "dist", "main.js")];

describeNeeding(needs, "two nodes that want one unit, on LIO and on tgt", () => {
  let build: GuestBuild;

  beforeAll(async () => {
    build = await buildForGuest();
  });

  afterAll(() => build.remove());

  it("the late write of the node that lost it is refused by the target", async () => {
    const startMs = Date.now();
    const result = await runInUml({
      script: `modprobe nbd nbds_max=0\n${lioStart()}${lioTarget({
        ...{ iqn: IQN, lunSizesBytes: [16 << 20], initiators: NODES },
        portalGroups: PORTS.map((port) => ({ portals: [`127.0.0.1:${port}`] })),
      })}
TMPDIR=/dev/shm node ${build.folder}/test/kernel/guest/reservation-fight.js`,
      timeoutMs: 200_000,
      env: {
        LIO_TARGET: JSON.stringify({
          ...{ name: "LIO", targetName: IQN, lun: 0, ports: PORTS, proxyPorts: [13_532, 13_533] },
          ...{ backing: `/dev/shm/${lioBackstoreName(IQN)}-0.img`, settings: { multipath: "mpio" } },
        }),
      },
    });
    const reports = JSON.parse(result.files["fight.json"] ?? "[]") as readonly FightReport[];
    for (const report of reports) {
      const head = ["target", "what happens", "outcome", "first bytes on its disk", "all 65,536 bytes"];
      const rows = report.steps.map(({ target, text, outcome, bytes, letter }) => [
        ...[target, text, outcome, bytes, letter],
      ]);
      process.stdout.write(`${textTable(head, rows)}\n`);
      reportMeasured(`${report.target}: A is 0x${report.keyA}, B is 0x${report.keyB}`);
      for (const line of report.refusals) reportMeasured(`${report.target}, A's log: ${line}`);
      reportMeasured(`${report.target}, A's event: ${report.lostEvent}`);
      reportMeasured(`${report.target}, another cluster: ${report.heldError}`);
      const keys = report.keysAfterReconnects.map((found) => found.join(" ")).join(", ");
      reportMeasured(`${report.target}: keys after A's ${report.reconnects} reconnects: ${keys}`);
    }
    const hasRefusals = reports.length === 2 && reports.every(({ refusals }) => refusals.length > 0);
    if (!hasRefusals) reportMeasured(`A's log ends: ${result.files["a.log"]?.slice(-4_000) ?? "it has none"}`);
    reportMeasured(`the guest ran for ${((Date.now() - startMs) / 1000).toFixed(0)} s`);
    expectUmlSuccess(result);
    expect(reports.map(({ target }) => target)).toEqual(["LIO", "tgt"]);
    for (const { keyA, keyB, refusals, reconnects } of reports) {
      expect(keyA).not.toBe(keyB);
      expect(keyA.slice(0, 12)).toBe(keyB.slice(0, 12));
      expect(refusals.length).toBeGreaterThan(0);
      expect(reconnects).toBeGreaterThanOrEqual(3);
    }
  }, 220_000);

  it("one portal group of LIO lets one path write: given up with auto, one path at a time with required", async () => {
    const ports = [13_532, 13_533] as const;
    const result = await runInUml({
      script: `modprobe nbd nbds_max=0\n${lioStart()}${lioTarget({
        ...{ iqn: IQN, lunSizesBytes: [16 << 20], initiators: NODES },
        portals: ports.map((port) => `127.0.0.1:${port}`),
      })}
node ${build.folder}/test/kernel/guest/one-portal-group.js`,
      timeoutMs: 150_000,
      env: { ONE_GROUP: JSON.stringify({ targetName: IQN, ports, proxyPorts: [13_536, 13_537] }) },
    });
    const text = result.files["one-group.json"];
    if (text === undefined) reportMeasured(`the log ends: ${result.files["b.log"]?.slice(-6_000) ?? "there is none"}`);
    expectUmlSuccess(result);
    reportMeasured(`one portal group of LIO: ${text ?? ""}`);
    const report = JSON.parse(text ?? "{}") as OneGroupReport;
    expect(report.writes.every((count) => count > 0)).toBe(true);
  }, 170_000);
});
