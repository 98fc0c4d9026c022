import { SeededRandom } from "../../../src/base/seeded-random.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import type { LinkBehaviour } from "../../../src/transport/memory.js";
import { MemoryNetwork } from "../../../src/transport/memory.js";
import type { ByteStream, Endpoint } from "../../../src/transport/transport.js";
import { describeTransport, Recorder } from "../../contract/transport.js";

const endpoint: Endpoint = { kind: "tcp", host: "target", port: 3260 };

const behaviours: readonly (readonly [string, LinkBehaviour])[] = [
  ["at once", {}],
  ["in pieces", { maxChunkBytes: 50_000 }],
  ["with delays", { delayMs: [0, 0.2], maxChunkBytes: 200_000 }],
];

for (const [title, behaviour] of behaviours) {
  describeTransport(`memory, ${title}`, () => {
    const network = new MemoryNetwork(
      { behaviour: () => behaviour },
      { clock: new SystemClock({ unref: false }), random: new SeededRandom(7) },
    );
    return Promise.resolve({
      dialer: network,
      listener: network,
      endpoint: () => ({ kind: "tcp", host: "target", port: 0 }),
      vacant: () => ({ kind: "tcp", host: "nobody", port: 1 }),
      close: () => Promise.resolve(),
    });
  });
}

