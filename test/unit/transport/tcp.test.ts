import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect, createServer } from "node:net";
import { AppError } from "../../../src/base/errors.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { silentLogger } from "../../../src/base/logger.js";
import { HostError } from "../../../src/host/errors.js";
import { toTransportError } from "../../../src/transport/socket-errors.js";
import type { ByteStream } from "../../../src/transport/transport.js";
import { TransportError } from "../../../src/transport/transport.js";
import { TcpDialer, TcpListener } from "../../../src/transport/tcp.js";
import { describeTransport, Recorder } from "../../contract/transport.js";

const clock = new SystemClock({ unref: true });
const dependencies = { clock, logger: silentLogger };

/** Sockets that this process has open. */
function openSockets(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}

/** Waits for the system to have closed what is closed, but not for ever. */
async function untilOpenSockets(count: number): Promise<void> {
  const untilMs = performance.now() + 5_000;
  while (openSockets() !== count && performance.now() < untilMs) await new Promise((resolve) => setImmediate(resolve));
  expect(openSockets()).toBe(count);
}

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

  it("reports a port and a source address that are none", async () => {
    const dialer = new TcpDialer(dependencies);
    const to = { kind: "tcp", host: "127.0.0.1", port: 70_000 } as const;
    await expect(dialer.dial(to, { timeoutMs: 5_000 })).rejects.toBeInstanceOf(TransportError);
    const from = { timeoutMs: 5_000, localAddress: "here" };
    await expect(dialer.dial({ ...to, port: 1 }, from)).rejects.toBeInstanceOf(TransportError);
  });

  /** Both ends of a connection, with what they see. */
  async function connectRecorded() {
    const accepted: ByteStream[] = [];
    const socket = await listen("127.0.0.1", (stream) => accepted.push(stream));
    const client = await new TcpDialer(dependencies).dial(socket.endpoint, { timeoutMs: 5_000 });
    while (accepted.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await socket.close();
    const server = accepted[0]!;
    return { client, server, atClient: new Recorder(client).start(), atServer: new Recorder(server).start() };
  }

  it("resets the peer on destroy, and knows no error of its own", async () => {
    const before = openSockets();
    const { client, atClient, atServer } = await connectRecorded();
    client.destroy();
    client.destroy();
    await Promise.all([
      atServer.until(() => atServer.closes.length === 1),
      atClient.until(() => atClient.closes.length === 1),
    ]);
    expect(atServer.closes[0]).toMatchObject({ code: "TRANSPORT_RESET" });
    expect(atClient.closes).toEqual([undefined]);
    await untilOpenSockets(before);
  });

  it("throws away what waits on destroy, and gives its memory back", async () => {
    const before = openSockets();
    const { client, server, atClient, atServer } = await connectRecorded();
    server.pause();
    let sent = 0;
    const chunk = Buffer.alloc(1_048_576);
    while (client.unsentBytes < 2_000_000) client.write([chunk], () => (sent += 1));
    const given = sent;
    client.destroy();
    await atClient.until(() => atClient.closes.length === 1);
    expect(atClient.closes).toEqual([undefined]);
    expect(client.unsentBytes).toBe(0);
    expect(sent).toBeGreaterThan(given);
    // libuv shows a reset that follows unread bytes as an end.
    server.resume();
    await atServer.until(() => atServer.closes.length === 1);
    expect(atServer.receivedBytes).toBeLessThan(given * chunk.length + 2_000_000);
    await untilOpenSockets(before);
  });

  it("closes when it is destroyed while it closes in order", async () => {
    const before = openSockets();
    const { client, atClient, atServer } = await connectRecorded();
    // The system is being told of the end, and refuses a reset just then.
    client.end();
    client.destroy();
    await Promise.all([
      atServer.until(() => atServer.closes.length === 1),
      atClient.until(() => atClient.closes.length === 1),
    ]);
    expect(atClient.closes).toEqual([undefined]);
    await untilOpenSockets(before);
  });

  it("closes when it is destroyed as the peer closes in order", async () => {
    const before = openSockets();
    const accepted: ByteStream[] = [];
    const socket = await listen("127.0.0.1", (stream) => accepted.push(stream));
    const port = socket.endpoint.kind === "tcp" ? socket.endpoint.port : 0;
    const raw = connect({ host: "127.0.0.1", port });
    while (accepted.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const server = accepted[0]!;
    const closed = new Promise<void>((resolve) => {
      server.start({ onData: () => server.destroy(), onClose: () => resolve() });
    });
    raw.on("error", () => undefined);
    // The end of the stream is read with the last bytes, or right after them.
    raw.end("bye");
    await closed;
    raw.destroy();
    await socket.close();
    await untilOpenSockets(before);
  });
});

