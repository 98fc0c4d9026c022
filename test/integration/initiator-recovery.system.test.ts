import { setTimeout as delay } from "node:timers/promises";
import { SystemRandom } from "../../src/base/system-random.js";
import { connectVolume } from "../../src/initiator/connect-volume.js";
import type { BlockDevice } from "../../src/block/device.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, volumeRequest } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const PORT = 13_311;
const targetName = "iqn.2026-11.test:recovery";
const BLOCK = 4096;
const BLOCKS = 4096;

/** Writes and reads at random until told to stop; knows what every block must hold. Any error or wrong byte rejects. */
async function hammer(device: BlockDevice, first: number, isStopped: () => boolean): Promise<number> {
  const random = new SystemRandom();
  const versions = new Map<number, Buffer>();
  let operations = 0;
  while (!isStopped()) {
    const block = first + (random.uint32() % 64);
    const expected = versions.get(block);
    if (expected === undefined || random.fraction() < 0.5) {
      const data = random.bytes(BLOCK);
      await device.write(block * BLOCK, data);
      versions.set(block, data);
    } else {
      const data = Buffer.alloc(BLOCK);
      await device.read(block * BLOCK, data);
      if (!data.equals(expected)) throw new Error(`block ${block} does not hold what was written last`);
    }
    operations += 1;
    await delay(0);
  }
  await device.flush();
  for (const [block, expected] of versions) {
    const data = Buffer.alloc(BLOCK);
    await device.read(block * BLOCK, data);
    if (!data.equals(expected)) throw new Error(`block ${block} lost its last write`);
  }
  return operations;
}

