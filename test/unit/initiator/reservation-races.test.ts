import { clusterPart, reservationKey } from "../../../src/base/reservation-key.js";
import { RESERVATION_LEAVE_TIMEOUT_MS } from "../../../src/base/limits.js";
import { NO_RESERVATION_KEY } from "../../../src/scsi/persistent-reserve.js";
import {
  answer,
  KEY_A,
  KEY_B,
  KEY_STRANGE,
  lostConnection,
  type NodePath,
  ReservationWorld,
} from "./reservation-world.js";

/** RESERVE(6), and PERSISTENT RESERVE OUT with a type of the test's choice, over a path's session. */
function send(world: ReservationWorld, path: NodePath, cdbHex: string, keys = ""): Promise<void> {
  const list = Buffer.alloc(24);
  list.write(keys, "hex");
  const done = new Promise<void>((resolve, reject) => {
    path.session.execute({
      lun: { high: 0, low: 0 },
      cdb: Buffer.from(cdbHex, "hex"),
      dataOut: keys === "" ? undefined : list,
      onDone: (result) => {
        if (result.kind === "status" && result.status === 0) resolve();
        else reject(new Error(JSON.stringify(result)));
      },
    });
  });
  return world.run(done);
}

/** Once, right before `path` sends its `nth` command of that kind. */
function before(path: NodePath, action: string, nth: number, act: () => Promise<void>): void {
  let count = 0;
  path.intercept = async (seen) => {
    if (seen !== action) return;
    count += 1;
    if (count === nth) await act();
  };
}

describe("nodes that act at the same time", () => {
  let world: ReservationWorld;

  beforeEach(async () => {
    world = await ReservationWorld.start();
  });

  test("of two that claim a volume, exactly the last keeps it", async () => {
    const [a, b] = [await world.path("a"), await world.path("b")];
    const [ofA, ofB] = [world.reservation({ node: "a" }), world.reservation({ node: "b" })];
    const results = await world.run(Promise.allSettled([ofA.admit(a.unit, "a"), ofB.admit(b.unit, "b")]));
    const states = [ofA.status().state, ofB.status().state];
    expect(states.toSorted()).toEqual(["held", "lost"]);
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    const winner = states[0] === "held" ? "a" : "b";
    expect(await world.shown(a)).toBe(`${winner} | ${winner} 5`);
  });

  test.each([1, 2])("one that was preempted while it claimed does not fight on (look %i)", async (look) => {
    const [a, b] = [await world.path("a"), await world.path("b")];
    const ofA = world.reservation({ node: "a" });
    // The first look is before the registration, the later ones after it.
    before(a, "in:0", look + 1, () => world.reservation({ node: "b" }).admit(b.unit, "b"));
    await expect(world.admit(ofA, a)).rejects.toMatchObject({
      code: "RESERVATION_LOST",
      details: { holderKey: KEY_B },
    });
    expect(await world.shown(b)).toBe("b | b 5");
  });

  test("one that was preempted while a path came back does not come back as well", async () => {
    const [first, second, b] = [await world.path("a"), await world.path("a"), await world.path("b")];
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, first);
    // It has seen its key held over the other path, and registers this one after that was taken away.
    before(second, "out:0", 2, () => world.reservation({ node: "b" }).admit(b.unit, "b"));
    await expect(world.admit(ofA, second)).rejects.toMatchObject({ code: "RESERVATION_LOST" });
    expect(await world.shown(b)).toBe("b | b 5");
  });

  test("the same where the one that took the volume has left again", async () => {
    const [first, second, b] = [await world.path("a"), await world.path("a"), await world.path("b")];
    const ofA = world.reservation({ node: "a", isShared: true });
    await world.admit(ofA, first);
    before(second, "out:0", 2, async () => {
      const ofB = world.reservation({ node: "b" });
      await ofB.admit(b.unit, "b");
      await ofB.leave([{ pathId: "b", reservation: b.unit }]);
    });
    await expect(world.admit(ofA, second)).rejects.toMatchObject({
      code: "RESERVATION_LOST",
      details: { holderKey: "" },
    });
    expect(await world.shown(b)).toBe("");
  });

  test("paths of one volume take their turns", async () => {
    const paths = [await world.path("a"), await world.path("a"), await world.path("a")] as const;
    const ofA = world.reservation({ node: "a" });
    await world.run(Promise.all(paths.map(({ unit }, index) => ofA.admit(unit, String(index)))));
    expect(await world.shown(paths[0])).toBe("a a a | a 5");
    expect(paths.flatMap(({ actions }) => actions.filter((action) => action === "out:1"))).toHaveLength(1);
  });

  test("a unit whose registrations never hold still is left alone for now, and nothing stays behind", async () => {
    const [a, b] = [await world.path("a"), await world.path("b")];
    a.intercept = (action) => {
      // Whatever is seen free is reserved by another before we do, and released before we look.
      if (action === "out:1") throw answer("SCSI_STATUS_18", "BLOCK_RESERVATION_CONFLICT");
    };
    await expect(world.admit(world.reservation({ node: "a" }), a)).rejects.toMatchObject({
      code: "RESERVATION_HELD",
      message: expect.stringContaining("change each time"),
    });
    expect(await world.shown(b)).toBe("");
  });
});

