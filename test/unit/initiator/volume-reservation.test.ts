import { LUN_ZERO } from "../../../src/base/lun.js";
import { LunCommander } from "../../../src/block/lun-commands.js";
import { LunReservation } from "../../../src/block/lun-reservation.js";
import { hasTargetForgotten } from "../../../src/initiator/reservation-rules.js";
import { NO_RESERVATION_KEY } from "../../../src/scsi/persistent-reserve.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { answer, KEY_A, KEY_B, KEY_STRANGE, lostConnection, ReservationWorld } from "./reservation-world.js";

const conflict = { code: "BLOCK_RESERVATION_CONFLICT", details: { verdict: "SCSI_STATUS_18" } };

/** The only path of its volume. */
const alone = { pathId: "path", act: () => Promise.resolve(false) };

describe("the reservation of a volume", () => {
  let world: ReservationWorld;

  beforeEach(async () => {
    world = await ReservationWorld.start();
  });

  test("with fencing off nothing is asked", async () => {
    const path = await world.path("a");
    const reservation = world.reservation({ node: "a", mode: "off" });
    await world.admit(reservation, path);
    expect(path.actions).toEqual([]);
    expect(reservation.status()).toEqual({ mode: "off", state: "off", key: "", holderKey: "" });
  });

  test("is held over every path, keeps other nodes from writing, and lets them read", async () => {
    const paths = [await world.path("a"), await world.path("a")] as const;
    const stranger = await world.path("b");
    const reservation = world.reservation({ node: "a" });
    for (const path of paths) await world.admit(reservation, path);
    expect(await world.shown(paths[0])).toBe("a a | a 5");
    expect(reservation.status()).toEqual({ mode: "auto", state: "held", key: KEY_A, holderKey: KEY_A });
    await world.run(paths[1].write("A"));
    await expect(world.run(stranger.write("B"))).rejects.toMatchObject(conflict);
    expect(await world.stored()).toBe("A");
  });

  test.each(["SCSI_5_20_00", "SCSI_5_24_00"])("a unit without reservations (%s): used, or refused", async (verdict) => {
    const path = await world.path("a");
    path.intercept = (action) => {
      if (action === "in:0") throw answer(verdict);
    };
    const auto = world.reservation({ node: "a" });
    await world.admit(auto, path);
    expect(auto.status()).toEqual({ mode: "auto", state: "unsupported", key: "", holderKey: "" });
    const required = world.reservation({ node: "a", mode: "required" });
    await expect(world.admit(required, path)).rejects.toMatchObject({ code: "RESERVATION_UNSUPPORTED" });
  });

  test("a volume that moves is taken from its former node, whose late writes are refused for good", async () => {
    const [old, other] = [await world.path("a"), await world.path("a")];
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, old);
    await world.admit(ofA, other);
    const path = await world.path("b");
    const ofB = world.reservation({ node: "b" });
    await world.admit(ofB, path);
    expect(await world.shown(path)).toBe("b | b 5");
    await world.run(path.write("B"));
    await expect(world.run(old.write("A"))).rejects.toMatchObject(conflict);
    for (const late of [old, other, old]) {
      await expect(world.admit(ofA, late)).rejects.toMatchObject({
        code: "RESERVATION_LOST",
        details: { holderKey: KEY_B },
      });
    }
    expect(ofA.status()).toMatchObject({ state: "lost", holderKey: KEY_B });
    expect(await world.shown(path)).toBe("b | b 5");
    expect(await world.stored()).toBe("B");
  });

  test("nodes that share a volume preempt nobody, and one holds when the other leaves", async () => {
    const [a, b] = [await world.path("a"), await world.path("b")];
    const ofA = world.reservation({ node: "a", isShared: true });
    const ofB = world.reservation({ node: "b", isShared: true });
    await world.admit(ofA, a);
    await world.admit(ofB, b);
    expect(await world.shown(a)).toBe("a b | a 5");
    expect([ofA.status().state, ofB.status().state]).toEqual(["held", "registered"]);
    await world.run(ofA.leave([{ pathId: "a", reservation: a.unit }]));
    await world.admit(ofB, b);
    expect(await world.shown(b)).toBe("b | b 5");
  });

  test("another cluster's key is never taken away", async () => {
    const stranger = await world.path("c");
    await world.admit(world.reservation({ node: "c", key: KEY_STRANGE }), stranger);
    const path = await world.path("a");
    await expect(world.admit(world.reservation({ node: "a" }), path)).rejects.toMatchObject({
      code: "RESERVATION_HELD",
      message: expect.stringContaining(KEY_STRANGE),
    });
    expect(await world.shown(stranger)).toBe("strange a | strange a 5");
  });

  test("another initiator with this node's key is noticed, and named", async () => {
    const twin = await world.path("b");
    await world.admit(world.reservation({ node: "b", key: KEY_A }), twin);
    const path = await world.path("a");
    await expect(world.admit(world.reservation({ node: "a" }), path)).rejects.toMatchObject({
      code: "RESERVATION_KEY_SHARED",
      message: expect.stringContaining(world.initiatorOf("b")),
    });
    expect(await world.shown(twin)).toBe("a | a 5");
  });

  test("a reconnected path is registered again without a new reservation", async () => {
    const path = await world.path("a", 77);
    const reservation = world.reservation({ node: "a" });
    await world.admit(reservation, path);
    path.session.close();
    const again = await world.path("a", 77);
    await world.admit(reservation, again);
    expect(again.actions).not.toContain("out:1");
    expect(await world.shown(again)).toBe("a | a 5");
  });

  test.each([false, true])("a target that was restarted (memory kept: %s) is held as before", async (persists) => {
    world = await ReservationWorld.start({ persists });
    const reservation = world.reservation({ node: "a" });
    await world.admit(reservation, await world.path("a", 77));
    await world.restart();
    const again = await world.path("a", 77);
    await world.admit(reservation, again);
    expect(await world.shown(again)).toBe("a | a 5");
    expect(reservation.status().state).toBe("held");
  });

  test("the process after a crash goes on with the key it finds, and takes nothing back", async () => {
    const path = await world.path("a", 77);
    await world.admit(world.reservation({ node: "a" }), path);
    await world.admit(world.reservation({ node: "a", isTakeOver: true }), path);
    await world.admit(world.reservation({ node: "b" }), await world.path("b"));
    await expect(world.admit(world.reservation({ node: "a", isTakeOver: true }), path)).rejects.toMatchObject({
      code: "RESERVATION_LOST",
    });
  });

  test("a registration that fails after it was made, as LIO's without its folder, counts as made", async () => {
    const path = await world.path("a");
    const commander = new LunCommander(
      { session: path.session, lun: LUN_ZERO, onUnitAttention: () => Promise.resolve() },
      { clock: world.clock, random: new SeededRandom(3) },
    );
    path.intercept = async (action) => {
      if (action !== "out:0" && action !== "out:6") return;
      await new LunReservation(commander).register({ key: KEY_A });
      throw answer("SCSI_2_08_00", "BLOCK_IO");
    };
    const reservation = world.reservation({ node: "a" });
    await world.admit(reservation, path);
    expect(reservation.status().state).toBe("held");
    expect(await world.shown(path)).toBe("a | a 5");
  });

  test("a reservation that keeps our own paths from writing is given up with auto, and kept when it is required", async () => {
    const path = await world.path("a");
    const auto = world.reservation({ node: "a" });
    await world.admit(auto, path);
    expect(await world.run(auto.abandon(path.unit, alone))).toBe(true);
    expect(await world.shown(path)).toBe("");
    await world.admit(auto, path);
    expect(await world.shown(path)).toBe("");
    expect(auto.status()).toMatchObject({ state: "unsupported", holderKey: "" });
    const other = await world.path("b");
    await world.admit(world.reservation({ node: "b" }), other);
    const required = world.reservation({ node: "a", mode: "required" });
    await world.admit(required, path);
    expect(await world.run(required.abandon(path.unit, alone))).toBe(false);
    expect(await world.shown(path)).toBe("a | a 5");
  });

  test("only the holder's nexus may give it up, or hand it over, at a target that lets no other of ours do so", async () => {
    const [first, second] = [await world.path("a"), await world.path("a")];
    const others = { pathId: "second", act: (act: (unit: LunReservation) => Promise<boolean>) => act(first.unit) };
    const required = world.reservation({ node: "a", mode: "required" });
    await world.admit(required, first);
    await world.admit(required, second);
    const holders = async (): Promise<readonly boolean[]> => {
      const status = await world.run(second.unit.readFullStatus());
      return (status?.registrations ?? []).map(({ isHolder }) => isHolder);
    };
    expect(await holders()).toEqual([true, false]);
    await world.run(required.moveTo(second.unit, others));
    expect(await holders()).toEqual([true]);
    expect(required.status()).toMatchObject({ state: "held", holderKey: KEY_A });
    await world.admit(required, first);
    expect(await holders()).toEqual([true, false]);

    const auto = world.reservation({ node: "a", isTakeOver: true });
    await world.admit(auto, second);
    second.intercept = (action) => {
      if (action === "out:3") throw answer("SCSI_STATUS_18", "BLOCK_RESERVATION_CONFLICT");
    };
    expect(await world.run(auto.abandon(second.unit, alone))).toBe(false);
    expect(await world.run(auto.abandon(second.unit, others))).toBe(true);
    expect(await holders()).toEqual([]);
  });

  test("a question that got no answer refuses nothing: it is asked again", async () => {
    const path = await world.path("a");
    let isCut = true;
    path.intercept = (action) => {
      if (isCut && action === "out:1") throw lostConnection();
    };
    const reservation = world.reservation({ node: "a" });
    await expect(world.admit(reservation, path)).rejects.toMatchObject({ code: "BLOCK_UNAVAILABLE" });
    expect(reservation.status().state).toBe("none");
    isCut = false;
    await world.admit(reservation, path);
    expect(reservation.status().state).toBe("held");
  });

  test("giving up leaves nothing behind, also of paths that are down, and admits nobody afterwards", async () => {
    const [up, down] = [await world.path("a"), await world.path("a")];
    const reservation = world.reservation({ node: "a" });
    await world.admit(reservation, up);
    await world.admit(reservation, down);
    down.session.close();
    await world.run(reservation.leave([{ pathId: "up", reservation: up.unit }]));
    expect(await world.shown(up)).toBe("");
    await expect(world.admit(reservation, up)).rejects.toMatchObject({ code: "CONNECT_CANCELLED" });
  });
});

describe("a key that is gone", () => {
  const owner = { key: KEY_A, isShared: false };
  const empty = (generation: number) => ({ generation, keys: [] });

  test.each([
    ["the target was restarted", empty(0), 7, true],
    ["the target dropped it with the session", empty(7), 7, true],
    ["another node took it, and has left", empty(9), 7, false],
    ["another node has it", { generation: 9, keys: [KEY_B], holder: { key: KEY_B, scope: 0, type: 5 } }, 7, false],
    [
      "all registrants hold",
      { generation: 0, keys: [], holder: { key: NO_RESERVATION_KEY, scope: 0, type: 7 } },
      7,
      false,
    ],
    ["the last generation is not known", empty(3), undefined, true],
  ])("%s", (_case, found, last, isForgotten) => {
    expect(hasTargetForgotten(owner, found, last)).toBe(isForgotten);
  });
});
