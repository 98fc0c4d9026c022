import fc from "fast-check";
import { lunEquals, lunFromNumber, lunToNumber, readLun } from "../../../src/base/lun.js";
import { MAX_NODE_NAME_BYTES } from "../../../src/base/limits.js";
import { normalizeNodeName } from "../../../src/login/node-name.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { encodePdu, NO_DIGESTS } from "../../../src/wire/encode.js";
import { Framer } from "../../../src/wire/framer.js";
import type { Pdu, PduType } from "../../../src/wire/pdu.js";
import { pduArbitraries } from "../../property/pdu-arbitraries.js";
import { execute, openSession } from "../../support/session-fixture.js";
import { answerPing, codeOf, lostBecause, NO_DATA, RESERVED } from "../../support/trap-helpers.js";
import { ready, TARGET_NAME, TargetWorld } from "../target/target-peer.js";

/** Traps 72 to 75: reserved fields, LUNs, task tags, names (RFC 7143 §4.2.7, §11.2). */

const all = (from: number, to: number): readonly (readonly [number, number])[] =>
  Array.from({ length: to - from + 1 }, (_, index) => [from + index, 0xff] as const);

/** What the figures of §11 draw as reserved: byte and mask. */
const reserved: { readonly [T in PduType]: readonly (readonly [number, number])[] } = {
  // Byte 2 has RFC 7144's command priority.
  "scsi-command": [[1, 0x18], [2, 0x0f], ...all(3, 3)],
  // Bytes 8 and 9 are RFC 7144's status qualifier.
  "scsi-response": [[1, 0x61], ...all(10, 15)],
  "task-management-request": [...all(2, 3), ...all(40, 47)],
  // Bytes 8 to 10 are RFC 7144's Additional Response Information.
  "task-management-response": [[1, 0x7f], ...all(3, 3), ...all(11, 15), ...all(20, 23), ...all(36, 47)],
  "scsi-data-out": [[1, 0x7f], ...all(2, 3), ...all(24, 27), ...all(32, 35), ...all(44, 47)],
  "scsi-data-in": [[1, 0x38], ...all(2, 2)],
  "ready-to-transfer": [[1, 0x7f], ...all(2, 3)],
  "async-message": [[1, 0x7f], ...all(2, 3), ...all(20, 23), ...all(44, 47)],
  "text-request": [[1, 0x3f], ...all(2, 3), ...all(32, 47)],
  "text-response": [[1, 0x3f], ...all(2, 3), ...all(36, 47)],
  "login-request": [[1, 0x30], ...all(22, 23), ...all(32, 47)],
  "login-response": [[1, 0x30], ...all(20, 23), ...all(38, 47)],
  "logout-request": [...all(2, 3), ...all(8, 15), ...all(22, 23), ...all(32, 47)],
  "logout-response": [[1, 0x7f], ...all(3, 3), ...all(8, 15), ...all(20, 23), ...all(36, 39), ...all(44, 47)],
  "snack-request": [[1, 0x70], ...all(2, 3), ...all(24, 27), ...all(32, 39)],
  reject: [[1, 0x7f], ...all(3, 3), ...all(8, 15), ...all(20, 23), ...all(40, 47)],
  "nop-out": [[1, 0x7f], ...all(2, 3), ...all(32, 47)],
  "nop-in": [[1, 0x7f], ...all(2, 3), ...all(36, 47)],
};

function decodeStream(stream: Buffer): Pdu[] {
  const pdus: Pdu[] = [];
  const framer = new Framer(
    { maxDataSegmentLength: 0xff_ffff, digests: NO_DIGESTS },
    { placeData: () => undefined, onPdu: (raw) => pdus.push(decodePdu(raw.header, raw.ahs, raw.data)) },
  );
  framer.push(stream);
  return pdus;
}

test.each(Object.entries(reserved))(
  "trap 72: %s: reserved fields are sent as 0 and ignored on receipt",
  (type, mask) => {
    const arbitrary: fc.Arbitrary<Pdu> = pduArbitraries[type as PduType];
    for (const pdu of fc.sample(arbitrary, { numRuns: 30, seed: 72 })) {
      const stream = Buffer.concat(encodePdu(pdu, NO_DIGESTS));
      expect(mask.map(([at, bits]) => stream.readUInt8(at) & bits)).toEqual(mask.map(() => 0));
      for (const [at, bits] of [...mask, [0, 0x80] as const]) stream.writeUInt8(stream.readUInt8(at) | bits, at);
      expect(decodeStream(stream)).toEqual([pdu]);
    }
  },
);

test("trap 72: an unknown opcode is a protocol error: the target rejects it, the initiator recovers", async () => {
  for (const opcode of [0x07, 0x1c, 0x27, 0x3c]) {
    const header = Buffer.alloc(48);
    header.writeUInt8(opcode, 0);
    expect(codeOf(() => decodePdu(header, undefined, NO_DATA))).toBe("OPCODE_UNKNOWN");
  }
  const fixture = await openSession();
  const header = Buffer.alloc(48);
  header.writeUInt8(0x3c, 0);
  fixture.target.connection.sendBytes([header]);
  await fixture.clock.advance(1);
  expect(lostBecause(fixture)).toBe("OPCODE_UNKNOWN");
  const peer = await ready();
  header.writeUInt8(0x1c, 0);
  await peer.sendBytes(header);
  expect(peer.next("reject").reason).toBe(0x05);
});

