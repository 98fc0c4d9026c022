import { join } from "node:path";
import { reportMeasured } from "../support/file-load.js";
import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const MIB = 1_048_576;
const INITIATOR = "iqn.2026-11.dev.hawser:test-node";
const LUNS = [
  { fsType: "ext4", port: 13_440, sizeBytes: 256 * MIB, grownBytes: 512 * MIB },
  // XFS takes no less than 300 MiB.
  { fsType: "xfs", port: 13_441, sizeBytes: 320 * MIB, grownBytes: 640 * MIB },
] as const;
const iqn = (fsType: string): string => `iqn.2026-11.test:${fsType}`;

const needs = [...UML_NEEDS, join(process.cwd(), "dist", "main.js"), "fio", "mkfs.ext4", "mkfs.xfs", "xfs_repair"];

describeNeeding(needs, "the life of volumes on LIO over kernel nbd", () => {
  let build: GuestBuild;

  beforeAll(async () => {
    build = await buildForGuest();
  });

  afterAll(() => build.remove());

  it("ext4 and xfs: mutual CHAP, digests, grown while written to, checked, verified", async () => {
    const secrets = {
      ...{ chapUser: "node", chapSecret: "one-way-secret-1" },
      ...{ mutualUser: "array", mutualSecret: "other-way-secret-2" },
    };
    const setUp = LUNS.map(({ fsType, port, sizeBytes }) =>
      lioTarget({
        ...{ iqn: iqn(fsType), port, lunSizesBytes: [sizeBytes] },
        acl: {
          ...{ initiator: INITIATOR, user: secrets.chapUser, password: secrets.chapSecret },
          ...{ mutualUser: secrets.mutualUser, mutualPassword: secrets.mutualSecret },
        },
      }),
    );
    const targets = LUNS.map(({ fsType, port, grownBytes }) => {
      const backing = `${iqn(fsType).replaceAll(/[^a-z0-9]/g, "-")}-0`;
      return {
        ...{ fsType, portal: `127.0.0.1:${port}`, targetIQN: iqn(fsType), secrets, grownBytes },
        ...{ backstore: `/sys/kernel/config/target/core/fileio_0/${backing}`, image: `/dev/shm/${backing}.img` },
      };
    });
    const startMs = Date.now();
    const result = await runInUml({
      script: `modprobe nbd nbds_max=0\n${lioStart()}${setUp.join("")}
node ${build.folder}/test/kernel/guest/volume-life.js`,
      memory: "2G",
      timeoutMs: 280_000,
      env: { TARGETS: JSON.stringify(targets) },
    });
    expectUmlSuccess(result);
    const measured = JSON.parse(result.files["life.json"] ?? "{}") as Record<string, object>;
    for (const [name, values] of Object.entries(measured))
      reportMeasured(`in the guest, ${name}: ${JSON.stringify(values)}`);
    reportMeasured(`the guest ran for ${((Date.now() - startMs) / 1000).toFixed(0)} s`);
    expect(Object.keys(measured)).toEqual(
      expect.arrayContaining(["ext4 grown online", "xfs grown online", "dataplane killed twice under load"]),
    );
    // What the kernel says when a file system or a device has met an error.
    expect(result.console).not.toMatch(/I\/O error|Aborting journal|Corruption|shutting down filesystem/i);
  }, 300_000);
});