describe("MemoryNetwork", () => {
  async function connect(behaviour: LinkBehaviour, seed = 1) {
    const network = new MemoryNetwork(
      { behaviour: () => behaviour },
      { clock: new SystemClock(), random: new SeededRandom(seed) },
    );
    const accepted: ByteStream[] = [];
    await network.listen(endpoint, (stream) => accepted.push(stream));
    const client = await network.dial(endpoint, { timeoutMs: 1_000 });
    const link = network.links[0]!;
    return { network, link, client, server: accepted[0]! };
  }

  const turns = async (count: number): Promise<void> => {
    for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };

  it("cuts a stream the same way for the same seed, another way for another", async () => {
    const lengths = async (seed: number): Promise<number[]> => {
      const { client, server } = await connect({ maxChunkBytes: 100 }, seed);
      const recorder = new Recorder(server).start();
      client.write([Buffer.alloc(5_000)]);
      await recorder.until(() => recorder.receivedBytes === 5_000);
      return recorder.chunks.map((chunk) => chunk.length);
    };
    expect(await lengths(3)).toEqual(await lengths(3));
    expect(await lengths(3)).not.toEqual(await lengths(4));
  });

  it("overwrites what it delivered, and reads the chunks only when it delivers", async () => {
    const { client, server } = await connect({});
    const kept: Buffer[] = [];
    server.start({ onData: (chunk) => kept.push(chunk), onClose: () => undefined });
    const bytes = Buffer.from("abc");
    client.write([bytes]);
    bytes.fill(0x7a);
    await turns(3);
    expect(kept[0]?.toString("hex")).toBe("dbdbdb");
    const recorder: string[] = [];
    const second = await connect({});
    second.server.start({ onData: (chunk) => recorder.push(chunk.toString()), onClose: () => undefined });
    const changed = Buffer.from("abc");
    second.client.write([changed]);
    changed.fill(0x7a);
    await turns(3);
    expect(recorder).toEqual(["zzz"]);
  });

  it("breaks after the given number of bytes, exactly", async () => {
    const { client, server, network } = await connect({ cutAfterBytes: { "to-listener": 10 } });
    const atServer = new Recorder(server).start();
    const atClient = new Recorder(client).start();
    client.write([Buffer.alloc(7), Buffer.alloc(7)]);
    await atServer.until(() => atServer.closes.length > 0);
    await atClient.until(() => atClient.closes.length > 0);
    expect(atServer.receivedBytes).toBe(10);
    expect(atServer.closes[0]).toMatchObject({ code: "TRANSPORT_RESET" });
    expect(atClient.closes[0]).toMatchObject({ code: "TRANSPORT_RESET" });
    expect(network.links).toEqual([]);
  });

  it("holds a half-open connection without telling anybody, until healed", async () => {
    const { client, server, link } = await connect({});
    const atServer = new Recorder(server).start();
    const atClient = new Recorder(client).start();
    link.stall("to-listener");
    client.write([Buffer.from("lost?")]);
    server.write([Buffer.from("other way")]);
    await turns(5);
    expect(atServer.receivedBytes).toBe(0);
    expect(atClient.bytes.toString()).toBe("other way");
    link.heal();
    await turns(5);
    expect(atServer.bytes.toString()).toBe("lost?");
  });

  it("does not tell the peer of a destroy while stalled", async () => {
    const { client, server, link } = await connect({});
    const atServer = new Recorder(server).start();
    const atClient = new Recorder(client).start();
    link.stall();
    client.destroy();
    await turns(5);
    expect(atClient.closes).toHaveLength(1);
    expect(atServer.closes).toHaveLength(0);
    link.heal();
    await turns(5);
    expect(atServer.closes).toHaveLength(1);
  });

  it("lets a hook flip bits at an offset, in a copy", async () => {
    const { client, server } = await connect({
      maxChunkBytes: 3,
      onDeliver: (chunk, direction, offset) => {
        const at = 5 - offset;
        if (direction === "to-listener" && at >= 0 && at < chunk.length) chunk.writeUInt8(chunk.readUInt8(at) ^ 1, at);
      },
    });
    const atServer = new Recorder(server).start();
    const bytes = Buffer.alloc(10);
    client.write([bytes]);
    await atServer.until(() => atServer.receivedBytes === 10);
    expect([...atServer.bytes]).toEqual([0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });

  it("swallows connection attempts at a black hole until the timeout", async () => {
    const timers: (() => void)[] = [];
    const network = new MemoryNetwork(
      {},
      {
        random: new SeededRandom(1),
        clock: {
          nowMs: () => 0,
          wallTimeMs: () => 0,
          defer: (callback) => void setImmediate(callback),
          setTimer: (_delayMs, callback) => {
            timers.push(callback);
            return { cancel: () => undefined };
          },
        },
      },
    );
    await network.listen(endpoint, () => undefined);
    network.setBlackHole(endpoint, true);
    const attempt = network.dial(endpoint, { timeoutMs: 100 });
    await turns(2);
    timers[0]?.();
    await expect(attempt).rejects.toMatchObject({ code: "TRANSPORT_TIMEOUT", name: "TimeoutError" });
  });

  it("tells the listener and the behaviour where a connection comes from", async () => {
    const seen: unknown[] = [];
    const network = new MemoryNetwork(
      {
        behaviour: (to, { localAddress, localInterface }) => {
          seen.push([to, localAddress, localInterface]);
          return {};
        },
      },
      { clock: new SystemClock(), random: new SeededRandom(1) },
    );
    const accepted: string[] = [];
    await network.listen(endpoint, ({ remoteAddress }) => accepted.push(remoteAddress));
    await network.dial(endpoint, { timeoutMs: 1_000, localInterface: "eth1", localAddress: "10.0.1.5" });
    await network.dial(endpoint, { timeoutMs: 1_000, localInterface: "eth2" });
    expect(seen).toEqual([
      [endpoint, "10.0.1.5", "eth1"],
      [endpoint, undefined, "eth2"],
    ]);
    expect(accepted).toEqual([expect.stringMatching(/^10\.0\.1\.5:\d+$/), expect.stringMatching(/^eth2:\d+$/)]);
  });

  it.each([{ localAddress: "10.0.1.5" }, { localInterface: "eth1" }])(
    "swallows attempts from %p alone",
    async (source) => {
      const network = new MemoryNetwork({}, { clock: new SystemClock(), random: new SeededRandom(1) });
      await network.listen(endpoint, () => undefined);
      network.setBlackHole(endpoint, true, source);
      const lost = network.dial(endpoint, { timeoutMs: 20, ...source });
      await expect(lost).rejects.toMatchObject({ code: "TRANSPORT_TIMEOUT" });
      const other = { localAddress: "10.0.2.5", localInterface: "eth2" };
      await expect(network.dial(endpoint, { timeoutMs: 1_000, ...other })).resolves.toBeDefined();
      network.setBlackHole(endpoint, false, source);
      await expect(network.dial(endpoint, { timeoutMs: 1_000, ...source })).resolves.toBeDefined();
    },
  );
});
