import { MAX_TEXT_NEGOTIATION_BYTES } from "../../../src/base/limits.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { type DigestUse, encodePdu } from "../../../src/wire/encode.js";
import { Framer, type RawPdu } from "../../../src/wire/framer.js";
import type { NopInPdu, ScsiCommandPdu } from "../../../src/wire/pdu.js";
import { openSession, settle } from "../../support/session-fixture.js";
import { begin, beginRead, codeOf, lostBecause, RESERVED } from "../../support/trap-helpers.js";
import { outcomeOf, READ_8, ready, TargetWorld, WRITE_8 } from "../target/target-peer.js";

/** Traps 17 to 22 and 76: digests, lengths, additional headers (RFC 7143 §7.8, §11.2). */

const both: DigestUse = { header: true, data: true };
const withDigests = { headerDigest: "crc32c", dataDigest: "crc32c" } as const;

/** RFC 7143 §13.1 by division, bit by bit: independent of the code under test. */
function crcByDivision(bytes: Buffer): Buffer {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc = (crc ^ byte) >>> 0;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f6_3b78;
  }
  const digest = Buffer.alloc(4);
  digest.writeUInt32LE(~crc >>> 0);
  return digest;
}

function longCommand(cdbBytes: number, data = Buffer.alloc(0)): ScsiCommandPdu {
  return {
    ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: data.length > 0 },
    ...{ taskAttribute: 1, lun: LUN_ZERO, initiatorTaskTag: 9, expectedDataTransferLength: data.length },
    ...{ cmdSn: 1, expStatSn: 1, cdb: Buffer.alloc(cdbBytes, 0x7f), data },
  };
}

function nopIn(data: Buffer): NopInPdu {
  return {
    ...{ type: "nop-in", lun: LUN_ZERO, initiatorTaskTag: 3, targetTransferTag: RESERVED },
    ...{ statSn: 1, expCmdSn: 2, maxCmdSn: 3, data },
  };
}

function frame(stream: Buffer, digests: DigestUse): RawPdu[] {
  const raws: RawPdu[] = [];
  const options = { maxDataSegmentLength: 8192, digests };
  const framer = new Framer(options, {
    placeData: () => undefined,
    onPdu: (raw) => raws.push({ ...raw, header: Buffer.from(raw.header) }),
  });
  framer.push(stream);
  return raws;
}

test("trap 17: the header digest covers the basic header and all additional header segments", () => {
  const stream = Buffer.concat(encodePdu(longCommand(40), both));
  const headerBytes = 48 + stream.readUInt8(4) * 4;
  expect(headerBytes).toBe(48 + 28);
  expect(stream.subarray(headerBytes, headerBytes + 4)).toEqual(crcByDivision(stream.subarray(0, headerBytes)));
  expect(frame(stream, both)).toHaveLength(1);
  // The digest of the 48 bytes alone, where a careless peer would put it.
  crcByDivision(stream.subarray(0, 48)).copy(stream, headerBytes);
  expect(codeOf(() => frame(stream, both))).toBe("HEADER_DIGEST_MISMATCH");
});

test("trap 18: the data digest covers the padding, and DataSegmentLength does not count it", () => {
  const stream = Buffer.concat(encodePdu(nopIn(Buffer.from("hello")), both));
  expect(stream.length).toBe(52 + 8 + 4);
  expect(stream.readUInt32BE(4)).toBe(5);
  expect(stream.subarray(60)).toEqual(crcByDivision(stream.subarray(52, 60)));
  expect(frame(stream, both)[0]).toMatchObject({ isDataDigestGood: true, data: Buffer.from("hello") });
  // Other padding, with the digest over it: good. With the digest over the five bytes alone: bad.
  stream.fill(0xff, 57, 60);
  crcByDivision(stream.subarray(52, 60)).copy(stream, 60);
  expect(frame(stream, both)[0]).toMatchObject({ isDataDigestGood: true, data: Buffer.from("hello") });
  crcByDivision(stream.subarray(52, 57)).copy(stream, 60);
  expect(frame(stream, both)[0]?.isDataDigestGood).toBe(false);
});

