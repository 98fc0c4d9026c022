import { setTimeout as delay } from "node:timers/promises";
import { SOCKET_LINGER_MS } from "../../src/base/limits.js";
import { reportMeasured } from "../support/file-load.js";
import { LinkChild } from "../support/link-child-control.js";
import { describeNeeding } from "../support/needs.js";
import { type LabLink, type LabNode, NetLab } from "../support/net-lab.js";

const MIB = 1_048_576;

/** net.ipv4.neigh.*.mcast_solicit. */
const ARP_ATTEMPTS = 3;

/** What the other side's connection looks like once `isMet`, within ten seconds. */
async function eventually<T>(look: () => Promise<T>, isMet: (seen: T) => boolean): Promise<T> {
  const untilMs = performance.now() + 10_000;
  for (;;) {
    const seen = await look();
    if (isMet(seen) || performance.now() > untilMs) return seen;
    await delay(20);
  }
}

/** A node with two interfaces, and storage, on one switch; `first` is the one that the routes prefer. */
describeNeeding(["root", "ip", "tc", "sysctl"], "TCP connections over links", () => {
  let lab: NetLab;
  let node: LabNode;
  let storage: LabNode;
  let first: LabLink;
  let second: LabLink;
  /** The one to storage. */
  let cable: LabLink;
  let initiator: LinkChild;
  let target: LinkChild;

  beforeAll(async () => {
    lab = await NetLab.create();
    node = await lab.addNode("node");
    storage = await lab.addNode("storage");
    const lan = await lab.addSwitch("lan");
    first = await lab.connect({ to: node, device: "first", addresses: ["10.9.0.11/24", "fd00:9::11/64"] }, { to: lan });
    second = await lab.connect(
      { to: node, device: "second", addresses: ["10.9.0.12/24", "fd00:9::12/64"] },
      { to: lan },
    );
    cable = await lab.connect({ to: storage, device: "san", addresses: ["10.9.0.1/24", "fd00:9::1/64"] }, { to: lan });
    initiator = new LinkChild(node);
    target = new LinkChild(storage);
  }, 60_000);

  afterAll(async () => {
    await Promise.all([initiator.stop(), target.stop()]);
    await lab.remove();
  }, 60_000);

  /** Writes 4 MiB and tells how many bytes left by each interface meanwhile. */
  async function sendAndCount(): Promise<{ readonly first: number; readonly second: number }> {
    const sent = async (device: string): Promise<number> => (await node.counters(device)).sentBytes;
    const before = { first: await sent("first"), second: await sent("second") };
    const index = (await target.accepted()).length - 1;
    await initiator.write(4 * MIB);
    const seen = await eventually(
      () => target.accepted(),
      (links) => links[index]?.receivedBytes === 4 * MIB,
    );
    expect(seen[index]?.receivedBytes).toBe(4 * MIB);
    return { first: (await sent("first")) - before.first, second: (await sent("second")) - before.second };
  }

  for (const [host, sourceAddress, localPattern] of [
    ["10.9.0.1", "10.9.0.12", /^10\.9\.0\.12:\d+$/],
    ["fd00:9::1", "fd00:9::12", /^\[fd00:9::12\]:\d+$/],
  ] as const) {
    describe(`to ${host}`, () => {
      let port: number;

      beforeAll(async () => {
        port = await target.listen(host);
      });

      afterEach(async () => {
        await initiator.destroy();
        await first.setUp();
        await second.setUp();
      });

      it("take the interface that the routes prefer, whatever address they come from", async () => {
        expect(await node.deviceTowards(host)).toBe("first");
        expect(await initiator.dial({ host, port, localAddress: sourceAddress })).toMatch(localPattern);
        const sent = await sendAndCount();
        expect(sent.first).toBeGreaterThan(4 * MIB);
        expect(sent.second).toBeLessThan(65_536);
      });

      it("take the interface they are bound to, also when the other one is down", async () => {
        expect(await node.deviceTowards(host)).toBe("first");
        // The system takes the address of the interface when none is given.
        expect(await initiator.dial({ host, port, localInterface: "second" })).toMatch(localPattern);
        const sent = await sendAndCount();
        expect(sent.second).toBeGreaterThan(4 * MIB);
        expect(sent.first).toBeLessThan(65_536);
        await initiator.destroy();

        await first.setDown("near");
        await initiator.dial({ host, port, localAddress: sourceAddress, localInterface: "second" });
        expect((await sendAndCount()).second).toBeGreaterThan(4 * MIB);
      });

      it("are refused at once when the interface is down or is none, though the other would do", async () => {
        const before = await initiator.state();
        await second.setDown("near");
        await expect(initiator.dial({ host, port, localInterface: "second" })).rejects.toThrow("TRANSPORT_UNREACHABLE");
        await expect(initiator.dial({ host, port, localInterface: "third" })).rejects.toThrow("TRANSPORT_NO_INTERFACE");
        const attempt = initiator.dial({ host, port, localInterface: "first", localAddress: "192.0.2.1" });
        await expect(attempt).rejects.toThrow(/^TRANSPORT_/);
        const after = await eventually(
          () => initiator.state(),
          ({ openSockets }) => openSockets === before.openSockets,
        );
        expect(after.openSockets).toBe(before.openSockets);
      });
    });
  }

  describe("that are cut while a link is down", () => {
    const host = "10.9.0.1";
    let port: number;
    /** How long the bare socket took to deliver what it had been given. */
    let lateMs = 0;

    beforeAll(async () => {
      port = await target.listen(host);
      expect(await node.deviceTowards(host)).toBe("first");
    });

    /** A connection that has carried one byte, after which a link goes down. */
    async function connectAndLose(link: LabLink, isRaw = false): Promise<number> {
      await initiator.dial({ host, port, isRaw });
      await initiator.write(1);
      const seen = await eventually(
        () => target.accepted(),
        (links) => links.at(-1)?.receivedBytes === 1,
      );
      expect(seen.at(-1)).toEqual({ receivedBytes: 1, end: "open" });
      await link.setDown("far");
      return seen.length - 1;
    }

    /** Nothing may come for three times as long as it took the bare socket. */
    async function expectNothingMore(index: number): Promise<void> {
      await delay(Math.max(3 * lateMs, 3_000));
      const link = (await target.accepted())[index];
      expect(link?.receivedBytes).toBe(1);
      expect(["open", "ECONNRESET"]).toContain(link?.end);
      const { closed } = await initiator.state();
      expect(closed).toBe("in order");
    }

    it("would deliver what they hold when the link comes back, if they were only closed", async () => {
      const index = await connectAndLose(cable, true);
      expect(await initiator.write(65_536)).toBe(0);
      await initiator.destroy();
      await delay(500);
      await cable.setUp();
      const beginMs = performance.now();
      const seen = await eventually(
        () => target.accepted(),
        (links) => links[index]?.receivedBytes === 65_537,
      );
      lateMs = Math.ceil(performance.now() - beginMs);
      expect(seen[index]).toEqual({ receivedBytes: 65_537, end: "ended" });
      reportMeasured(`bytes of a closed socket arrive ${lateMs} ms after the link is back`);
    }, 60_000);

    it("never deliver what the system held", async () => {
      const index = await connectAndLose(cable);
      expect(await initiator.write(65_536)).toBe(0);
      await initiator.destroy();
      await delay(500);
      await cable.setUp();
      await expectNothingMore(index);
    }, 60_000);

    it("never deliver what the system had not even taken", async () => {
      const index = await connectAndLose(cable);
      expect(await initiator.write(32 * MIB)).toBeGreaterThan(0);
      await initiator.destroy();
      await delay(500);
      await cable.setUp();
      await expectNothingMore(index);
    }, 60_000);

    it("never deliver what could not be sent in order within the time for that", async () => {
      const index = await connectAndLose(cable);
      expect(await initiator.write(65_536)).toBe(0);
      await initiator.end();
      await delay(SOCKET_LINGER_MS + 500);
      await cable.setUp();
      await expectNothingMore(index);
    }, 60_000);

    it("never deliver what they held when their own interface lost its carrier", async () => {
      const index = await connectAndLose(first);
      expect(await initiator.write(65_536)).toBe(0);
      await initiator.destroy();
      // Without a carrier the node forgets the hardware address, and packets wait for it to be found, out of TCP's reach:
      // three attempts a second apart, then they are dropped.
      await delay(ARP_ATTEMPTS * 1_000 + 1_500);
      await first.setUp();
      await expectNothingMore(index);
    }, 60_000);

    it("reset their peer when the link is there", async () => {
      await initiator.dial({ host, port });
      const { openSockets } = await initiator.state();
      const index = (await target.accepted()).length - 1;
      await initiator.destroy();
      const seen = await eventually(
        () => target.accepted(),
        (links) => links[index]?.end !== "open",
      );
      expect(seen[index]).toEqual({ receivedBytes: 0, end: "ECONNRESET" });
      expect(await initiator.state()).toEqual({ closed: "in order", openSockets: openSockets - 1 });
    });
  });
});
