import { createServer } from "node:net";
import { SystemClock } from "../../../src/base/system-clock.js";
import { silentLogger } from "../../../src/base/logger.js";
import type { ByteStream } from "../../../src/transport/transport.js";
import { TcpDialer, TcpListener } from "../../../src/transport/tcp.js";
import { describeTransport, Recorder } from "../../contract/transport.js";

const clock = new SystemClock({ unref: true });
const dependencies = { clock, logger: silentLogger };

/** A port that was free a moment ago. */
async function vacantPort(host: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

for (const host of ["127.0.0.1", "::1"]) {
  describeTransport(`TCP on ${host}`, async () => {
    const port = await vacantPort(host);
    return {
      dialer: new TcpDialer(dependencies),
      listener: new TcpListener(dependencies),
      endpoint: () => ({ kind: "tcp", host, port: 0 }),
      vacant: () => ({ kind: "tcp", host, port }),
      close: () => Promise.resolve(),
    };
  });
}

describe("TCP", () => {
  async function listen(host: string, onConnection: (stream: ByteStream) => void) {
    return new TcpListener(dependencies).listen({ kind: "tcp", host, port: 0 }, onConnection);
  }

  it("shows both addresses, IPv6 in brackets", async () => {
    const accepted: ByteStream[] = [];
    const socket = await listen("::1", (stream) => accepted.push(stream));
    const client = await new TcpDialer(dependencies).dial(socket.endpoint, { timeoutMs: 5_000 });
    expect(client.remoteAddress).toBe(`[::1]:${socket.endpoint.kind === "tcp" ? socket.endpoint.port : 0}`);
    expect(client.localAddress).toMatch(/^\[::1\]:\d+$/);
    while (accepted.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(accepted[0]).toMatchObject({ localAddress: client.remoteAddress, remoteAddress: client.localAddress });
    client.destroy();
    for (const stream of accepted) stream.destroy();
    await socket.close();
  });

  it("dials a DNS name", async () => {
    const socket = await listen("127.0.0.1", (stream) => new Recorder(stream).start());
    const port = socket.endpoint.kind === "tcp" ? socket.endpoint.port : 0;
    const client = await new TcpDialer(dependencies).dial(
      { kind: "tcp", host: "localhost", port },
      { timeoutMs: 5_000 },
    );
    const recorder = new Recorder(client).start();
    client.end();
    await recorder.until(() => recorder.closes.length === 1);
    expect(recorder.closes).toEqual([undefined]);
    await socket.close();
  });

  it("binds to the local address asked for", async () => {
    const accepted: ByteStream[] = [];
    const socket = await listen("127.0.0.1", (stream) => accepted.push(stream));
    const client = await new TcpDialer(dependencies).dial(socket.endpoint, {
      timeoutMs: 5_000,
      localAddress: "127.0.0.9",
    });
    expect(client.localAddress).toMatch(/^127\.0\.0\.9:/);
    client.destroy();
    for (const stream of accepted) stream.destroy();
    await socket.close();
  });

  it("rejects with a TimeoutError when the time is over, by the clock it was given", async () => {
    const timers: { delayMs: number; callback: () => void }[] = [];
    const virtual = {
      nowMs: () => 0,
      wallTimeMs: () => 0,
      setTimer: (delayMs: number, callback: () => void) => {
        timers.push({ delayMs, callback });
        return { cancel: () => undefined };
      },
      defer: (callback: () => void) => void setImmediate(callback),
    };
    const socket = await listen("127.0.0.1", (stream) => stream.destroy());
    const attempt = new TcpDialer({ clock: virtual }).dial(socket.endpoint, { timeoutMs: 1234 });
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([1234]);
    timers[0]!.callback();
    await expect(attempt).rejects.toMatchObject({
      name: "TimeoutError",
      code: "TRANSPORT_TIMEOUT",
      retry: "other-path",
    });
    await socket.close();
  });

  it("reports a name without address", async () => {
    const attempt = new TcpDialer(dependencies).dial(
      { kind: "tcp", host: "no-such-host.invalid", port: 1 },
      { timeoutMs: 20_000 },
    );
    await expect(attempt).rejects.toMatchObject({ code: "TRANSPORT_NAME_NOT_FOUND" });
  });

  it("reports a reset by the peer with advice to take another path", async () => {
    const server = createServer((socket) => {
      socket.once("data", () => socket.resetAndDestroy());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const stream = await new TcpDialer(dependencies).dial(
      { kind: "tcp", host: "127.0.0.1", port },
      { timeoutMs: 5_000 },
    );
    const recorder = new Recorder(stream).start();
    stream.write([Buffer.from("x")]);
    await recorder.until(() => recorder.closes.length === 1);
    expect(recorder.closes[0]).toMatchObject({ code: "TRANSPORT_RESET", retry: "other-path" });
    await new Promise((resolve) => server.close(resolve));
  });

  it("refuses endpoints of another kind", async () => {
    const attempt = new TcpDialer(dependencies).dial({ kind: "unix", path: "/x" }, { timeoutMs: 1 });
    await expect(attempt).rejects.toMatchObject({ code: "TRANSPORT_WRONG_KIND" });
  });
});