test("trap 19: a header whose digest is wrong is not believed, not even its length: the connection closes", async () => {
  const fixture = await openSession({ session: withDigests });
  const { command, execution } = await beginRead(fixture);
  const { connection } = fixture.target;
  const sent: Buffer[] = [];
  const sendBytes = connection.sendBytes.bind(connection);
  connection.sendBytes = (chunks) => sent.push(...chunks);
  connection.dataIn(command, { data: Buffer.alloc(512), status: 0 });
  const wire = Buffer.concat(sent);
  wire.writeUInt8(0xff, 5);
  wire.writeUInt8(wire.readUInt8(19) ^ 1, 19);
  sendBytes([wire]);
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBe("HEADER_DIGEST_MISMATCH");
  expect(execution.results).toEqual([]);
});

test("trap 19: a damaged header is dropped only where the next one proves the place", () => {
  const framer = new Framer(
    { maxDataSegmentLength: 8192, digests: both, resynchronise: true },
    { placeData: () => undefined, onPdu: (raw) => tags.push(raw.header.readUInt32BE(16)) },
  );
  const tags: number[] = [];
  const good = Buffer.concat(encodePdu(nopIn(Buffer.from("hello")), both));
  const damaged = Buffer.from(good);
  damaged.fill(0xff, 24, 27);
  framer.push(Buffer.concat([damaged, good]));
  expect(tags).toEqual([3]);
  const lying = Buffer.from(damaged);
  lying.writeUInt8(60, 7);
  expect(codeOf(() => framer.push(Buffer.concat([lying, good, good])))).toBe("HEADER_DIGEST_MISMATCH");
  expect(tags).toEqual([3]);
});

test("trap 19: the target closes on a header it cannot believe, and carries nothing of it out", async () => {
  const peer = await new TargetWorld().login({ keys: { HeaderDigest: "CRC32C", DataDigest: "CRC32C" } });
  peer.useDigests(both);
  await peer.clearAttention();
  const bytes = Buffer.concat(encodePdu(peer.command("00"), both));
  bytes.writeUInt8(bytes.readUInt8(32) ^ 0x2a, 32);
  await peer.sendBytes(bytes);
  expect(peer.stream.closed).not.toBe("open");
});

test("trap 20: with a wrong data digest neither the data nor the status of a PDU counts", async () => {
  const fixture = await openSession({ session: withDigests });
  const { command, execution } = await beginRead(fixture);
  const { connection } = fixture.target;
  const sent: Buffer[] = [];
  const sendBytes = connection.sendBytes.bind(connection);
  connection.sendBytes = (chunks) => sent.push(...chunks);
  connection.dataIn(command, { data: Buffer.alloc(512, 9), status: 0 });
  connection.sendBytes = sendBytes;
  const wire = Buffer.concat(sent);
  wire.writeUInt8(8, 100);
  sendBytes([wire]);
  await fixture.clock.advance(1);
  expect(execution.results).toEqual([]);
  expect(lostBecause(fixture)).toBe("SESSION_DIGEST");
});

test("trap 20: the target rejects data with a wrong digest and writes none of it", async () => {
  const peer = await new TargetWorld().login({ keys: { HeaderDigest: "CRC32C", DataDigest: "CRC32C" } });
  peer.useDigests(both);
  await peer.clearAttention();
  const write = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096, data: Buffer.alloc(4096, 5) });
  const bytes = Buffer.concat(encodePdu(write, both));
  bytes.writeUInt8(4, 2000);
  await peer.sendBytes(bytes);
  expect(peer.next("reject")).toMatchObject({ reason: 0x02, data: bytes.subarray(0, 48) });
  expect(outcomeOf(peer.result(write.initiatorTaskTag))).not.toBe("good");
  const { data } = await peer.run(READ_8, 4096);
  expect(data.every((byte) => byte === 0)).toBe(true);
});