describe("TCP through an interface", () => {
  const dialer = new TcpDialer(dependencies);

  async function echo(host: string) {
    return new TcpListener(dependencies).listen({ kind: "tcp", host, port: 0 }, (stream) => {
      stream.start({ onData: (chunk) => stream.write([Buffer.from(chunk)]), onClose: () => undefined });
    });
  }

  it.each([
    ["127.0.0.1", "127.0.0.1", undefined, /^127\.0\.0\.1:\d+$/],
    ["127.0.0.1", "127.0.0.1", "127.0.0.7", /^127\.0\.0\.7:\d+$/],
    ["::1", "::1", undefined, /^\[::1\]:\d+$/],
    ["127.0.0.1", "localhost", "127.0.0.1", /^127\.0\.0\.1:\d+$/],
  ])("carries bytes to %s by the name of %s from %s", async (address, host, localAddress, local) => {
    const before = openSockets();
    const socket = await echo(address);
    const port = socket.endpoint.kind === "tcp" ? socket.endpoint.port : 0;
    const source = localAddress === undefined ? {} : { localAddress };
    const options = { timeoutMs: 5_000, localInterface: "lo", ...source };
    const client = await dialer.dial({ kind: "tcp", host, port }, options);
    expect(client.localAddress).toMatch(local);
    // Nothing is read before the start.
    client.write([Buffer.from("early")]);
    await new Promise((resolve) => setImmediate(resolve));
    const recorder = new Recorder(client).start();
    const bytes = Buffer.alloc(2_000_000, "interface");
    client.write([bytes]);
    await recorder.until(() => recorder.receivedBytes === 5 + bytes.length);
    expect(recorder.bytes.equals(Buffer.concat([Buffer.from("early"), bytes]))).toBe(true);
    client.end();
    await recorder.until(() => recorder.closes.length === 1);
    expect(recorder.closes).toEqual([undefined]);
    await socket.close();
    await untilOpenSockets(before);
  });

  it("has the socket options that every connection has", async () => {
    const before = openSockets();
    const socket = await echo("127.0.0.1");
    const options = { timeoutMs: 5_000, localInterface: "lo" };
    const [bound, free] = [
      await dialer.dial(socket.endpoint, options),
      await dialer.dial(socket.endpoint, { timeoutMs: 5_000 }),
    ];
    // `02` in the tenth field: the keepalive timer runs.
    for (const { localAddress } of [bound, free]) {
      const port = Number(localAddress.split(":")[1]).toString(16).toUpperCase().padStart(4, "0");
      const row = readFileSync("/proc/self/net/tcp", "utf8")
        .split("\n")
        .find((line) => line.includes(`0100007F:${port} 0100007F`));
      expect(row?.trim().split(/\s+/)[5]).toMatch(/^02:/);
    }
    for (const stream of [bound, free]) stream.destroy();
    await socket.close();
    await untilOpenSockets(before);
  });

  it.each([
    ["an interface that is not there", { localInterface: "hawser-none" }, { code: "TRANSPORT_NO_INTERFACE" }],
    ["a name that the kernel would cut", { localInterface: "lo-and-much-more" }, { code: "TRANSPORT_NO_INTERFACE" }],
    ["no name", { localInterface: "" }, { code: "TRANSPORT_NO_INTERFACE" }],
    ["a name that ends early", { localInterface: "lo\0x" }, { code: "TRANSPORT_NO_INTERFACE" }],
    ["a port where nobody listens", { localInterface: "lo" }, { code: "TRANSPORT_REFUSED" }],
    [
      "an address that is not here",
      { localInterface: "lo", localAddress: "192.0.2.1" },
      { code: "TRANSPORT_ADDRESS_NOT_AVAILABLE" },
    ],
    ["an address of the other family", { localInterface: "lo", localAddress: "::1" }, {}],
    ["a source that is no address", { localInterface: "lo", localAddress: "here" }, {}],
    ["a port that is none", { localInterface: "lo", port: 70_000 }, {}],
    [
      "a caller that has withdrawn",
      { localInterface: "lo", signal: AbortSignal.abort() },
      { name: "CancelledError", code: "TRANSPORT_CANCELLED" },
    ],
    [
      "a name that has no address",
      { localInterface: "lo", host: "no-such-host.invalid" },
      { code: "TRANSPORT_NAME_NOT_FOUND" },
    ],
  ])("fails for %s and leaves no socket open", async (_, change, expected) => {
    const before = openSockets();
    const {
      host = "127.0.0.1",
      port = await vacantPort("127.0.0.1"),
      ...options
    } = {
      host: undefined,
      port: undefined,
      ...change,
    };
    const attempt = dialer.dial({ kind: "tcp", host, port }, { timeoutMs: 20_000, ...options });
    const error: unknown = await attempt.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({ layer: "transport", retry: expect.anything() as string, ...expected });
    await untilOpenSockets(before);
  });

  it("names the interface, and the capability that may be missing", () => {
    const denied = new HostError("HOST_EPERM", "binding a socket to eth1 failed: this process may not", {
      details: { errno: "EPERM" },
    });
    expect(toTransportError(denied, "connecting to 10.0.1.9:3260")).toMatchObject({
      code: "TRANSPORT_FORBIDDEN",
      retry: "never",
      message: "connecting to 10.0.1.9:3260 failed: binding a socket to eth1 failed: this process may not (EPERM)",
    });
  });

  it("has one time limit for the name and the connection", async () => {
    const before = openSockets();
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
    const attempt = new TcpDialer({ clock: virtual }).dial(
      { kind: "tcp", host: "no-such-host.invalid", port: 1 },
      { timeoutMs: 1234, localInterface: "lo" },
    );
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([1234]);
    timers[0]!.callback();
    await expect(attempt).rejects.toMatchObject({ name: "TimeoutError", code: "TRANSPORT_TIMEOUT" });
    await untilOpenSockets(before);
  });
});
