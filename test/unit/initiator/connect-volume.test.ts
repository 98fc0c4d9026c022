import { SeededRandom } from "../../../src/base/seeded-random.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { runBench } from "../../../src/initiator/bench.js";
import {
  type ConnectedVolume,
  type ConnectVolumeRequest,
  connectVolume,
} from "../../../src/initiator/connect-volume.js";
import { createIsid } from "../../../src/initiator/isid.js";
import { ScriptedDisk } from "../../support/scripted-disk.js";
import { ScriptedTarget } from "../../support/scripted-target.js";
import { type Fixture, INITIATOR_NAME, TARGET_NAME, createFixture, settle } from "../../support/session-fixture.js";
import { VirtualTime } from "../../support/virtual-time.js";

interface Places extends Fixture {
  readonly disks: readonly [ScriptedDisk, ScriptedDisk];
  readonly second: ScriptedTarget;
  connect(more?: Partial<ConnectVolumeRequest>, signal?: AbortSignal): Promise<ConnectedVolume>;
}

/** Two portals, each with a disk of its own that shows the same identity. */
async function twoPortals(): Promise<Places> {
  const disks = [new ScriptedDisk(), new ScriptedDisk()] as const;
  const fixture = await createFixture({ target: { onPdu: disks[0].onPdu } });
  const second = await ScriptedTarget.listen(fixture.network, {
    endpoint: { kind: "tcp", host: "second", port: 3260 },
    onPdu: disks[1].onPdu,
  });
  const request: ConnectVolumeRequest = {
    portals: [
      { host: "target", port: 3260 },
      { host: "second", port: 3260 },
    ],
    targetName: TARGET_NAME,
    lun: 1,
    expectedId: "",
    initiatorName: INITIATOR_NAME,
    isid: Buffer.from("800000000001", "hex"),
    headerDigest: "none",
    dataDigest: "none",
  };
  return {
    ...fixture,
    disks,
    second,
    connect: (more, signal) =>
      settle(fixture.clock, connectVolume({ ...request, ...more }, fixture.dependencies, signal)),
  };
}

describe("connectVolume", () => {
  test("gives a device that checks and splits", async () => {
    const { connect, clock, disks } = await twoPortals();
    const volume = await connect();
    await settle(clock, volume.device.write(0, Buffer.alloc(256 * 512, 1)));
    expect(disks[0].count(0x2a)).toBe(2);
    await expect(volume.device.read(100, Buffer.alloc(512))).rejects.toMatchObject({ code: "BLOCK_INVALID_RANGE" });
    expect(volume.sessions()).toMatchObject([
      { portal: "target:3260", targetName: TARGET_NAME, state: "ready", isid: "800000000001", writeOperations: 2 },
    ]);
    await settle(clock, volume.close());
    await clock.advance(10);
    expect(clock.pendingTimers).toBe(0);
  });

  test("a portal that refuses, and one with another disk, lead to the next", async () => {
    const refusing = await twoPortals();
    refusing.target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    expect((await refusing.connect()).sessions()[0]?.portal).toBe("second:3260");
    const other = await twoPortals();
    other.disks[0].naa = "60014050000000000000000000000002";
    const volume = await other.connect({ expectedId: "naa.60014050000000000000000000000001" });
    expect(volume.sessions()[0]?.portal).toBe("second:3260");
    expect(other.target.connections[0]?.ofType("logout-request")).toHaveLength(1);
  });

  test("when none works the error is that of the portal that answered", async () => {
    const { connect, target } = await twoPortals();
    target.loginRefusal = { statusClass: 2, statusDetail: 3 };
    const portals = [
      { host: "nowhere", port: 3260 },
      { host: "target", port: 3260 },
      { host: "nowhere", port: 3261 },
    ];
    await expect(connect({ portals })).rejects.toMatchObject({ layer: "login", code: "LOGIN_TARGET_NOT_FOUND" });
    await expect(connect({ portals: [] })).rejects.toMatchObject({ code: "PORTAL_MISSING" });
  });

  test("a lost path is looked for at the other portal", async () => {
    const { connect, clock, target, second, disks } = await twoPortals();
    const volume = await connect();
    target.loginRefusal = { statusClass: 3, statusDetail: 1 };
    target.connection.close();
    await settle(clock, volume.device.write(0, Buffer.alloc(512, 5)));
    expect(disks[1].data[0]).toBe(5);
    expect(second.connection.logins[0]?.isid).toEqual(target.connections[0]?.logins[0]?.isid);
    expect(volume.sessions()).toMatchObject([{ portal: "second:3260", reconnects: 1 }]);
  });

  test("can be cancelled while it waits for the unit", async () => {
    const { connect, disks, clock, target } = await twoPortals();
    for (let count = 0; count < 1000; count += 1) disks[0].nextResults.push({ opcode: 0, status: 8 });
    const stop = new AbortController();
    const connecting = connect({}, stop.signal);
    await clock.advance(500);
    stop.abort();
    await expect(connecting).rejects.toMatchObject({ code: "CONNECT_CANCELLED" });
    await clock.advance(5000);
    expect(target.connections.every(({ isClosed }) => isClosed)).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });

  test("refresh tells the size there is now", async () => {
    const { connect, clock, disks } = await twoPortals();
    const volume = await connect();
    disks[0].blocks = 4096;
    expect((await settle(clock, volume.refresh())).sizeBytes).toBe(4096 * 512);
    expect(volume.device.info.sizeBytes).toBe(4096 * 512);
  });
});

test("an ISID is six bytes of the random type (RFC 7143 §11.12.5)", () => {
  const random = new SeededRandom(1);
  const [first, second] = [createIsid(random), createIsid(random)];
  expect([first.length, first[0]]).toEqual([6, 0x80]);
  expect(first.equals(second)).toBe(false);
});

describe("runBench", () => {
  test("counts operations and their time, and keeps to the device", async () => {
    const clock = new VirtualTime();
    const offsets: number[] = [];
    const inner = new MemoryDevice({ sizeBytes: 64 * 512, logicalBlockBytes: 512 });
    const device = Object.create(inner, {
      info: { get: () => inner.info },
      read: {
        value: (offsetBytes: number) => {
          offsets.push(offsetBytes);
          return new Promise<void>((resolve) => clock.setTimer(2, resolve));
        },
      },
    }) as MemoryDevice;
    const options = { device, mode: "read", blockBytes: 1024, queueDepth: 4, runtimeMs: 100 } as const;
    const result = await settle(clock, runBench(options, { clock, random: new SeededRandom(2) }));
    expect(result).toMatchObject({ operations: 200, elapsedMs: 100, iops: 2000, megabytesPerSecond: 2.048 });
    expect(result.p50Micros).toBeGreaterThanOrEqual(2000);
    expect(result.p999Micros).toBeLessThan(2100);
    expect(offsets.slice(0, 5)).toEqual([0, 1024, 2048, 3072, 4096]);
    expect(Math.max(...offsets)).toBe(31 * 1024);
  });

  test("operations that do not fit are refused", async () => {
    const device = new MemoryDevice({ sizeBytes: 4096, logicalBlockBytes: 512 });
    const options = { device, mode: "read", blockBytes: 100, queueDepth: 1, runtimeMs: 1 } as const;
    const run = runBench(options, { clock: new VirtualTime(), random: new SeededRandom(2) });
    await expect(run).rejects.toMatchObject({ code: "BENCH_OPTIONS_INVALID" });
  });
});
