import { SeededRandom } from "../../../src/base/seeded-random.js";
import { openIscsiLun } from "../../../src/block/iscsi-lun.js";
import { Session } from "../../../src/session/session.js";
import type { LinkBehaviour } from "../../../src/transport/memory.js";
import { ScriptedDisk } from "../../support/scripted-disk.js";
import { LUN_ONE, createFixture, settle } from "../../support/session-fixture.js";

const BLOCK = 512;
const WORKERS = 6;
const BLOCKS_PER_WORKER = 32;
const OPERATIONS = 60;
/** Only what comes after the login: before it there is no digest that could notice. */
const FIRST_FLIP_OFFSET = 4_000;

/** Odd chunks, delays, breaks after some kilobytes, now and then a flipped bit. */
function faultyLink(random: SeededRandom): LinkBehaviour {
  const cut = 3_000 + (random.uint32() % 60_000);
  const flipAt = random.fraction() < 0.3 ? FIRST_FLIP_OFFSET + (random.uint32() % 20_000) : Number.POSITIVE_INFINITY;
  return {
    delayMs: [0, random.uint32() % 5],
    maxChunkBytes: 1 + (random.uint32() % 4_000),
    cutAfterBytes: random.fraction() < 0.5 ? { "to-dialer": cut } : { "to-listener": cut },
    onDeliver: (chunk, _direction, offset) => {
      if (flipAt >= offset && flipAt < offset + chunk.length) chunk[flipAt - offset]! ^= 0x10;
    },
  };
}

describe("a LUN behind links that break", () => {
  test.each(Array.from({ length: 12 }, (_, index) => index + 1))(
    "every acknowledged write is there, every read is right (seed %i)",
    async (seed) => {
      const disk = new ScriptedDisk();
      const fixture = await createFixture({
        seed,
        behaviour: faultyLink,
        target: { onPdu: disk.onPdu, keys: { MaxRecvDataSegmentLength: "1024", FirstBurstLength: "2048" } },
        session: { headerDigest: "crc32c", dataDigest: "crc32c" },
      });
      const { clock } = fixture;
      const session = await settle(clock, openWithPatience(fixture));
      const device = await settle(clock, openIscsiLun(session, { lun: LUN_ONE }, fixture.dependencies), 600_000);
      const random = new SeededRandom(seed + 1000);
      const expected = Buffer.alloc(WORKERS * BLOCKS_PER_WORKER * BLOCK);
      const worker = async (index: number): Promise<void> => {
        for (let operation = 0; operation < OPERATIONS; operation += 1) {
          const count = 1 + (random.uint32() % 8);
          const first = index * BLOCKS_PER_WORKER + (random.uint32() % (BLOCKS_PER_WORKER - count));
          const [start, end] = [first * BLOCK, (first + count) * BLOCK];
          if (random.fraction() < 0.6) {
            const data = random.bytes(end - start);
            await device.write(start, data);
            data.copy(expected, start);
          } else {
            const found = Buffer.alloc(end - start);
            await device.read(start, found);
            if (!found.equals(expected.subarray(start, end))) throw new Error(`wrong data at block ${first}`);
          }
        }
      };
      await settle(clock, Promise.all(Array.from({ length: WORKERS }, (_, index) => worker(index))), 3_600_000);
      expect(disk.data.subarray(0, expected.length).equals(expected)).toBe(true);
      expect(session.status().reconnects).toBeGreaterThan(0);
      session.close();
      await clock.advance(1_000);
      expect(clock.pendingTimers).toBe(0);
    },
  );
});

/** The very first login may hit a break too, and is not repeated by itself. */
async function openWithPatience({
  options,
  dependencies,
}: Awaited<ReturnType<typeof createFixture>>): Promise<Session> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await Session.open(options, dependencies);
    } catch (error) {
      if (attempt > 10) throw error;
    }
  }
}
