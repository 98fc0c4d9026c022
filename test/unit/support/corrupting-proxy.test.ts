import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { type DigestUse, encodePdu, NO_DIGESTS } from "../../../src/wire/encode.js";
import { Framer, type RawPdu } from "../../../src/wire/framer.js";
import type { LoginResponsePdu, Pdu, ScsiCommandPdu, ScsiDataInPdu } from "../../../src/wire/pdu.js";
import { CorruptingProxy } from "../../support/corrupting-proxy.js";
import { FaultPlan } from "../../support/corrupting-proxy-faults.js";
import { type CutPdu, LoginWatcher, PduCutter } from "../../support/corrupting-proxy-pdus.js";

const BOTH: DigestUse = { header: true, data: true };
const sequence = { statSn: 1, expCmdSn: 2, maxCmdSn: 3 };

const dataIn = (lengthBytes: number): ScsiDataInPdu => ({
  ...{ type: "scsi-data-in", isFinal: true, isAcknowledgeRequested: false, hasStatus: true, ...sequence },
  ...{ isOverflow: false, isUnderflow: false, status: 0, lun: LUN_ZERO, initiatorTaskTag: 7 },
  ...{ targetTransferTag: 0xffff_ffff, dataSn: 0, bufferOffset: 0, residualCount: 0 },
  data: Buffer.alloc(lengthBytes, 0x5a),
});

const command = (immediateBytes: number): ScsiCommandPdu => ({
  ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: true, taskAttribute: 1 },
  ...{ lun: LUN_ZERO, initiatorTaskTag: 7, expectedDataTransferLength: 4096, cmdSn: 1, expStatSn: 1 },
  ...{ cdb: Buffer.alloc(16, 0x2a), data: Buffer.alloc(immediateBytes, 0xa5) },
});

const loginResponse = (text: string, isTransit = true): LoginResponsePdu => ({
  ...{ type: "login-response", isTransit, isContinued: false, currentStage: 1, nextStage: isTransit ? 3 : 1 },
  ...{ versionMax: 0, versionActive: 0, isid: Buffer.alloc(6), tsih: 1, initiatorTaskTag: 1, ...sequence },
  ...{ statusClass: 0, statusDetail: 0, data: Buffer.from(text) },
});

const bytesOf = (pdu: Pdu, digests: DigestUse): Buffer => Buffer.concat(encodePdu(pdu, digests));

function cut(stream: Buffer, digests: DigestUse, pieceBytes: number): CutPdu[] {
  const cutter = new PduCutter();
  cutter.digests = digests;
  const pdus: CutPdu[] = [];
  for (let at = 0; at < stream.length; at += pieceBytes) {
    cutter.push(stream.subarray(at, at + pieceBytes), (pdu) => pdus.push(pdu));
  }
  return pdus;
}

/** How the initiator's own framer judges the bytes: what arrived, or that a header digest was wrong. */
function judge(stream: Buffer, digests: DigestUse): { dataGood: boolean[]; isHeaderBad: boolean } {
  const dataGood: boolean[] = [];
  const onPdu = (pdu: RawPdu): void => void dataGood.push(pdu.isDataDigestGood);
  const framer = new Framer({ maxDataSegmentLength: 1 << 20, digests }, { placeData: () => undefined, onPdu });
  try {
    framer.push(stream);
    return { dataGood, isHeaderBad: false };
  } catch {
    return { dataGood, isHeaderBad: true };
  }
}

describe("the cutter", () => {
  const sizes = [0, 1, 3, 4, 512];
  test.each([1, 7, 48, 100, 100_000])("finds every edge in pieces of %i bytes, with digests and without", (piece) => {
    for (const digests of [NO_DIGESTS, BOTH, { header: true, data: false }, { header: false, data: true }]) {
      const originals = sizes.map((size) => bytesOf(dataIn(size), digests));
      const pdus = cut(Buffer.concat(originals), digests, piece);
      expect(pdus.map((pdu) => pdu.bytes)).toEqual(originals);
      expect(pdus.map((pdu) => pdu.dataBytes)).toEqual(sizes);
    }
  });

  test("tells a command with immediate data from one without", () => {
    const stream = Buffer.concat([command(0), command(512), dataIn(4)].map((pdu) => bytesOf(pdu, NO_DIGESTS)));
    expect(cut(stream, NO_DIGESTS, 64).map((pdu) => pdu.kind)).toEqual(["scsi-command", "immediate-data", "data-in"]);
  });

  test("learns the digests from the answer that ends the login, and not before", () => {
    const watcher = new LoginWatcher();
    const [first, last] = [
      loginResponse("HeaderDigest=CRC32C\0", false),
      loginResponse("DataDigest=None\0MaxConnections=8\0"),
    ].map((pdu) => cut(bytesOf(pdu, NO_DIGESTS), NO_DIGESTS, 1000)[0]!);
    expect(watcher.take(first!)).toBeUndefined();
    expect(watcher.isFullFeature).toBe(false);
    expect(watcher.take(last!)).toEqual({ header: true, data: false });
    expect(watcher.isFullFeature).toBe(true);
  });
});

