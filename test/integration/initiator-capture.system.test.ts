import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { lunFromNumber } from "../../src/base/lun.js";
import { Secret } from "../../src/base/secret.js";
import { createIsid } from "../../src/initiator/isid.js";
import { openIscsiLun } from "../../src/block/iscsi-lun.js";
import { Session } from "../../src/session/session.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, verifyTransfers } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const PORT = 13_345;
const targetName = "iqn.2026-11.test:capture";

describeNeeding(["tgtd", "tgtadm", "tshark", "root"], "what tshark makes of our bytes", () => {
  let tgtd: Tgtd;
  let capture: ChildProcess;
  let file: string;

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      controlPort: 336,
      portals: [`127.0.0.1:${PORT}`],
      targets: [
        {
          name: targetName,
          diskBytes: [8 << 20],
          parameters: {
            HeaderDigest: "None,CRC32C",
            DataDigest: "None,CRC32C",
            MaxOutstandingR2T: 4,
            InitialR2T: "Yes",
          },
          account: { user: "host-user", secret: "a secret of 20 bytes" },
        },
      ],
    });
    file = join(tgtd.directory, "capture.pcapng");
    capture = spawn("tshark", ["-q", "-i", "lo", "-s", "0", "-f", `tcp port ${PORT}`, "-w", file], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const messages = createInterface({ input: capture.stderr! });
    for await (const line of messages) if (line.includes("Capture started")) break;
  });

  afterAll(async () => {
    capture.kill("SIGKILL");
    await tgtd.stop();
  });

  test("login with CHAP, digests, reads, writes with R2T, NOP, task management and logout are well formed", async () => {
    const dependencies = realDependencies();
    const session = await Session.open(
      {
        portal: { host: "127.0.0.1", port: PORT },
        targetName,
        initiatorName: "iqn.2026-11.test:host",
        isid: createIsid(dependencies.random),
        chap: { user: "host-user", secret: Secret.from("a secret of 20 bytes") },
        headerDigest: "crc32c",
        dataDigest: "crc32c",
      },
      dependencies,
    );
    const lun = lunFromNumber(1);
    const device = await openIscsiLun(session, { lun }, dependencies);
    // The unit takes these sizes in one piece; no filter is between.
    await verifyTransfers(device, [512, 4096, 66_048, 262_144]);
    await session.nop();
    await session.taskManagement({ function: "lun-reset", lun });
    await device.close();
    await session.logout();
    await delay(500);
    const stopped = once(capture, "exit");
    capture.kill("SIGINT");
    await stopped;

    const decode = (fields: readonly string[]): string[][] =>
      execFileSync(
        "tshark",
        [
          ...["-r", file, "-d", `tcp.port==${PORT},iscsi`, "-Y", "iscsi", "-T", "fields", "-E", "separator=;"],
          ...fields.flatMap((field) => ["-e", field]),
        ],
        { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 28 },
      )
        .trim()
        .split("\n")
        .map((line) => line.split(";"));
    const opcodes = new Set(
      decode(["iscsi.opcode"])
        .flatMap(([codes]) => (codes ?? "").split(","))
        .map(Number),
    );
    for (const opcode of [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x20, 0x21, 0x22, 0x23, 0x25, 0x26, 0x31]) {
      expect(opcodes).toContain(opcode);
    }
    const summary = execFileSync("tshark", ["-r", file, "-d", `tcp.port==${PORT},iscsi`, "-V", "-Y", "iscsi"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 1 << 29,
    });
    const digests = summary.match(/^ *(?:Header|Data)Digest: .*$/gm) ?? [];
    expect(digests.length).toBeGreaterThan(50);
    expect(digests.filter((line) => !line.endsWith("(Good CRC32)"))).toEqual([]);
    expect(summary).not.toMatch(/Malformed/i);
    expect(summary).not.toContain("a secret of 20 bytes");
  }, 60_000);
});
