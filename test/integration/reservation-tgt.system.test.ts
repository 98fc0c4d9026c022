import { readFileSync } from "node:fs";
import { clusterPart, reservationKey } from "../../src/base/reservation-key.js";
import { lunFromNumber } from "../../src/base/lun.js";
import { LunCommander } from "../../src/block/lun-commands.js";
import { LunReservation } from "../../src/block/lun-reservation.js";
import { type ReservationOptions, VolumeReservation } from "../../src/initiator/volume-reservation.js";
import { readCdb, writeCdb } from "../../src/scsi/cdb.js";
import { Session } from "../../src/session/session.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, volumeRequest } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const PORT = 13_987;
const IQN = "iqn.2026-11.test:reserved";
const BLOCK = 512;
const CLUSTER = clusterPart("a cluster");
const KEY_A = reservationKey({ cluster: CLUSTER, node: 0x0a });
const KEY_B = reservationKey({ cluster: CLUSTER, node: 0x0b });
const KEY_STRANGE = reservationKey({ cluster: clusterPart("another cluster"), node: 0x0a });

interface TestPath {
  readonly session: Session;
  readonly unit: LunReservation;
  write(block: number, fill: string): Promise<number>;
  read(block: number): Promise<Buffer>;
}

describeNeeding(["tgtd", "tgtadm"], "reservations of tgtd", () => {
  const dependencies = realDependencies();
  const sessions: Session[] = [];
  let tgtd: Tgtd;

  beforeEach(async () => {
    tgtd = await Tgtd.start({
      ...{ controlPort: 987, portals: [`127.0.0.1:${PORT}`] },
      targets: [{ name: IQN, diskBytes: [1 << 20] }],
    });
  });

  afterEach(async () => {
    for (const session of sessions.splice(0)) await session.logout().catch(() => session.close());
    await tgtd.stop();
  });

  const initiatorOf = (node: string): string => `iqn.2026-11.test:node-${node}`;

  /** The commands as they are: what is refused is refused by the target. */
  async function openPath(node: string, isid: string): Promise<TestPath> {
    const { headerDigest, dataDigest } = volumeRequest({ portals: [], targetName: IQN, lun: 1 });
    const session = await Session.open(
      {
        portal: { host: "127.0.0.1", port: PORT },
        ...{
          targetName: IQN,
          initiatorName: initiatorOf(node),
          isid: Buffer.from(isid, "hex"),
          headerDigest,
          dataDigest,
        },
      },
      dependencies,
    );
    sessions.push(session);
    const lun = lunFromNumber(1);
    const commander = new LunCommander({ session, lun, onUnitAttention: () => Promise.resolve() }, dependencies);
    return {
      session,
      unit: new LunReservation({
        run: (command) => commander.run(command),
        resetUnit: async () => {
          await session.taskManagement({ function: "lun-reset", lun });
        },
      }),
      write: (block, fill) => commander.run({ cdb: writeCdb(block, 1, false), dataOut: Buffer.alloc(BLOCK, fill) }),
      read: async (block) => {
        const dataIn = Buffer.alloc(BLOCK);
        await commander.run({ cdb: readCdb(block, 1), dataIn });
        return dataIn;
      },
    };
  }

  const reservationOf = (node: string, key: string, change: Partial<ReservationOptions> = {}): VolumeReservation =>
    new VolumeReservation(
      {
        ...{ mode: "required", key, initiatorName: initiatorOf(node), isShared: false, isTakeOver: false },
        ...change,
      },
      dependencies,
    );

  const fileBlock = (block: number): string => {
    const bytes = readFileSync(tgtd.diskPath(0, 1)).subarray(block * BLOCK, (block + 1) * BLOCK);
    return new Set(bytes).size === 1 ? String.fromCharCode(bytes[0] ?? 0) : bytes.toString("hex");
  };

  const conflict = { code: "BLOCK_RESERVATION_CONFLICT", details: { verdict: "SCSI_STATUS_18" } };

  it("lets one node write, then the one that took the volume, and refuses the late write of the first", async () => {
    const a = [await openPath("a", "800000000001"), await openPath("a", "800000000002")] as const;
    const b = await openPath("b", "800000000003");
    const ofA = reservationOf("a", KEY_A);
    for (const [index, path] of a.entries()) await ofA.admit(path.unit, String(index));
    expect(ofA.status()).toEqual({ mode: "required", state: "held", key: KEY_A, holderKey: KEY_A });
    await a[0].write(0, "A");
    await a[1].write(1, "A");
    await expect(b.write(0, "B")).rejects.toMatchObject(conflict);
    expect((await b.read(0)).equals(Buffer.alloc(BLOCK, "A"))).toBe(true);
    expect([fileBlock(0), fileBlock(1)]).toEqual(["A", "A"]);

    const ofB = reservationOf("b", KEY_B);
    await ofB.admit(b.unit, "b");
    expect(ofB.status()).toMatchObject({ state: "held", holderKey: KEY_B });
    await b.write(0, "B");
    await expect(a[0].write(0, "a")).rejects.toMatchObject(conflict);
    await expect(a[1].write(1, "a")).rejects.toMatchObject(conflict);
    expect([fileBlock(0), fileBlock(1)]).toEqual(["B", "A"]);

    for (const path of a) {
      await expect(ofA.admit(path.unit, "again")).rejects.toMatchObject({
        code: "RESERVATION_LOST",
        message: expect.stringContaining(`0x${KEY_B} holds it`),
      });
    }
    expect((await b.unit.readKeys())?.keys).toEqual([KEY_B]);
  });

  it("gives back what it took, and leaves to the next node what a path that is down has", async () => {
    const up = await openPath("a", "800000000001");
    const second = await openPath("a", "800000000002");
    const ways = [up, second].map(({ unit }, index) => ({ pathId: String(index), reservation: unit }));
    const first = reservationOf("a", KEY_A);
    for (const { reservation, pathId } of ways) await first.admit(reservation, pathId);
    await first.leave(ways);
    expect(first.status()).toMatchObject({ state: "none", holderKey: "" });
    expect(await up.unit.readState()).toMatchObject({ keys: [] });

    const again = reservationOf("a", KEY_A);
    for (const { reservation, pathId } of ways.toReversed()) await again.admit(reservation, pathId);
    second.session.close();
    await again.leave(ways.slice(0, 1));
    const b = await openPath("b", "800000000003");
    await reservationOf("b", KEY_B).admit(b.unit, "b");
    expect(await b.unit.readState()).toMatchObject({ keys: [KEY_B], holder: { key: KEY_B, type: 5 } });
  });

  it("registers and reserves anew when the target has forgotten it all", async () => {
    const before = await openPath("a", "800000000001");
    const ofA = reservationOf("a", KEY_A);
    await ofA.admit(before.unit, "1");
    await before.session.logout();
    await tgtd.kill();
    await tgtd.launch();
    const after = [await openPath("a", "800000000001"), await openPath("a", "800000000002")];
    for (const [index, path] of after.entries()) await ofA.admit(path.unit, String(index));
    const state = await after[0]?.unit.readState();
    expect(state).toMatchObject({ keys: [KEY_A, KEY_A], holder: { key: KEY_A, type: 5 } });
  });

  it("does not take the volume from another cluster, and says whose it is", async () => {
    const strange = await openPath("strange", "800000000001");
    await reservationOf("strange", KEY_STRANGE).admit(strange.unit, "1");
    const a = await openPath("a", "800000000002");
    await expect(reservationOf("a", KEY_A).admit(a.unit, "1")).rejects.toMatchObject({
      code: "RESERVATION_HELD",
      message: expect.stringContaining(`0x${KEY_STRANGE}, which is not of this cluster, holds the unit`),
    });
    expect((await a.unit.readKeys())?.keys).toEqual([KEY_STRANGE]);
  });

  it("lets nodes that share the volume write together", async () => {
    const a = await openPath("a", "800000000001");
    const b = await openPath("b", "800000000002");
    const ofA = reservationOf("a", KEY_A, { isShared: true });
    const ofB = reservationOf("b", KEY_B, { isShared: true });
    await ofA.admit(a.unit, "a");
    await ofB.admit(b.unit, "b");
    expect([ofA.status().state, ofB.status().state]).toEqual(["held", "registered"]);
    await a.write(0, "A");
    await b.write(1, "B");
    expect([fileBlock(0), fileBlock(1)]).toEqual(["A", "B"]);
    await ofA.leave([{ pathId: "a", reservation: a.unit }]);
    await ofB.admit(b.unit, "b");
    expect(ofB.status()).toMatchObject({ state: "held", holderKey: KEY_B });
    await expect(a.write(0, "a")).rejects.toMatchObject(conflict);
  });
});
