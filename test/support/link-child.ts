/**
 * One side of a connection, for tests that put it into a network namespace: takes a command a line as JSON, answers each
 * with a line, and ends with its standard input. See `LinkChild` of link-child-control.ts.
 */
import { readlinkSync, readdirSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { errorCode } from "../../src/base/errors.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { TcpDialer } from "../../src/transport/tcp.js";
import type { ByteStream } from "../../src/transport/transport.js";
import type { LinkCommand } from "./link-child-control.js";

const accepted: { receivedBytes: number; end: string }[] = [];
const dialer = new TcpDialer({ clock: new SystemClock({ unref: false }) });
let stream: ByteStream | undefined;
let raw: Socket | undefined;
let closed: string | undefined;

async function listen(host: string): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const seen = { receivedBytes: 0, end: "open" };
    accepted.push(seen);
    socket.on("data", (chunk) => (seen.receivedBytes += chunk.length));
    socket.on("end", () => (seen.end = "ended"));
    socket.on("error", (error) => (seen.end = errorCode(error) ?? "error"));
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, host, resolve));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function dial(command: Extract<LinkCommand, { readonly kind: "dial" }>): Promise<string> {
  const { host, port, localAddress, localInterface } = command;
  if (command.isRaw === true) {
    const socket = connect({ host, port });
    raw = socket;
    socket.on("error", () => undefined);
    await new Promise((resolve) => socket.once("connect", resolve));
    return socket.localAddress ?? "";
  }
  closed = undefined;
  const dialled = await dialer.dial(
    { kind: "tcp", host, port },
    {
      timeoutMs: 5_000,
      ...(localAddress === undefined ? {} : { localAddress }),
      ...(localInterface === undefined ? {} : { localInterface }),
    },
  );
  stream = dialled;
  dialled.start({ onData: () => undefined, onClose: (error) => (closed = error?.code ?? "in order") });
  return dialled.localAddress;
}

function openSockets(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}

async function obey(command: LinkCommand): Promise<unknown> {
  switch (command.kind) {
    case "listen":
      return listen(command.host);
    case "accepted":
      return accepted;
    case "dial":
      return dial(command);
    case "write": {
      const bytes = Buffer.alloc(command.lengthBytes, 0x5a);
      if (raw === undefined) stream?.write([bytes]);
      else raw.write(bytes);
      return stream?.unsentBytes ?? raw?.writableLength;
    }
    case "end":
      stream?.end();
      return undefined;
    case "destroy":
      if (raw === undefined) stream?.destroy();
      else raw.destroy();
      raw = undefined;
      return undefined;
    case "state":
      return { closed, openSockets: openSockets() };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line) as LinkCommand;
  const answer = await obey(command).then(
    (value) => ({ value }),
    (error: unknown) => ({ error: errorCode(error) ?? String(error) }),
  );
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