test.each([
  [0, "0000000000000000"],
  [7, "0007000000000000"],
  [255, "00ff000000000000"],
  [256, "4100000000000000"],
  [0x3fff, "7fff000000000000"],
])("trap 73: LUN %i goes on the wire as %s, by its addressing method", async (index, hex) => {
  const fixture = await openSession();
  execute(fixture.session, { lun: lunFromNumber(index) });
  await fixture.clock.advance(1);
  const [command] = fixture.target.connection.ofType("scsi-command");
  const wire = Buffer.concat(encodePdu(command!, NO_DIGESTS));
  expect(wire.toString("hex", 8, 16)).toBe(hex);
  expect(lunToNumber(readLun(Buffer.from(hex, "hex"), 0))).toBe(index);
});

test("trap 73: a LUN is eight bytes: levels and methods that are no plain number stay what they are", async () => {
  // Logical unit addressing (method 10), and two levels: no index, but a LUN all the same.
  for (const hex of ["8125000000000000", "0001000200000000"]) {
    const lun = readLun(Buffer.from(hex, "hex"), 0);
    expect(lunToNumber(lun)).toBeUndefined();
    const fixture = await openSession();
    execute(fixture.session, { lun });
    await fixture.clock.advance(1);
    expect(lunEquals(fixture.target.connection.ofType("scsi-command")[0]!.lun, lun)).toBe(true);
  }
  // The target's LUN 0 is not reached by another LUN whose first bytes are the same.
  const peer = await ready();
  await peer.send(peer.command("00", { lun: { high: 0, low: 1 } }));
  expect(peer.next("scsi-response").status).toBe(2);
});

test("trap 74: ffffffff is no task tag, and the tags in use are unique over commands, pings, text and management", async () => {
  const fixture = await openSession({ target: { windowSize: 200 } });
  const { session, target, clock } = fixture;
  const { connection } = target;
  const inUse = new Set<number>();
  let finished = 0;
  target.onPdu = (_connection, pdu) => {
    if (!("initiatorTaskTag" in pdu) || pdu.type === "scsi-data-out") return;
    expect(pdu.initiatorTaskTag).not.toBe(RESERVED);
    expect(inUse.has(pdu.initiatorTaskTag)).toBe(false);
    inUse.add(pdu.initiatorTaskTag);
  };
  for (let round = 0; round < 60; round += 1) {
    for (let index = 0; index < 20; index += 1) execute(session, {});
    const asked = session.nop();
    await clock.advance(1);
    const [ping] = connection.ofType("nop-out").slice(-1);
    answerPing(connection, ping!);
    inUse.delete(ping!.initiatorTaskTag);
    const running = connection.ofType("scsi-command").slice(finished);
    // Some of them stay: tags are given back and taken in another order than they were made.
    for (const command of running.slice(0, 18)) {
      connection.respond(command);
      inUse.delete(command.initiatorTaskTag);
      finished += 1;
    }
    await clock.advance(1);
    await asked;
  }
  expect(finished).toBe(60 * 18);
  expect(lostBecause(fixture)).toBeUndefined();
});

test("trap 74: the target refuses the reserved tag as a task tag, and a tag that is in use", async () => {
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" });
  const command = peer.command("2a 00 00 00 00 00 00 00 08 00", { isWrite: true, expectedDataTransferLength: 4096 });
  await peer.send(command, peer.command("00", { initiatorTaskTag: command.initiatorTaskTag }));
  peer.next("ready-to-transfer");
  expect(peer.next("reject").reason).toBe(0x07);
  await peer.send(peer.command("00", { initiatorTaskTag: RESERVED }));
  expect(peer.next("reject").reason).toBe(0x09);
});

test("trap 75: node names are iqn, eui or naa, lower case after normalisation, and 223 bytes at most", async () => {
  expect(normalizeNodeName("IQN.2001-04.COM.Example:Disk")).toBe("iqn.2001-04.com.example:disk");
  expect(normalizeNodeName("EUI.02004567A425678D")).toBe("eui.02004567a425678d");
  expect(normalizeNodeName("naa.62004567BA64678D0123456789ABCDEF")).toBe("naa.62004567ba64678d0123456789abcdef");
  const longest = `iqn.2001-04.com.example:${"a".repeat(223 - 24)}`;
  expect([MAX_NODE_NAME_BYTES, normalizeNodeName(longest).length]).toEqual([223, 223]);
  for (const name of [`${longest}a`, "disk", "iqn.com.example:x", "eui.0200", "iqn.2001-04.com.example:a b"]) {
    expect(codeOf(() => normalizeNodeName(name))).toBe("NODE_NAME_INVALID");
  }
  // A target is found by its name in any case, and takes the initiator's in any case.
  const peer = await new TargetWorld().connect();
  const keys = { InitiatorName: "IQN.2026-11.Dev.Hawser:PEER", TargetName: TARGET_NAME.toUpperCase() };
  await peer.send(peer.loginRequest({ ...keys, SessionType: "Normal" }));
  expect(peer.next("login-response")).toMatchObject({ statusClass: 0, isTransit: true });
});