describe("the plan of faults", () => {
  const pduOf = (pdu: Pdu, digests = BOTH): CutPdu => cut(bytesOf(pdu, digests), digests, 100_000)[0]!;

  test("hits every n-th PDU of its kind, at most so often, and counts", () => {
    const plan = new FaultPlan([{ kind: "data-in", fault: "drop", every: 3, most: 2 }], 1);
    const hits = Array.from({ length: 12 }, () => plan.faultFor(pduOf(dataIn(8))) ?? plan.faultFor(pduOf(command(0))));
    const places = hits.flatMap((fault, index) => (fault === "drop" ? [index] : []));
    expect(places).toEqual([2, 5]);
    expect(plan.counts).toEqual({ "data-in drop": 2 });
  });

  test("a rate hits the same PDUs again with the same seed", () => {
    const sample = (seed: number): boolean[] => {
      const plan = new FaultPlan([{ kind: "data-in", fault: "drop", rate: 0.25 }], seed);
      return Array.from({ length: 400 }, () => plan.faultFor(pduOf(dataIn(8))) === "drop");
    };
    expect(sample(5)).toEqual(sample(5));
    expect(sample(5)).not.toEqual(sample(6));
    const share = sample(5).filter(Boolean).length;
    expect(share).toBeGreaterThan(60);
    expect(share).toBeLessThan(140);
  });

  test("passes over PDUs that have nothing to spoil", () => {
    const plan = new FaultPlan([{ kind: "data-in", fault: "flip-data-digest" }], 1);
    expect(plan.faultFor(pduOf(dataIn(8), NO_DIGESTS))).toBeUndefined();
    expect(plan.faultFor(pduOf(dataIn(0)))).toBeUndefined();
    expect(plan.faultFor(pduOf(dataIn(8)))).toBe("flip-data-digest");
  });

  test("a rule for commands takes those with immediate data, not the other way round", () => {
    const plan = new FaultPlan(
      [
        { kind: "immediate-data", fault: "flip-data" },
        { kind: "scsi-command", fault: "drop" },
      ],
      1,
    );
    expect(plan.faultFor(pduOf(command(4)))).toBe("flip-data");
    expect(plan.faultFor(pduOf(command(0)))).toBe("drop");
  });

  test.each([
    ["flip-data", { dataGood: [false], isHeaderBad: false }],
    ["flip-data-digest", { dataGood: [false], isHeaderBad: false }],
    ["flip-header", { dataGood: [], isHeaderBad: true }],
    ["flip-header-digest", { dataGood: [], isHeaderBad: true }],
  ] as const)("%s changes one bit, which the digest shows", (fault, verdict) => {
    for (let seed = 1; seed < 40; seed += 1) {
      const plan = new FaultPlan([], seed);
      const pdu = pduOf(dataIn(30));
      const original = Buffer.from(pdu.bytes);
      plan.corrupt(pdu, fault);
      const changed = original.map((byte, at) => byte ^ pdu.bytes.readUInt8(at)).filter((bits) => bits !== 0);
      expect(changed.length).toBe(1);
      expect(Math.log2(changed[0]!) % 1).toBe(0);
      expect(judge(pdu.bytes, BOTH)).toEqual(verdict);
    }
  });
});

