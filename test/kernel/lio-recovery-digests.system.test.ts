import { reportMeasured } from "../support/file-load.js";
import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { type RepairedModule, repairedLioModule } from "../support/lio-repair.js";
import { lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const IQN = "iqn.2026-11.test:faults";
const PORTS = [13_470, 13_471, 13_472, 13_473];

type Counts = Readonly<Record<string, number>>;

interface PhaseReport {
  readonly phase: string;
  readonly faults: Counts;
  readonly recovery: Counts;
  readonly reconnects: number;
  readonly isSameTsih: boolean;
  readonly tookMs: number;
}

interface LevelReport {
  readonly errorRecoveryLevel: number;
  readonly maxConnections: number;
  readonly headerDigest: string;
  readonly dataDigest: string;
  readonly phases: readonly PhaseReport[];
}

/** Which counter shows that a phase was recovered by the means meant for it; the first that is not 0 counts. */
const MEANS: Readonly<Record<string, readonly string[]>> = {
  "bad Data-In": ["dataSnacks"],
  "bad digest of Data-In": ["dataSnacks"],
  "lost Data-In": ["dataSnacks"],
  "lost status": ["statusSnacks"],
  "bad immediate data": ["commandRetries"],
  "lost command": ["commandRetries"],
  "bad Data-Out": ["recoveryR2ts"],
  "lost Data-Out": ["recoveryR2ts"],
  "lost R2T": ["dataSnacks", "recoveryR2ts"],
  "bad header from the target": ["dataSnacks", "statusSnacks"],
  "bad header to the target": ["connectionRecoveries"],
};

const FELT_AT_0 = [
  ...["bad Data-In", "bad digest of Data-In", "bad immediate data", "bad Data-Out"],
  ...["bad header from the target", "bad header to the target"],
];

const words = (counts: Counts): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");

/** A proxy between the connections and LIO spoils PDUs in both directions; every byte is read back and compared. */
describeNeeding(UML_NEEDS, "faults on the wire to LIO", () => {
  let build: GuestBuild;
  let module: RepairedModule;

  beforeAll(async () => {
    build = await buildForGuest();
    module = await repairedLioModule();
  });

  afterAll(async () => {
    await build.remove();
    await module.remove();
  });

  async function run(level: number): Promise<LevelReport> {
    const portals = PORTS.map((port) => `127.0.0.1:${port}`);
    const digests = { headerDigest: "CRC32C,None", dataDigest: "CRC32C,None" };
    // What LIO declares as its MaxRecvDataSegmentLength: a burst has several Data-Outs then.
    const parameters = { MaxXmitDataSegmentLength: "8192" };
    const target = lioTarget({ iqn: IQN, portals, errorRecoveryLevel: 2, maxConnections: 8, ...digests, parameters });
    const program = `node ${build.folder}/test/kernel/guest/digest-errors.js`;
    const result = await runInUml({
      script: `${lioStart(module.path)}${target}${program} ${level} ${IQN} ${PORTS.join(" ")}`,
      timeoutMs: 280_000,
    });
    const text = result.files[`level-${level}.json`] ?? "{}";
    const report = JSON.parse(text) as LevelReport;
    for (const { phase, faults, recovery, reconnects, tookMs } of report.phases) {
      const counts = words(recovery) === "" ? "none" : words(recovery);
      reportMeasured(
        `level ${level}, ${phase}: ${words(faults)}; recovery: ${counts}; session logins ${reconnects}; ${tookMs} ms`,
      );
    }
    expectUmlSuccess(result);
    return report;
  }

  test.each([
    [1, Object.keys(MEANS).filter((phase) => phase !== "bad header to the target")],
    [2, Object.keys(MEANS)],
  ])(
    "level %i gets over them inside the session",
    async (level, phases) => {
      const report = await run(level);
      const { errorRecoveryLevel, maxConnections, headerDigest, dataDigest } = report;
      reportMeasured(`negotiated: ErrorRecoveryLevel ${errorRecoveryLevel}, MaxConnections ${maxConnections}`);
      expect({ errorRecoveryLevel, maxConnections, headerDigest, dataDigest }).toEqual({
        ...{ errorRecoveryLevel: level, maxConnections: 8, headerDigest: "CRC32C", dataDigest: "CRC32C" },
      });
      expect(report.phases.map(({ phase }) => phase)).toEqual(phases);
      for (const { phase, faults, recovery, reconnects, isSameTsih } of report.phases) {
        const means = (MEANS[phase] ?? []).reduce((sum, name) => sum + (recovery[name] ?? 0), 0);
        const isFaulty = Object.values(faults).some((count) => count > 0);
        expect({ phase, isFaulty, isRecovered: means > 0, reconnects, isSameTsih }).toEqual({
          ...{ phase, isFaulty: true, isRecovered: true, reconnects: 0, isSameTsih: true },
        });
      }
    },
    300_000,
  );

  test("level 0 gets over them with a new session each time", async () => {
    const report = await run(0);
    expect(report.errorRecoveryLevel).toBe(0);
    expect(report.phases.map(({ phase }) => phase)).toEqual(FELT_AT_0);
    for (const { phase, faults, reconnects, recovery } of report.phases) {
      const { dataSnacks = 0, statusSnacks = 0, commandRetries = 0, taskReassigns = 0, recoveryR2ts = 0 } = recovery;
      const inside = dataSnacks + statusSnacks + commandRetries + taskReassigns + recoveryR2ts;
      const isFaulty = Object.values(faults).some((count) => count > 0);
      expect({ phase, isFaulty, isNewSession: reconnects > 0, inside }).toEqual({
        ...{ phase, isFaulty: true, isNewSession: true, inside: 0 },
      });
    }
  }, 300_000);
});