describeNeeding(["tgtd", "tgtadm"], "recovery against tgtd", () => {
  let tgtd: Tgtd;

  beforeEach(async () => {
    tgtd = await Tgtd.start({
      controlPort: 332,
      portals: [`127.0.0.1:${PORT}`, `127.0.0.1:${PORT + 1}`],
      targets: [{ name: targetName, diskBytes: [BLOCK * BLOCKS] }],
    });
  });

  afterEach(async () => {
    await tgtd.stop();
  });

  test("I/O goes on over two crashes of the target, and nothing acknowledged is lost", async () => {
    const volume = await connectVolume(
      volumeRequest({ portals: [{ host: "127.0.0.1", port: PORT }], targetName, lun: 1 }),
      realDependencies(),
    );
    let isStopped = false;
    const work = Array.from({ length: 16 }, (_, index) => hammer(volume.device, index * 64, () => isStopped));
    const all = Promise.all(work);
    for (let crash = 0; crash < 2; crash += 1) {
      await delay(500);
      await tgtd.kill();
      await delay(300);
      await tgtd.launch();
      for (let tries = 0; volume.sessions()[0]?.state !== "ready" && tries < 300; tries += 1) await delay(50);
    }
    await delay(500);
    isStopped = true;
    const operations = await all;
    expect(operations.every((count) => count > 0)).toBe(true);
    expect(volume.sessions()).toMatchObject([{ reconnects: 2, state: "ready" }]);
    await volume.close();
  }, 60_000);

  test("a frozen target is noticed by its silence, and I/O goes on when it thaws", async () => {
    const volume = await connectVolume(
      volumeRequest({
        portals: [{ host: "127.0.0.1", port: PORT }],
        targetName,
        lun: 1,
        timers: { nopIntervalMs: 500, nopTimeoutMs: 500, sweepIntervalMs: 100, loginTimeoutMs: 1000 },
      }),
      realDependencies(),
    );
    const events: string[] = [];
    volume.onEvent(({ event }) => events.push(event.kind));
    const data = Buffer.alloc(BLOCK, 0x42);
    await volume.device.write(0, data);
    tgtd.signal("SIGSTOP");
    const found = Buffer.alloc(BLOCK);
    const reading = volume.device.read(0, found);
    await delay(2500);
    expect(events).toContain("disconnected");
    expect(events).toContain("unavailable");
    tgtd.signal("SIGCONT");
    await reading;
    expect(found.equals(data)).toBe(true);
    expect(events).toContain("available");
    await volume.close();
  }, 60_000);

  test("another disk behind the same LUN after a restart is refused, the right one is taken up again", async () => {
    const volume = await connectVolume(
      volumeRequest({ portals: [{ host: "127.0.0.1", port: PORT }], targetName, lun: 1 }),
      realDependencies(),
    );
    const events: string[] = [];
    volume.onEvent(({ event }) => events.push(event.kind));
    const data = Buffer.alloc(BLOCK, 1);
    await volume.device.write(0, data);
    await tgtd.kill();
    const pending = volume.device.write(0, Buffer.alloc(BLOCK, 2));
    const refused = expect(pending).rejects.toMatchObject({ code: "BLOCK_IDENTITY_MISMATCH" });
    const rightTargets = tgtd.targets;
    tgtd.targets = [{ ...rightTargets[0]!, diskParameters: "scsi_id=t10-other,scsi_sn=other" }];
    await tgtd.launch();
    await refused;
    await expect(volume.device.read(0, Buffer.alloc(BLOCK))).rejects.toMatchObject({ code: "BLOCK_IDENTITY_MISMATCH" });
    expect(events).toContain("identity-changed");
    await tgtd.kill();
    tgtd.targets = rightTargets;
    await tgtd.launch();
    for (let tries = 0; !events.includes("reconnected") && tries < 400; tries += 1) await delay(50);
    const found = Buffer.alloc(BLOCK);
    await volume.device.read(0, found);
    expect(found.equals(data)).toBe(true);
    await volume.close();
  }, 60_000);

  test("a unit that has grown while the target was away is as large as it says", async () => {
    const volume = await connectVolume(
      volumeRequest({ portals: [{ host: "127.0.0.1", port: PORT }], targetName, lun: 1 }),
      realDependencies(),
    );
    const before = volume.device.info.sizeBytes;
    const sizes: number[] = [];
    volume.device.onEvent((event) => {
      if (event.kind === "info-changed") sizes.push(event.info.sizeBytes);
    });
    await tgtd.kill();
    tgtd.targets = [{ ...tgtd.targets[0]!, diskBytes: [2 * before] }];
    await tgtd.launch();
    await volume.device.read(0, Buffer.alloc(BLOCK));
    expect(sizes).toEqual([2 * before]);
    expect((await volume.refresh()).sizeBytes).toBe(2 * before);
    await volume.device.write(2 * before - BLOCK, Buffer.alloc(BLOCK, 9));
    await volume.close();
  }, 60_000);

  test("a lost portal is replaced by the next one", async () => {
    const volume = await connectVolume(
      volumeRequest({
        portals: [
          { host: "127.0.0.1", port: PORT },
          { host: "127.0.0.1", port: PORT + 1 },
        ],
        targetName,
        lun: 1,
      }),
      realDependencies(),
    );
    const data = Buffer.alloc(BLOCK, 7);
    await volume.device.write(0, data);
    tgtd.admin("--op", "delete", "--mode", "portal", "--param", `portal=127.0.0.1:${PORT}`);
    const [connection] = tgtd.admin("--op", "show", "--mode", "conn", "--tid", "1").match(/(?<=Session: )\d+/) ?? [];
    const cid = tgtd.admin("--op", "show", "--mode", "conn", "--tid", "1").match(/(?<=Connection: )\d+/)?.[0] ?? "0";
    tgtd.admin("--op", "delete", "--mode", "conn", "--tid", "1", "--sid", connection ?? "", "--cid", cid);
    for (let tries = 0; volume.sessions()[0]?.reconnects === 0 && tries < 300; tries += 1) await delay(50);
    const found = Buffer.alloc(BLOCK);
    await volume.device.read(0, found);
    expect(found.equals(data)).toBe(true);
    expect(volume.sessions()[0]?.portal).toBe(`127.0.0.1:${PORT + 1}`);
    await volume.close();
  }, 60_000);
});
