import { mkdtempSync, rmSync } from "node:fs";
import { once } from "node:events";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createDeferred, type Deferred } from "../../src/base/deferred.js";
import { silentLogger } from "../../src/base/logger.js";
import { lunFromNumber } from "../../src/base/lun.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { SystemRandom } from "../../src/base/system-random.js";
import { ForwardingDevice } from "../../src/block/forwarding-device.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import type { TargetServer } from "../../src/target/api.js";
import { createTargetServer, type TargetServerOptions } from "../../src/target/target-server.js";
import { TcpListener } from "../../src/transport/tcp.js";
import { encodePdu, NO_DIGESTS } from "../../src/wire/encode.js";
import type { Pdu } from "../../src/wire/pdu.js";
import { encodeTextKeys } from "../../src/wire/text-keys.js";
import { CAPTURE_NEEDS, LoopbackRecorder } from "../support/iscsi-capture.js";
import { describeNeeding } from "../support/needs.js";
import {
  bothDigests,
  DISK_BYTES,
  everyRun,
  expectKindsOfTransfer,
  expectSeen,
  HOST,
  INITIATOR,
  judge,
  mutual,
  name,
  oneWay,
  openLun,
  openSession,
  type Place,
  runCommonScenarios,
  runTaskManagement,
} from "../support/recorded-sessions.js";

/** A disk whose reads wait while it is told to hang. */
class HangingDevice extends ForwardingDevice {
  #gate: Deferred<undefined> | undefined;

  hang(): void {
    this.#gate = createDeferred();
  }

  letGo(): void {
    this.#gate?.resolve(undefined);
    this.#gate = undefined;
  }

  override async read(offsetBytes: number, target: Buffer): Promise<void> {
    await this.#gate?.promise;
    return super.read(offsetBytes, target);
  }
}

describeNeeding([...CAPTURE_NEEDS], "recorded sessions with the embedded target", () => {
  const folder = mkdtempSync(join(tmpdir(), "hawser-capture-"));
  const servers: TargetServer[] = [];
  const ports = { plain: 13_451, asked: 13_452, unasked: 13_453, pinging: 13_454 };
  const device = new HangingDevice(new MemoryDevice({ sizeBytes: DISK_BYTES, id: "naa.6000000000000001" }));

  async function startServer(port: number, options: Omit<TargetServerOptions, "portals">): Promise<TargetServer> {
    const clock = new SystemClock();
    const server = createTargetServer(
      { portals: [{ host: HOST, port }], ...options },
      {
        clock,
        random: new SystemRandom(),
        logger: silentLogger,
        listener: new TcpListener({ clock, logger: silentLogger }),
      },
    );
    servers.push(server);
    server.addTarget({ name: name("plain"), luns: new Map([[0, device]]), access: { kind: "any" } });
    server.addTarget({ name: name("chap"), luns: new Map([[0, device]]), access: { kind: "any", chap: oneWay } });
    server.addTarget({ name: name("mutual"), luns: new Map([[0, device]]), access: { kind: "any", chap: mutual } });
    await server.start();
    return server;
  }

  beforeAll(async () => {
    const bursts = { maxRecvDataSegmentLength: 8192, maxBurstLength: 65_536, firstBurstLength: 32_768 };
    await startServer(ports.plain, {});
    await startServer(ports.asked, {
      preferences: {
        ...{ initialR2T: true, immediateData: false, maxOutstandingR2T: 8 },
        ...{ maxRecvDataSegmentLength: 8192, maxBurstLength: 16_384 },
      },
    });
    await startServer(ports.unasked, { preferences: { ...bursts, maxOutstandingR2T: 4 } });
    await startServer(ports.pinging, { limits: { pingIntervalMs: 1000 } });
  });

  afterAll(async () => {
    device.letGo();
    for (const server of servers) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const place = (port: number, suffix = "plain"): Place => ({
    portal: { host: HOST, port },
    targetName: name(suffix),
    lun: 0,
  });

  /** A text negotiation in a session that carries commands, and its refusals. */
  async function runText(): Promise<void> {
    const session = await openSession(place(ports.plain), bothDigests);
    const answer = await session.text([["SendTargets", name("plain")]]);
    expect(answer[0]).toEqual(["TargetName", name("plain")]);
    expect(await session.text([["X-com.example.unknown", "1"]])).toEqual([["X-com.example.unknown", "NotUnderstood"]]);
    await session.logout();
  }

  /** The target takes a disk away: it says so with an Async Message before it ends the session. */
  async function runRemoval(): Promise<void> {
    const server = await startServer(13_455, {});
    const session = await openSession(place(13_455), { ...bothDigests, timers: { reconnectInitialMs: 60_000 } });
    await openLun(session, place(13_455));
    await server.removeTarget(name("plain"));
    session.close();
  }

  /** No initiator of ours sends what deserves a Reject, so this speaks the protocol by hand: SNACK at level 0. */
  async function runReject(): Promise<void> {
    const socket = connect(ports.plain, HOST);
    const receive = async (): Promise<Buffer> => {
      const [bytes] = (await once(socket, "data")) as [Buffer];
      return bytes;
    };
    const send = (pdu: Pdu): void => {
      for (const piece of encodePdu(pdu, NO_DIGESTS)) socket.write(piece);
    };
    const keys = [
      ...([
        ["InitiatorName", INITIATOR],
        ["SessionType", "Normal"],
      ] as const),
      ...([["TargetName", name("plain")]] as const),
    ];
    send({
      ...{ type: "login-request", isTransit: true, isContinued: false, currentStage: 1, nextStage: 3 },
      ...{ versionMax: 0, versionMin: 0, isid: Buffer.from("80abcdef0099", "hex"), tsih: 0, initiatorTaskTag: 1 },
      ...{ cid: 0, cmdSn: 1, expStatSn: 0, data: encodeTextKeys(keys) },
    });
    const login = await receive();
    expect([login[0], login[36]]).toEqual([0x23, 0]);
    const expStatSn = login.readUInt32BE(24) + 1;
    const lun = lunFromNumber(0);
    send({
      ...{ type: "snack-request", snackType: 0, lun, initiatorTaskTag: 7, targetTransferTag: 0xffff_ffff },
      ...{ expStatSn, begRun: 0, runLength: 1 },
    });
    expect((await receive())[0]).toBe(0x3f);
    socket.destroy();
  }

  test("no malformed PDU, every digest good, every number right", async () => {
    const path = join(folder, "embedded.pcapng");
    await LoopbackRecorder.during(
      {
        path,
        markerPort: 13_459,
        ports: [...Object.values(ports), 13_455],
      },
      async () => {
        await runCommonScenarios({
          ...{ plain: place(ports.plain), chap: place(ports.plain, "chap"), mutual: place(ports.plain, "mutual") },
          ...{ asked: place(ports.asked), unasked: place(ports.unasked), pinging: place(ports.pinging) },
        });
        const aborted = await runTaskManagement(
          place(ports.plain),
          () => device.hang(),
          () => device.letGo(),
        );
        expect(aborted).toMatchObject({ kind: "failed", error: { code: "SESSION_TASK_TIMEOUT" } });
        await runText();
        await runRemoval();
        await runReject();
      },
    );
    const { pdus, counts } = judge(path, [...Object.values(ports), 13_455]);
    expectSeen(counts, [...everyRun, "asyncMessage", "reject"]);
    expectKindsOfTransfer(pdus);
  }, 120_000);
});
