/**
 * Cost of the wire layer per PDU: `npx tsx test/bench/wire.bench.ts`. Prints nanoseconds per operation, the best of
 * several rounds (the machine may be busy). The numbers behind NATIVE_CRC_MIN_BYTES and SMALL_DATA_SEGMENT_BYTES.
 */
import { crc32c as nativeCrc32c } from "@node-rs/crc32";
import { crc32cTable } from "../../src/wire/crc32c-table.js";
import { decodePdu } from "../../src/wire/decode.js";
import { type DigestUse, PduWriter } from "../../src/wire/encode.js";
import { Framer } from "../../src/wire/framer.js";
import type { Pdu, ReadyToTransferPdu, ScsiCommandPdu, ScsiDataInPdu } from "../../src/wire/pdu.js";

const ROUNDS = 7;

function measure(name: string, operations: number, body: () => void): number {
  let bestNs = Infinity;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    body();
    bestNs = Math.min(bestNs, Number(process.hrtime.bigint() - start) / operations);
  }
  console.log(`${name.padEnd(52)} ${bestNs.toFixed(1).padStart(9)} ns`);
  return bestNs;
}

function benchCrc(): void {
  for (const lengthBytes of [8, 16, 48, 64, 96, 128, 192, 256, 512, 4096, 65_536]) {
    const bytes = Buffer.alloc(lengthBytes, 0x5a);
    const count = Math.max(200, Math.floor(20_000_000 / (lengthBytes + 100)));
    let sink = 0;
    measure(`crc32c table  ${lengthBytes}`, count, () => {
      for (let index = 0; index < count; index += 1) sink ^= crc32cTable(bytes, 0, lengthBytes, sink);
    });
    measure(`crc32c native ${lengthBytes}`, count, () => {
      for (let index = 0; index < count; index += 1) sink ^= nativeCrc32c(bytes, sink);
    });
    measure(`crc32c native ${lengthBytes} of a view`, count, () => {
      for (let index = 0; index < count; index += 1) sink ^= nativeCrc32c(bytes.subarray(0, lengthBytes), sink);
    });
  }
}

const sequence = { statSn: 7, expCmdSn: 8, maxCmdSn: 40 };
const lun = { high: 0x0001_0000, low: 0 };

function dataIn(lengthBytes: number): ScsiDataInPdu {
  return {
    type: "scsi-data-in",
    ...sequence,
    isFinal: true,
    isAcknowledgeRequested: false,
    hasStatus: true,
    isOverflow: false,
    isUnderflow: false,
    status: 0,
    lun: { high: 0, low: 0 },
    initiatorTaskTag: 0x1234,
    targetTransferTag: 0xffff_ffff,
    dataSn: 0,
    bufferOffset: 0,
    residualCount: 0,
    data: Buffer.alloc(lengthBytes, 0xa5),
  };
}

const command: ScsiCommandPdu = {
  type: "scsi-command",
  isImmediate: false,
  isFinal: true,
  isRead: true,
  isWrite: false,
  taskAttribute: 1,
  lun,
  initiatorTaskTag: 0x1234,
  expectedDataTransferLength: 4096,
  cmdSn: 8,
  expStatSn: 7,
  cdb: Buffer.from("8800000000000000100000000008" + "0000", "hex"),
  data: Buffer.alloc(0),
};

const readyToTransfer: ReadyToTransferPdu = {
  type: "ready-to-transfer",
  ...sequence,
  lun,
  initiatorTaskTag: 0x1234,
  targetTransferTag: 9,
  r2tSn: 0,
  bufferOffset: 0,
  desiredDataTransferLength: 65_536,
};

function benchWriter(name: string, pdu: Pdu, digests: DigestUse, smallDataBytes?: number): void {
  const writer = new PduWriter(digests, smallDataBytes === undefined ? {} : { smallDataBytes });
  const batches = 4000;
  measure(`write ${name}`, batches * 32, () => {
    for (let batch = 0; batch < batches; batch += 1) {
      for (let index = 0; index < 32; index += 1) writer.append(pdu);
      writer.take();
    }
  });
}

function benchReceive(name: string, pdu: Pdu, digests: DigestUse, chunkBytes = 65_536): void {
  const writer = new PduWriter(digests);
  for (let index = 0; index < 64; index += 1) writer.append(pdu);
  const stream = Buffer.concat(writer.take());
  const chunks: Buffer[] = [];
  for (let at = 0; at < stream.length; at += chunkBytes) chunks.push(stream.subarray(at, at + chunkBytes));
  const place = Buffer.alloc(65_536);
  let decoded = 0;
  const framer = new Framer(
    { maxDataSegmentLength: 65_536, digests },
    {
      placeData: () => place,
      onPdu: (raw) => {
        if (decodePdu(raw.header, raw.ahs, raw.data).type === pdu.type) decoded += 1;
      },
    },
  );
  const batches = 2000;
  measure(`frame and decode ${name}`, batches * 64, () => {
    for (let batch = 0; batch < batches; batch += 1) for (const chunk of chunks) framer.push(chunk);
  });
  if (decoded !== batches * 64 * ROUNDS) throw new Error("PDUs were lost");
}

const off = { header: false, data: false };
const on = { header: true, data: true };

if (process.argv.includes("--crc")) benchCrc();
const copySource = Buffer.alloc(4096, 1);
const copyTarget = Buffer.alloc(4096);
measure("copy of 4096 bytes alone", 1_000_000, () => {
  for (let index = 0; index < 1_000_000; index += 1) copyTarget.set(copySource);
});
for (const lengthBytes of [64, 256, 512, 1024, 2048]) {
  benchWriter(`Data-In ${lengthBytes}, borrowed`, dataIn(lengthBytes), off, 0);
  benchWriter(`Data-In ${lengthBytes}, copied`, dataIn(lengthBytes), off, 4096);
}
benchWriter("SCSI Command", command, off);
benchWriter("SCSI Command, header digest", command, on);
benchWriter("R2T", readyToTransfer, off);
benchWriter("Data-In 4096", dataIn(4096), off);
benchWriter("Data-In 4096, digests", dataIn(4096), on);
benchReceive("SCSI Command", command, off);
benchReceive("R2T", readyToTransfer, off);
benchReceive("Data-In 512", dataIn(512), off);
benchReceive("Data-In 4096", dataIn(4096), off);
benchReceive("Data-In 4096, digests", dataIn(4096), on);
benchReceive("Data-In 4096 in chunks of 1460", dataIn(4096), off, 1460);
benchReceive("Data-In 65536", dataIn(65_536), off);
