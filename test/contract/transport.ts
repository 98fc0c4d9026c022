import type { ByteStream, Dialer, Endpoint, Listener, ListeningSocket } from "../../src/transport/transport.js";
import { TransportError } from "../../src/transport/transport.js";

/** One kind of transport under test. */
export interface TransportUnderTest {
  readonly dialer: Dialer;
  readonly listener: Listener;
  /** A fresh endpoint to listen on. */
  readonly endpoint: () => Endpoint;
  /** An endpoint at which nobody listens. */
  readonly vacant: () => Endpoint;
  readonly close: () => Promise<void>;
}

/** What one end of a connection saw. */
export class Recorder {
  readonly chunks: Buffer[] = [];
  receivedBytes = 0;
  closes: (TransportError | undefined)[] = [];
  drains = 0;
  readonly #stream: ByteStream;
  readonly #waiting: { readonly isMet: () => boolean; readonly resolve: () => void }[] = [];

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  start(): this {
    this.#stream.start({
      onData: (chunk) => {
        this.chunks.push(Buffer.from(chunk));
        this.receivedBytes += chunk.length;
        this.#wake();
      },
      onDrain: () => {
        this.drains += 1;
        this.#wake();
      },
      onClose: (error) => {
        this.closes.push(error);
        this.#wake();
      },
    });
    return this;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  until(isMet: () => boolean): Promise<void> {
    if (isMet()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ isMet, resolve }));
  }

  #wake(): void {
    for (const waiter of [...this.#waiting]) {
      if (!waiter.isMet()) continue;
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resolve();
    }
  }
}

function pattern(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let index = 0; index < lengthBytes; index += 1) bytes[index] = (index * 31 + (index >>> 8)) & 0xff;
  return bytes;
}