describe("what others hold in other ways", () => {
  let world: ReservationWorld;
  let other: NodePath;

  beforeEach(async () => {
    world = await ReservationWorld.start();
    other = await world.path("b");
    await world.run(other.unit.readKeys());
  });

  const holdWith = async (type: number): Promise<void> => {
    await world.run(other.unit.register({ before: NO_RESERVATION_KEY, key: KEY_B }));
    await send(world, other, `5f010${type}00000000001800`, KEY_B);
  };

  test("RESERVE(6) has no key to name", async () => {
    await send(world, other, "160000000000");
    const path = await world.path("a");
    await expect(world.admit(world.reservation({ node: "a" }), path)).rejects.toMatchObject({
      code: "RESERVATION_HELD",
      message: expect.stringContaining("RESERVE (SPC-2)"),
    });
  });

  test.each([
    [1, "write exclusive"],
    [3, "exclusive access"],
  ])("type %i keeps a node that shares the volume out", async (type, name) => {
    await holdWith(type);
    const path = await world.path("a");
    await expect(world.admit(world.reservation({ node: "a", isShared: true }), path)).rejects.toMatchObject({
      code: "RESERVATION_HELD",
      message: expect.stringContaining(`0x${KEY_B} holds the unit with reservation type ${type} (${name})`),
      details: { holderKey: KEY_B, type },
    });
    expect(await world.shown(path)).toBe(`b | b ${type}`);
  });

  test.each([6, 7, 8])("type %i lets a node that shares the volume in", async (type) => {
    await holdWith(type);
    const path = await world.path("a");
    const ofA = world.reservation({ node: "a", isShared: true });
    await world.admit(ofA, path);
    expect(ofA.status().state).toBe(type === 6 ? "registered" : "held");
    await world.run(path.write("A"));
    expect(await world.stored()).toBe("A");
  });

  test.each([1, 3, 6, 7, 8])("type %i is taken from a node that the volume has left", async (type) => {
    await holdWith(type);
    const path = await world.path("a");
    await world.admit(world.reservation({ node: "a" }), path);
    expect(await world.shown(path)).toBe("a | a 5");
  });

  test("a registrant of another cluster that holds nothing keeps us out as well", async () => {
    await world.run(other.unit.register({ before: NO_RESERVATION_KEY, key: KEY_STRANGE }));
    const path = await world.path("a");
    await expect(world.admit(world.reservation({ node: "a" }), path)).rejects.toMatchObject({
      code: "RESERVATION_HELD",
      details: { holderKey: KEY_STRANGE },
    });
    expect(await world.shown(path)).toBe("strange a");
  });
});