describe("the proxy", () => {
  let target: Server;
  let targetPort: number;
  const targetSockets: Socket[] = [];
  const received: Buffer[] = [];
  const proxies: CorruptingProxy[] = [];
  const clients: Socket[] = [];

  beforeEach(async () => {
    received.length = 0;
    target = createServer((socket) => {
      targetSockets.push(socket);
      socket.on("error", () => undefined);
      socket.on("data", (chunk) => received.push(chunk));
    });
    target.listen(0, "127.0.0.1");
    await once(target, "listening");
    const address = target.address();
    targetPort = typeof address === "object" && address !== null ? address.port : 0;
  });

  afterEach(async () => {
    for (const socket of [...clients.splice(0), ...targetSockets.splice(0)]) socket.destroy();
    for (const proxy of proxies.splice(0)) await proxy.close();
    const closed = once(target, "close");
    target.close();
    await closed;
  });

  async function start(rules: Parameters<CorruptingProxy["setRules"]>[0] = []): Promise<CorruptingProxy> {
    const route = { listen: { host: "127.0.0.1", port: 0 }, target: { host: "127.0.0.1", port: targetPort } };
    const proxy = await CorruptingProxy.start({ routes: [route], rules });
    proxies.push(proxy);
    return proxy;
  }

  /** A connection through the proxy past its login, with both digests; the bytes of the login are taken out. */
  async function logIn(proxy: CorruptingProxy): Promise<{ client: Socket; arrived: () => Buffer; side: Socket }> {
    const client = createConnection(proxy.portals[0]!);
    clients.push(client);
    client.on("error", () => undefined);
    const chunks: Buffer[] = [];
    client.on("data", (chunk) => chunks.push(chunk));
    const before = targetSockets.length;
    await once(client, "connect");
    await until(() => targetSockets.length > before);
    const side = targetSockets[before]!;
    const login = bytesOf(loginResponse("HeaderDigest=CRC32C\0DataDigest=CRC32C\0"), NO_DIGESTS);
    side.write(login);
    await until(() => Buffer.concat(chunks).length >= login.length);
    return { client, arrived: () => Buffer.concat(chunks).subarray(login.length), side };
  }

  async function until(isDone: () => boolean): Promise<void> {
    while (!isDone()) await new Promise((resolve) => setImmediate(resolve));
  }

  test("passes both directions on, byte for byte, and counts what came", async () => {
    const proxy = await start();
    const { client, arrived, side } = await logIn(proxy);
    const [down, up] = [bytesOf(dataIn(70_000), BOTH), bytesOf(command(512), BOTH)];
    side.write(down);
    client.write(up);
    await until(() => arrived().length >= down.length && Buffer.concat(received).length >= up.length);
    expect(arrived()).toEqual(down);
    expect(Buffer.concat(received)).toEqual(up);
    expect(proxy.report).toMatchObject({ connections: 1, killed: 0, faults: {} });
    expect(proxy.report.pdus).toEqual({ "data-in": 1, "immediate-data": 1, "login-response": 1 });
  });

  test("spoils data only on the PDUs of its rule", async () => {
    const proxy = await start([{ kind: "data-in", fault: "flip-data", every: 2 }]);
    const { arrived, side } = await logIn(proxy);
    const stream = Buffer.concat(Array.from({ length: 4 }, () => bytesOf(dataIn(512), BOTH)));
    side.write(stream);
    await until(() => arrived().length >= stream.length);
    expect(judge(arrived(), BOTH)).toEqual({ dataGood: [true, false, true, false], isHeaderBad: false });
    expect(proxy.report.faults).toEqual({ "data-in flip-data": 2 });
  });

  test("drops whole PDUs, and new rules hold at once", async () => {
    const proxy = await start([{ kind: "data-in", fault: "drop" }]);
    const { arrived, side } = await logIn(proxy);
    side.write(bytesOf(dataIn(512), BOTH));
    await until(() => proxy.report.faults["data-in drop"] === 1);
    proxy.setRules([]);
    const second = bytesOf(dataIn(8), BOTH);
    side.write(second);
    await until(() => arrived().length >= second.length);
    expect(arrived()).toEqual(second);
  });

  test("stalls one direction and leaves the other", async () => {
    const proxy = await start([{ kind: "data-in", fault: "stall" }]);
    const { client, arrived, side } = await logIn(proxy);
    side.write(bytesOf(dataIn(8), BOTH));
    await until(() => proxy.report.faults["data-in stall"] === 1);
    side.write(bytesOf(dataIn(8), BOTH));
    const up = bytesOf(command(0), BOTH);
    client.write(up);
    await until(() => Buffer.concat(received).length >= up.length);
    expect(arrived().length).toBe(0);
    expect(client.destroyed).toBe(false);
  });

  test("cuts a connection in the middle of a PDU", async () => {
    const proxy = await start([{ kind: "data-in", fault: "cut" }]);
    const { client, arrived, side } = await logIn(proxy);
    const whole = bytesOf(dataIn(512), BOTH);
    side.write(whole);
    await until(() => client.destroyed);
    expect(arrived().length).toBeLessThanOrEqual(whole.length >> 1);
    await until(() => side.destroyed && proxy.established === 0);
  });

  test("kills one connection after the other, never one before its login is over", async () => {
    const proxy = await start();
    const first = await logIn(proxy);
    const second = await logIn(proxy);
    const unfinished = createConnection(proxy.portals[0]!);
    clients.push(unfinished);
    await once(unfinished, "connect");
    expect(proxy.established).toBe(2);
    expect(proxy.killNext()).toBe(true);
    await until(() => first.client.destroyed && first.side.destroyed);
    expect(second.client.destroyed).toBe(false);
    expect(proxy.killNext()).toBe(true);
    await until(() => second.client.destroyed);
    expect(proxy.killNext()).toBe(false);
    expect(unfinished.destroyed).toBe(false);
    expect(proxy.report).toMatchObject({ connections: 3, killed: 2 });
  });

  test("the end of one side ends the other", async () => {
    const proxy = await start();
    const { client, side } = await logIn(proxy);
    side.end();
    await until(() => client.destroyed && proxy.established === 0);
  });
});