test("trap 21: digests begin after the login, in both directions", async () => {
  const seen: number[] = [];
  const fixture = await openSession({
    session: withDigests,
    target: { onPdu: (_connection, pdu) => seen.push("cmdSn" in pdu ? pdu.cmdSn : -1) },
  });
  // The scripted target reads logins without digests and everything after with them; it closes on what it cannot read.
  const { command, execution } = await begin(fixture);
  expect(seen).toEqual([command.cmdSn]);
  fixture.target.connection.respond(command);
  expect(await settle(fixture.clock, execution.done)).toMatchObject({ status: 0 });

  const peer = await new TargetWorld().connect();
  const response = await peer.login({ keys: { HeaderDigest: "CRC32C", DataDigest: "CRC32C" } });
  expect(response.data.toString()).toContain("HeaderDigest=CRC32C");
  peer.useDigests(both);
  await peer.clearAttention();
  expect(outcomeOf(await peer.run("00"))).toBe("good");
});

test("trap 22: TotalAHSLength counts words, and each segment is padded to four bytes", () => {
  // 21 more bytes of CDB: AHSLength counts them and one reserved byte; with two of length and one of type it is 25.
  const stream = Buffer.concat(encodePdu(longCommand(37), { header: false, data: false }));
  expect([stream.readUInt8(4), stream.readUInt16BE(48), stream.readUInt8(50)]).toEqual([7, 22, 1]);
  expect(stream.length).toBe(48 + 28);
  expect(stream.subarray(48 + 25)).toEqual(Buffer.alloc(3));
  const [raw] = frame(stream, { header: false, data: false });
  expect(decodePdu(raw!.header, raw!.ahs, raw!.data)).toMatchObject({ cdb: Buffer.alloc(37, 0x7f) });
});

test("trap 76: a length from the peer is checked before anything is allocated", () => {
  const header = Buffer.concat(encodePdu(nopIn(Buffer.alloc(0)), { header: false, data: false }));
  header.writeUIntBE(0xff_ffff, 5, 3);
  let places = 0;
  const framer = new Framer(
    { maxDataSegmentLength: 8192, digests: { header: false, data: false } },
    {
      placeData: () => {
        places += 1;
        return undefined;
      },
      onPdu: () => undefined,
    },
  );
  const before = process.memoryUsage().arrayBuffers;
  expect(codeOf(() => framer.push(header))).toBe("DATA_SEGMENT_TOO_LONG");
  expect(places).toBe(0);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
});

test("trap 76: a Data-In longer than the buffer, and a text without end, are refused at their bound", async () => {
  const fixture = await openSession({
    target: {
      onPdu: (connection, pdu) => {
        if (pdu.type !== "text-request") return;
        connection.send({
          ...{ type: "text-response", isFinal: false, isContinued: true, lun: pdu.lun },
          ...{ initiatorTaskTag: pdu.initiatorTaskTag, targetTransferTag: 1, data: Buffer.alloc(8192, 0x41) },
        });
      },
    },
  });
  await expect(settle(fixture.clock, fixture.session.text([]))).rejects.toMatchObject({ code: "TEXT_TOO_LONG" });
  const asked = fixture.target.connection.ofType("text-request").length;
  expect(asked * 8192).toBeLessThan(MAX_TEXT_NEGOTIATION_BYTES + 2 * 8192);
  const { command } = await beginRead(fixture);
  fixture.target.connection.dataIn(command, { data: Buffer.alloc(1024) });
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBe("SESSION_PROTOCOL");
});

test("trap 76: the target refuses a segment over what it declared, before it waits for it", async () => {
  const peer = await ready();
  const header = Buffer.concat(encodePdu(peer.command("00"), { header: false, data: false }));
  header.writeUIntBE(0xff_ffff, 5, 3);
  await peer.sendBytes(header);
  expect(peer.stream.closed).not.toBe("open");
});
