import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CAPTURE_NEEDS, IscsiCapture, LoopbackRecorder } from "../support/iscsi-capture.js";
import { checkNumbering, Opcode } from "../support/iscsi-rules.js";
import { describeNeeding } from "../support/needs.js";
import {
  CONCURRENT_FILL,
  DISK_BYTES,
  everyRun,
  expectKindsOfTransfer,
  expectSeen,
  HOST,
  judge,
  mutual,
  name,
  oneWay,
  type Place,
  type PlaceName,
  runCommonScenarios,
  runTaskManagement,
} from "../support/recorded-sessions.js";
import { Tgtd } from "../support/tgt.js";

describeNeeding([...CAPTURE_NEEDS, "tgtd", "tgtadm"], "recorded sessions with tgtd", () => {
  const port = 13_450;
  const folder = mkdtempSync(join(tmpdir(), "hawser-capture-"));
  let tgtd: Tgtd;

  beforeAll(async () => {
    const digests = { HeaderDigest: "None,CRC32C", DataDigest: "None,CRC32C" };
    const bursts = { MaxRecvDataSegmentLength: 8192, MaxBurstLength: 65_536, FirstBurstLength: 32_768 };
    tgtd = await Tgtd.start({
      controlPort: 345,
      portals: [`${HOST}:${port}`],
      targets: [
        { name: name("plain"), diskBytes: [DISK_BYTES], parameters: digests },
        {
          ...{ name: name("chap"), diskBytes: [DISK_BYTES], parameters: digests },
          account: { user: oneWay.user, secret: oneWay.secret.reveal().toString() },
        },
        {
          ...{ name: name("mutual"), diskBytes: [DISK_BYTES] },
          account: {
            ...{ user: mutual.user, secret: mutual.secret.reveal().toString() },
            ...{ mutualUser: mutual.mutualUser ?? "", mutualSecret: mutual.mutualSecret?.reveal().toString() ?? "" },
          },
        },
        {
          ...{ name: name("asked"), diskBytes: [DISK_BYTES] },
          parameters: {
            ...{ ...digests, InitialR2T: "Yes", ImmediateData: "No", MaxOutstandingR2T: 8 },
            ...{ MaxRecvDataSegmentLength: 8192, MaxBurstLength: 16_384 },
          },
        },
        {
          ...{ name: name("unasked"), diskBytes: [DISK_BYTES] },
          parameters: { ...digests, ...bursts, InitialR2T: "No", ImmediateData: "Yes", MaxOutstandingR2T: 4 },
        },
        { name: name("pinging"), diskBytes: [DISK_BYTES], parameters: { nop_interval: 1, nop_count: 5 } },
      ],
    });
  });

  afterAll(async () => {
    await tgtd.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("no malformed PDU, every digest good, every number right", async () => {
    const place = (suffix: PlaceName): Place => ({ portal: { host: HOST, port }, targetName: name(suffix), lun: 1 });
    const path = join(folder, "tgtd.pcapng");
    await LoopbackRecorder.during({ path, markerPort: 13_458, ports: [port] }, async () => {
      await runCommonScenarios({
        ...{ plain: place("plain"), chap: place("chap"), mutual: place("mutual") },
        ...{ asked: place("asked"), unasked: place("unasked"), pinging: place("pinging") },
      });
      await runTaskManagement(
        place("plain"),
        () => tgtd.signal("SIGSTOP"),
        () => tgtd.signal("SIGCONT"),
      );
    });
    const { pdus, counts } = judge(path, [port]);
    expectSeen(counts, everyRun);
    expectKindsOfTransfer(pdus);

    // The judges can say no: one byte of data turned over in the file, one PDU left out of the list.
    const tampered = join(folder, "tampered.pcapng");
    const bytes = readFileSync(path);
    const at = bytes.indexOf(Buffer.alloc(2048, CONCURRENT_FILL)) + 1000;
    bytes.writeUInt8(CONCURRENT_FILL ^ 1, at);
    writeFileSync(tampered, bytes);
    const notes = new IscsiCapture(tampered, [port]).pdus().flatMap(({ digests }) => digests);
    expect(notes.filter((note) => /Bad CRC32/.test(note))).toHaveLength(1);
    for (const opcode of ["scsiCommand", "dataIn", "dataOut", "scsiResponse", "readyToTransfer"] as const) {
      const missing = pdus.findLastIndex((pdu) => pdu.opcode === Opcode[opcode]);
      expect(checkNumbering(pdus.filter((_, index) => index !== missing)).violations).not.toEqual([]);
    }
  }, 120_000);
});
