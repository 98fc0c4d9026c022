import { silentLogger } from "../../../src/base/logger.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { NbdConnection, serveTransmission } from "../../../src/nbd/connection.js";
import { encodeRequest } from "../../../src/nbd/request.js";
import { RecordingStream } from "../../support/recording-stream.js";
import { VirtualTime } from "../../support/virtual-time.js";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const go = hex("00000003 49484156454f5054 00000007 00000006 00000000 0000");
const read = encodeRequest({ flags: 0, type: 0, cookieHigh: 0, cookieLow: 7, offsetBytes: 0, lengthBytes: 512 });

describe("an NBD connection", () => {
  const clock = new VirtualTime();
  const dependencies = { clock, logger: silentLogger };
  const exports = new Map([["only", new MemoryDevice({ sizeBytes: 65_536 })]]);
  let stream: RecordingStream;
  let connection: NbdConnection;

  beforeEach(() => {
    stream = new RecordingStream();
    connection = new NbdConnection({ stream, exports, handshakeTimeoutMs: 1000 }, dependencies);
  });

  it("serves a request that came in one piece with the handshake", async () => {
    stream.deliver(Buffer.concat([go, read]));
    await clock.advance(1);
    expect(stream.writes.at(-1)).toHaveLength(16 + 512);
    stream.hangUp();
    await connection.closed;
    expect(clock.pendingTimers).toBe(0);
  });

  it("gives up on a client that does not finish the handshake", async () => {
    stream.deliver(go.subarray(0, 10));
    await clock.advance(999);
    expect(stream.isDestroyed).toBe(false);
    await clock.advance(1);
    expect(stream.isDestroyed).toBe(true);
    await connection.closed;
  });

  it("hangs up on a client that does not speak NBD", () => {
    stream.deliver(Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    expect(stream.isDestroyed).toBe(true);
  });

  it("answers ABORT, then ends", () => {
    stream.deliver(hex("00000003 49484156454f5054 00000002 00000000"));
    expect(stream.isEnded).toBe(true);
    expect(stream.writes.at(-1)?.subarray(8, 16)).toEqual(hex("00000002 00000001"));
  });

  it("can be closed before and after the handshake", async () => {
    void connection.close();
    expect(stream.isEnded).toBe(true);
    stream.hangUp();
    await connection.closed;
    stream = new RecordingStream();
    connection = new NbdConnection({ stream, exports }, dependencies);
    stream.deliver(Buffer.concat([go, read]));
    const closing = connection.close();
    await clock.advance(1);
    expect(stream.writes.at(-1)).toHaveLength(16 + 512);
    expect(stream.isEnded).toBe(true);
    stream.hangUp();
    await closing;
  });

  it("serves without a handshake, as the kernel wants it", async () => {
    const kernel = new RecordingStream();
    const session = serveTransmission(kernel, new MemoryDevice({ sizeBytes: 4096 }), dependencies);
    kernel.deliver(read);
    await clock.advance(1);
    expect(kernel.written).toHaveLength(16 + 512);
    const closing = session.close();
    expect(kernel.isEnded).toBe(true);
    kernel.hangUp();
    await closing;
  });
});
