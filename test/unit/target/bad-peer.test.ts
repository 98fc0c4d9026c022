import { SeededRandom } from "../../../src/base/seeded-random.js";
import { encodePdu, NO_DIGESTS } from "../../../src/wire/encode.js";
import { dataOut, management, nopOut, outcomeOf, ready, TargetWorld, WRITE_8, type TargetPeer } from "./target-peer.js";

/** PDUs of all kinds that an honest initiator sends. */
function samples(peer: TargetPeer): Buffer[] {
  const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096, data: Buffer.alloc(512) });
  const pdus = [
    command,
    dataOut(command.initiatorTaskTag, { targetTransferTag: 1, bufferOffset: 512, data: Buffer.alloc(512) }),
    peer.command("28 00 00 00 00 00 00 00 08 00", { isRead: true, expectedDataTransferLength: 4096 }),
    nopOut(peer),
    management(peer, { function: 2 }),
    peer.loginRequest({ InitiatorName: "iqn.x" }),
  ];
  return pdus.map((pdu) => Buffer.concat(encodePdu(pdu, NO_DIGESTS)));
}

test("ten thousand damaged PDUs end in a rejected PDU, an error status or a closed connection, never in a crash", async () => {
  const random = new SeededRandom(20_261_120);
  const world = new TargetWorld({ limits: { loginTimeoutMs: 1_000_000, pingIntervalMs: 100_000_000 } });
  let peer = await ready({}, world);
  let closedCount = 0;
  for (let round = 0; round < 10_000; round += 1) {
    const all = samples(peer);
    const bytes = all[random.uint32() % all.length]!;
    for (let flips = 1 + (random.uint32() % 3); flips > 0; flips -= 1) {
      // Mostly the header; DataSegmentLength is left alone half the time, or every stream would just wait for data.
      const at = random.uint32() % Math.min(bytes.length, 64);
      if (at >= 5 && at <= 7 && random.uint32() % 2 === 0) continue;
      bytes[at] = random.uint32() & 0xff;
    }
    await peer.sendBytes(bytes);
    peer.received.length = 0;
    if (peer.stream.closed !== "open" || round % 50 === 49) {
      closedCount += 1;
      peer.stream.destroy();
      await world.clock.advance(0);
      peer = await ready({}, world);
    }
  }
  expect(closedCount).toBeGreaterThan(200);
  expect(outcomeOf(await (await ready({}, world)).run("00"))).toBe("good");
}, 60_000);

test("random bytes before the login close the connection", async () => {
  const random = new SeededRandom(7);
  const world = new TargetWorld();
  for (let round = 0; round < 300; round += 1) {
    const peer = await world.connect();
    await peer.sendBytes(random.bytes(200));
    peer.stream.destroy();
  }
  await world.clock.advance(20_000);
  expect(outcomeOf(await (await ready({}, world)).run("00"))).toBe("good");
});

test("a connection that breaks while commands wait for data leaves nothing behind", async () => {
  const world = new TargetWorld();
  const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
  for (let count = 0; count < 20; count += 1) {
    await peer.send(peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
  }
  peer.stream.destroy();
  await world.clock.advance(0);
  expect(world.server.sessions()).toEqual([]);
  await world.server.stop();
  expect(world.clock.pendingTimers).toBe(0);
});

test("more connections than there is room for are closed at once", async () => {
  const world = new TargetWorld({ limits: { maxConnections: 2 } });
  const peers = [await world.connect(), await world.connect(), await world.connect()];
  expect(peers.map((peer) => peer.stream.closed)).toEqual(["open", "open", "destroyed"]);
});