describe("units that lack pieces", () => {
  let world: ReservationWorld;

  beforeEach(async () => {
    world = await ReservationWorld.start();
  });

  test("PREEMPT, and a reset of the unit, where PREEMPT AND ABORT is not known; the reset is owed until it is done", async () => {
    const [old, path] = [await world.path("b"), await world.path("a")];
    await world.admit(world.reservation({ node: "b" }), old);
    let isReset = false;
    path.intercept = (action) => {
      if (action === "out:5") throw answer("SCSI_5_24_00");
      // The connection is lost after the preemption, before the reset.
      if (action === "in:1" && path.actions.includes("out:4") && !isReset) throw lostConnection();
    };
    const ofA = world.reservation({ node: "a" });
    await expect(world.admit(ofA, path)).rejects.toMatchObject({ code: "BLOCK_UNAVAILABLE" });
    expect(path.actions).not.toContain("out:31");
    isReset = true;
    await world.admit(ofA, path);
    expect(path.actions.filter((action) => action === "out:31")).toHaveLength(1);
    expect(await world.shown(path)).toBe("a | a 5");
  });

  test.each(["in:2", "in:3"])(
    "a unit that does not tell what it can do, or who is registered (%s)",
    async (unknown) => {
      const path = await world.path("a");
      path.intercept = (action) => {
        if (action === unknown) throw answer("SCSI_5_24_00");
      };
      const ofA = world.reservation({ node: "a", mode: "required" });
      await world.admit(ofA, path);
      expect(ofA.status().state).toBe("held");
    },
  );

  test.each(["out:0", "out:1"])(
    "a unit that can only be asked (%s unknown) is used without, and left clean",
    async (unknown) => {
      const path = await world.path("a");
      path.intercept = (action, { dataOut }) => {
        const isUnregistering = dataOut?.subarray(8, 16).every((byte) => byte === 0) === true && action === "out:0";
        if (action === unknown && !isUnregistering) throw answer("SCSI_5_20_00");
      };
      const auto = world.reservation({ node: "a" });
      await world.admit(auto, path);
      expect(auto.status().state).toBe("unsupported");
      expect(await world.shown(path)).toBe("");
      await expect(world.admit(world.reservation({ node: "a", mode: "required" }), path)).rejects.toMatchObject({
        code: "RESERVATION_UNSUPPORTED",
      });
    },
  );

  test("what was admitted without reservations claims nothing later", async () => {
    const path = await world.path("a");
    path.intercept = (action) => {
      if (action === "in:0") throw answer("SCSI_5_20_00");
    };
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, path);
    path.intercept = () => undefined;
    const taker = await world.path("b");
    await world.admit(world.reservation({ node: "b" }), taker);
    await expect(world.admit(ofA, path)).rejects.toMatchObject({ code: "RESERVATION_LOST" });
    expect(await world.shown(taker)).toBe("b | b 5");
  });

  test("a path over which a reserved unit knows no reservations is refused", async () => {
    const [first, second] = [await world.path("a"), await world.path("a")];
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, first);
    second.intercept = () => {
      throw answer("SCSI_5_20_00");
    };
    await expect(world.admit(ofA, second)).rejects.toMatchObject({ code: "RESERVATION_UNSUPPORTED" });
    expect(ofA.status().state).toBe("held");
  });

  test("no room for a registration is not taken for a unit without reservations", async () => {
    const path = await world.path("a");
    path.intercept = (action) => {
      if (action.startsWith("out:")) throw answer("SCSI_5_55_04");
    };
    const ofA = world.reservation({ node: "a" });
    await expect(world.admit(ofA, path)).rejects.toMatchObject({ details: { verdict: "SCSI_5_55_04" } });
    expect(ofA.status().state).toBe("none");
  });

  test("APTPL is asked for where the unit says that it can, and given up where it cannot", async () => {
    world = await ReservationWorld.start({ persists: true });
    const path = await world.path("a");
    const asked: boolean[] = [];
    path.intercept = (action, { dataOut }) => {
      if (action !== "out:0") return;
      asked.push(dataOut?.[20] === 1);
      if (dataOut?.[20] === 1) throw answer("SCSI_5_26_00");
    };
    await world.admit(world.reservation({ node: "a" }), path);
    expect(asked).toEqual([true]);
    expect(path.actions).toContain("out:6");
    expect(await world.shown(path)).toBe("a | a 5");
  });
});

describe("an attachment that ends, or is gone on with", () => {
  let world: ReservationWorld;

  beforeEach(async () => {
    world = await ReservationWorld.start();
  });

  test("a takeover of a unit where nobody is registered any more reserves it anew", async () => {
    const path = await world.path("a");
    const ofA = world.reservation({ node: "a", isTakeOver: true });
    await world.admit(ofA, path);
    expect(await world.shown(path)).toBe("a | a 5");
  });

  test("our key is not taken for ours when another initiator has it, after a crash either", async () => {
    const twin = await world.path("b");
    await world.admit(world.reservation({ node: "b", key: KEY_A }), twin);
    const path = await world.path("a");
    await expect(world.admit(world.reservation({ node: "a", isTakeOver: true }), path)).rejects.toMatchObject({
      code: "RESERVATION_KEY_SHARED",
    });
  });

  test("a nexus that is registered with a key of before gets the one of now", async () => {
    const path = await world.path("a");
    const former = reservationKey({ cluster: clusterPart("a cluster"), node: 0x77 });
    await world.admit(world.reservation({ node: "a", key: former }), path);
    await world.admit(world.reservation({ node: "a" }), path);
    expect(await world.shown(path)).toBe("a | a 5");
  });

  test("leaving after the volume was taken touches nothing of the node that has it", async () => {
    const [a, b] = [await world.path("a"), await world.path("b")];
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, a);
    await world.admit(world.reservation({ node: "b" }), b);
    await expect(world.admit(ofA, a)).rejects.toMatchObject({ code: "RESERVATION_LOST" });
    await world.run(ofA.leave([{ pathId: "a", reservation: a.unit }]));
    expect(await world.shown(b)).toBe("b | b 5");
    expect(ofA.status()).toMatchObject({ state: "lost", holderKey: KEY_B });
  });

  test("leaving ends in time although the unit does not answer", async () => {
    const path = await world.path("a");
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, path);
    path.intercept = () => new Promise<void>(() => undefined);
    let isOver = false;
    void ofA.leave([{ pathId: "a", reservation: path.unit }]).then(() => (isOver = true));
    await world.clock.advance(RESERVATION_LEAVE_TIMEOUT_MS - 1);
    expect(isOver).toBe(false);
    await world.clock.advance(1);
    expect(isOver).toBe(true);
  });

  test("leaving goes on after a step that failed", async () => {
    const [first, second] = [await world.path("a"), await world.path("a")];
    const ofA = world.reservation({ node: "a" });
    await world.admit(ofA, first);
    await world.admit(ofA, second);
    second.intercept = () => {
      throw lostConnection();
    };
    const ways = [first, second].map(({ unit }, index) => ({ pathId: String(index), reservation: unit }));
    await world.run(ofA.leave(ways));
    expect(await world.shown(first)).toBe("");
  });
});