/** The contract of Dialer, Listener and ByteStream (src/transport/transport.ts). */
export function describeTransport(title: string, create: () => Promise<TransportUnderTest>): void {
  describe(title, () => {
    let transport: TransportUnderTest;
    const sockets: ListeningSocket[] = [];
    const streams: ByteStream[] = [];

    beforeEach(async () => {
      transport = await create();
    });

    afterEach(async () => {
      for (const stream of streams.splice(0)) stream.destroy();
      for (const socket of sockets.splice(0)) await socket.close();
      await transport.close();
    });

    async function connect(): Promise<{ client: ByteStream; server: ByteStream; socket: ListeningSocket }> {
      const accepted: ByteStream[] = [];
      let wake = (): void => undefined;
      const arrived = new Promise<void>((resolve) => (wake = resolve));
      const socket = await transport.listener.listen(transport.endpoint(), (stream) => {
        accepted.push(stream);
        wake();
      });
      sockets.push(socket);
      const client = await transport.dialer.dial(socket.endpoint, { timeoutMs: 5_000 });
      await arrived;
      const server = accepted[0]!;
      streams.push(client, server);
      return { client, server, socket };
    }

    it("carries bytes in order, both ways, however they were cut", async () => {
      const { client, server } = await connect();
      const atClient = new Recorder(client).start();
      const atServer = new Recorder(server).start();
      const data = pattern(1_000_003);
      client.write([data.subarray(0, 1), data.subarray(1, 48), data.subarray(48)]);
      server.write([Buffer.from("an"), Buffer.from("swer")]);
      await Promise.all([
        atServer.until(() => atServer.receivedBytes === data.length),
        atClient.until(() => atClient.receivedBytes === 6),
      ]);
      expect(atServer.bytes.equals(data)).toBe(true);
      expect(atClient.bytes.toString()).toBe("answer");
    });

    it("keeps what arrives before start", async () => {
      const { client, server } = await connect();
      client.write([Buffer.from("early")]);
      server.write([Buffer.from("bird")]);
      await new Promise((resolve) => setImmediate(resolve));
      const atServer = new Recorder(server).start();
      const atClient = new Recorder(client).start();
      await atServer.until(() => atServer.receivedBytes === 5);
      await atClient.until(() => atClient.receivedBytes === 4);
      expect(atServer.bytes.toString()).toBe("early");
      expect(atClient.bytes.toString()).toBe("bird");
    });

    it("gives the chunks back with onSent, in order, after which they may change", async () => {
      const { client, server } = await connect();
      new Recorder(client).start();
      const atServer = new Recorder(server).start();
      const buffer = pattern(4096);
      const expected = Buffer.concat([buffer, Buffer.alloc(4096, 7)]);
      await new Promise<void>((resolve) => {
        client.write([buffer.subarray(0, 100), buffer.subarray(100)], resolve);
      });
      buffer.fill(7);
      await new Promise<void>((resolve) => {
        client.write([buffer], resolve);
      });
      await atServer.until(() => atServer.receivedBytes === 8192);
      expect(atServer.bytes.equals(expected)).toBe(true);
      expect(client.unsentBytes).toBe(0);
    });

    it("says when to pause, and when there is room again", async () => {
      const { client, server } = await connect();
      const atClient = new Recorder(client).start();
      const atServer = new Recorder(server).start();
      server.pause();
      const chunk = pattern(262_144);
      let written = 0;
      while (client.write([chunk])) written += 1;
      written += 1;
      expect(written).toBeGreaterThan(1);
      expect(client.unsentBytes).toBeGreaterThan(0);
      expect(atClient.drains).toBe(0);
      server.resume();
      await atClient.until(() => atClient.drains > 0);
      await atServer.until(() => atServer.receivedBytes === written * chunk.length);
      expect(atServer.receivedBytes).toBe(written * chunk.length);
    });

    it("stops delivery while paused", async () => {
      const { client, server } = await connect();
      const atClient = new Recorder(client).start();
      const atServer = new Recorder(server).start();
      client.write([Buffer.from("1")]);
      await atServer.until(() => atServer.receivedBytes === 1);
      server.pause();
      client.write([Buffer.from("2")]);
      server.write([Buffer.from("x")]);
      await atClient.until(() => atClient.receivedBytes === 1);
      for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      expect(atServer.bytes.toString()).toBe("1");
      server.resume();
      await atServer.until(() => atServer.receivedBytes === 2);
      expect(atServer.bytes.toString()).toBe("12");
    });

    it("sends what is queued on end, then closes both ends without an error, once", async () => {
      const { client, server } = await connect();
      const atClient = new Recorder(client).start();
      const atServer = new Recorder(server).start();
      const data = pattern(700_000);
      client.write([data]);
      client.end();
      await Promise.all([
        atServer.until(() => atServer.closes.length > 0),
        atClient.until(() => atClient.closes.length > 0),
      ]);
      await new Promise((resolve) => setImmediate(resolve));
      expect(atServer.bytes.equals(data)).toBe(true);
      expect(atServer.closes).toEqual([undefined]);
      expect(atClient.closes).toEqual([undefined]);
    });

    it("closes at once on destroy, with the error given, and delivers nothing afterwards", async () => {
      const { client, server } = await connect();
      const atClient = new Recorder(client).start();
      const atServer = new Recorder(server).start();
      const error = new TransportError("transport", "TRANSPORT_TEST", "given up");
      server.write([Buffer.from("too late")]);
      client.destroy(error);
      await Promise.all([
        atClient.until(() => atClient.closes.length > 0),
        atServer.until(() => atServer.closes.length > 0),
      ]);
      await new Promise((resolve) => setImmediate(resolve));
      expect(atClient.closes).toEqual([error]);
      expect(atClient.receivedBytes).toBe(0);
      expect(atServer.closes).toHaveLength(1);
    });

    it("takes writes after the close without throwing", async () => {
      const { client, server } = await connect();
      const atClient = new Recorder(client).start();
      new Recorder(server).start();
      server.destroy();
      await atClient.until(() => atClient.closes.length > 0);
      expect(() => client.write([Buffer.from("x"), Buffer.from("y")])).not.toThrow();
      client.end();
      client.destroy();
      await new Promise((resolve) => setImmediate(resolve));
      expect(atClient.closes).toHaveLength(1);
    });

    it("tells of a close that came before start", async () => {
      const { client, server } = await connect();
      new Recorder(server).start();
      client.destroy();
      await new Promise((resolve) => setImmediate(resolve));
      const late = new Recorder(client).start();
      await late.until(() => late.closes.length > 0);
      expect(late.closes).toHaveLength(1);
    });

    it("refuses with a TransportError where nobody listens", async () => {
      const attempt = transport.dialer.dial(transport.vacant(), { timeoutMs: 5_000 });
      await expect(attempt).rejects.toBeInstanceOf(TransportError);
      await expect(attempt).rejects.toMatchObject({ code: "TRANSPORT_REFUSED", retry: "other-path" });
    });

    it("gives up a dial when the signal aborts, also when it has aborted before", async () => {
      const { socket } = await connect();
      const attempt = transport.dialer.dial(socket.endpoint, { timeoutMs: 5_000, signal: AbortSignal.abort() });
      await expect(attempt).rejects.toMatchObject({ code: "TRANSPORT_CANCELLED" });
    });

    it("refuses a second listener at one endpoint", async () => {
      const { socket } = await connect();
      const second = transport.listener.listen(socket.endpoint, () => undefined);
      await expect(second).rejects.toMatchObject({ code: "TRANSPORT_ADDRESS_IN_USE" });
    });

    it("stops accepting on close while connections live on, and the endpoint is free again", async () => {
      const { client, server, socket } = await connect();
      const atServer = new Recorder(server).start();
      new Recorder(client).start();
      await socket.close();
      await expect(transport.dialer.dial(socket.endpoint, { timeoutMs: 5_000 })).rejects.toMatchObject({
        code: "TRANSPORT_REFUSED",
      });
      client.write([Buffer.from("still here")]);
      await atServer.until(() => atServer.receivedBytes === 10);
      expect(atServer.bytes.toString()).toBe("still here");
      sockets.push(await transport.listener.listen(socket.endpoint, () => undefined));
    });
  });
}
