import { createDeferred, type Deferred } from "../../../src/base/deferred.js";
import { silentLogger } from "../../../src/base/logger.js";
import { BlockError } from "../../../src/block/errors.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { BufferPool } from "../../../src/nbd/buffer-pool.js";
import { encodeRequest } from "../../../src/nbd/request.js";
import { NbdTransmission, type TransmissionOptions } from "../../../src/nbd/transmission.js";
import { FaultDevice, type Fault, type FaultSubject } from "../../support/fault-device.js";
import { RecordingStream } from "../../support/recording-stream.js";
import { VirtualTime } from "../../support/virtual-time.js";

const READ = 0;
const WRITE = 1;
const DISC = 2;
const FLUSH = 3;
const TRIM = 4;
const WRITE_ZEROES = 6;
const BLOCK_STATUS = 7;

interface Ask {
  readonly type: number;
  readonly cookie?: number;
  readonly flags?: number;
  readonly offset?: number;
  readonly length?: number;
}

function request({ type, cookie = 1, flags = 0, offset = 0, length = 0 }: Ask): Buffer {
  return encodeRequest({ flags, type, cookieHigh: 0, cookieLow: cookie, offsetBytes: offset, lengthBytes: length });
}

describe("the NBD transmission phase", () => {
  let clock: VirtualTime;
  let stream: RecordingStream;
  let memory: MemoryDevice;
  let device: FaultDevice;
  let pool: BufferPool;
  let transmission: NbdTransmission;
  let decide: (subject: FaultSubject) => Fault;

  const start = (options: Partial<TransmissionOptions> = {}): void => {
    transmission = new NbdTransmission(
      { device, isStructured: false, hasBaseAllocation: false, ...options },
      { stream, clock, logger: silentLogger, pool },
    );
    stream.start({
      onData: (chunk) => transmission.receive(chunk),
      onClose: () => transmission.streamClosed(),
    });
  };

  const settle = (): Promise<void> => clock.advance(1);

  /** Simple replies without data as [errno, cookie]. */
  const acknowledgements = (): [number, number][] => {
    const bytes = stream.written;
    const found: [number, number][] = [];
    for (let position = 0; position < bytes.length; position += 16) {
      expect(bytes.readUInt32BE(position)).toBe(0x67446698);
      found.push([bytes.readUInt32BE(position + 4), bytes.readUInt32BE(position + 12)]);
    }
    return found;
  };

  beforeEach(() => {
    clock = new VirtualTime();
    stream = new RecordingStream();
    memory = new MemoryDevice({ sizeBytes: 1_048_576 });
    decide = () => undefined;
    device = new FaultDevice(memory, (subject) => decide(subject));
    pool = new BufferPool({ maxIdleBytes: 1e7 });
    start();
  });

  it("writes what arrives in any pieces, and reads it back", async () => {
    const data = Buffer.alloc(1024, "moored");
    const bytes = Buffer.concat([request({ type: WRITE, cookie: 5, offset: 512, length: 1024 }), data]);
    for (let position = 0; position < bytes.length; position += 7)
      stream.deliver(bytes.subarray(position, position + 7));
    await settle();
    expect(acknowledgements()).toEqual([[0, 5]]);
    stream.writes.length = 0;
    stream.deliver(request({ type: READ, cookie: 6, offset: 512, length: 1024 }));
    await settle();
    expect(stream.written.subarray(0, 16).toString("hex")).toBe("6744669800000000" + "0000000000000006");
    expect(stream.written.subarray(16)).toEqual(data);
  });

  it("gathers the replies of one turn into one write", async () => {
    const requests = Array.from({ length: 10 }, (_, cookie) => request({ type: READ, cookie, length: 512 }));
    stream.deliver(Buffer.concat(requests));
    await settle();
    expect(stream.writes).toHaveLength(1);
    expect(stream.written).toHaveLength(10 * (16 + 512));
  });

  it("replies in the order in which the device completes", async () => {
    const slow = createDeferred<undefined>();
    decide = ({ offsetBytes }) => (offsetBytes === 0 ? slow.promise : undefined);
    const data = Buffer.alloc(512);
    stream.deliver(Buffer.concat([request({ type: WRITE, cookie: 1, length: 512 }), data]));
    stream.deliver(Buffer.concat([request({ type: WRITE, cookie: 2, offset: 512, length: 512 }), data]));
    await settle();
    expect(acknowledgements()).toEqual([[0, 2]]);
    slow.resolve(undefined);
    await settle();
    expect(acknowledgements()).toEqual([
      [0, 2],
      [0, 1],
    ]);
  });

  it("passes FUA, flush, trim and zeroes to the device", async () => {
    stream.deliver(
      Buffer.concat([
        request({ type: FLUSH, cookie: 1 }),
        request({ type: TRIM, cookie: 2, flags: 1, offset: 4096, length: 8192 }),
        request({ type: WRITE_ZEROES, cookie: 3, flags: 2 | 16, offset: 0, length: 4096 }),
      ]),
    );
    await settle();
    expect(acknowledgements().map(([errno]) => errno)).toEqual([0, 0, 0]);
    expect(device.operations.map(({ operation, lengthBytes }) => [operation, lengthBytes])).toEqual([
      ["flush", 0],
      ["unmap", 8192],
      ["writeZeroes", 4096],
      // Of the trim with FUA.
      ["flush", 0],
    ]);
  });

  it.each([
    ["a read outside", { type: READ, offset: 1_048_576, length: 512 }, 22],
    ["a read beyond 2^53", { type: READ, offset: 2 ** 60, length: 512 }, 22],
    ["a misaligned read", { type: READ, offset: 100, length: 512 }, 22],
    ["a read that is too long", { type: READ, length: 0x0200_0200 }, 22],
    ["an unknown command", { type: 77 }, 22],
    ["an unknown flag", { type: FLUSH, flags: 0x80 }, 22],
    ["DF without structured replies", { type: READ, flags: 4, length: 512 }, 22],
    ["block status that was not negotiated", { type: BLOCK_STATUS, length: 512 }, 22],
    ["zeroes outside", { type: WRITE_ZEROES, offset: 1_048_576, length: 512 }, 28],
  ])("refuses %s", async (_, ask, errno) => {
    stream.deliver(request(ask));
    stream.deliver(request({ type: FLUSH, cookie: 9 }));
    await settle();
    expect(acknowledgements()).toEqual(expect.arrayContaining([[errno, 1], [0, 9]])); // prettier-ignore
  });

  it("drops the data of a refused write and goes on behind it", async () => {
    const bytes = Buffer.concat([
      request({ type: WRITE, cookie: 1, offset: 1_048_576, length: 1024 }),
      Buffer.alloc(1024, 0x25),
      request({ type: FLUSH, cookie: 2 }),
    ]);
    stream.deliver(bytes.subarray(0, 500));
    stream.deliver(bytes.subarray(500));
    await settle();
    expect(acknowledgements()).toEqual([[28, 1], [0, 2]]); // prettier-ignore
    expect(device.operations.map(({ operation }) => operation)).toEqual(["flush"]);
  });

  it("refuses changes of a read-only device", async () => {
    start({ device: new MemoryDevice({ sizeBytes: 4096, isReadOnly: true }) });
    stream.deliver(Buffer.concat([request({ type: WRITE, length: 512 }), Buffer.alloc(512)]));
    stream.deliver(request({ type: TRIM, cookie: 2, length: 512 }));
    await settle();
    expect(acknowledgements()).toEqual([[1, 1], [1, 2]]); // prettier-ignore
  });

  it("tells the client the device's errors", async () => {
    decide = () => new BlockError("BLOCK_NO_SPACE", "the pool is full");
    stream.deliver(Buffer.concat([request({ type: WRITE, length: 512 }), Buffer.alloc(512)]));
    await settle();
    expect(acknowledgements()).toEqual([[28, 1]]);
  });

  it("answers reads, their errors and block status in chunks when that was negotiated", async () => {
    start({ isStructured: true, hasBaseAllocation: true });
    await memory.write(0, Buffer.alloc(65_536, 1));
    stream.deliver(request({ type: READ, cookie: 1, offset: 512, length: 512, flags: 4 }));
    await settle();
    expect(stream.written.toString("hex", 0, 28)).toBe(
      "668e33ef" + "0001" + "0001" + "0000000000000001" + "00000208" + "0000000000000200",
    );
    expect(stream.written).toHaveLength(28 + 512);
    stream.writes.length = 0;
    stream.deliver(request({ type: BLOCK_STATUS, cookie: 2, length: 131_072 }));
    await settle();
    expect(stream.written.toString("hex")).toBe(
      "668e33ef" +
        "0001" +
        "0005" +
        "0000000000000002" +
        "00000014" +
        "00000001" +
        "0001000000000000" +
        "0001000000000003",
    );
    stream.writes.length = 0;
    decide = () => new BlockError("BLOCK_IO", "medium error");
    stream.deliver(request({ type: READ, cookie: 3, length: 512 }));
    await settle();
    expect(stream.written.toString("hex", 0, 26)).toBe(
      "668e33ef" + "0001" + "8001" + "0000000000000003" + "00000012" + "00000005" + "000c",
    );
  });

  describe("backpressure", () => {
    let gates: Deferred<undefined>[];

    beforeEach(() => {
      gates = [];
      decide = () => {
        const gate = createDeferred<undefined>();
        gates.push(gate);
        return gate.promise;
      };
    });

    it("stops at the number of requests and goes on as they leave", async () => {
      start({ maxRequests: 4 });
      stream.deliver(
        Buffer.concat(Array.from({ length: 10 }, (_, cookie) => request({ type: READ, cookie, length: 512 }))),
      );
      await settle();
      expect(gates).toHaveLength(4);
      expect(stream.isPaused).toBe(true);
      for (let turn = 0; turn < 10; turn += 1) {
        gates[turn]?.resolve(undefined);
        await settle();
        expect(gates).toHaveLength(Math.min(10, 5 + turn));
        expect(transmission.requestsInFlight).toBe(Math.min(4, 9 - turn));
      }
      expect(stream.isPaused).toBe(false);
      expect(stream.written).toHaveLength(10 * (16 + 512));
    });

    it("counts payload until the reply has left", async () => {
      start({ maxBytes: 8192 });
      stream.isInstant = false;
      stream.deliver(Buffer.concat([1, 2, 3].map((cookie) => request({ type: READ, cookie, length: 4096 }))));
      await settle();
      gates.forEach((gate) => gate.resolve(undefined));
      await settle();
      expect(gates).toHaveLength(2);
      stream.confirm();
      expect(gates).toHaveLength(3);
    });

    it("lets one request pass that is larger than the bound", async () => {
      start({ maxBytes: 1024 });
      stream.deliver(request({ type: READ, length: 4096 }));
      await settle();
      expect(gates).toHaveLength(1);
    });

    it("keeps a header that arrived in pieces at the bound", async () => {
      start({ maxRequests: 1 });
      stream.deliver(request({ type: READ, cookie: 1, length: 512 }));
      const second = request({ type: READ, cookie: 2, length: 512 });
      stream.deliver(second.subarray(0, 20));
      stream.deliver(Buffer.concat([second.subarray(20), request({ type: READ, cookie: 3, length: 512 })]));
      await settle();
      for (let turn = 0; turn < 3; turn += 1) {
        gates[turn]?.resolve(undefined);
        await settle();
      }
      expect(stream.written).toHaveLength(3 * (16 + 512));
      expect(stream.isPaused).toBe(false);
    });
  });

  describe("the end", () => {
    it("DISC: what was asked is answered first", async () => {
      const gate = createDeferred<undefined>();
      decide = () => gate.promise;
      stream.deliver(Buffer.concat([request({ type: FLUSH, cookie: 3 }), request({ type: DISC })]));
      await settle();
      expect(stream.isEnded).toBe(false);
      gate.resolve(undefined);
      await settle();
      expect(acknowledgements()).toEqual([[0, 3]]);
      expect(stream.isEnded).toBe(true);
      await transmission.drained;
    });

    it("close: drops a write that has not arrived whole, takes no more", async () => {
      stream.deliver(Buffer.concat([request({ type: WRITE, length: 1024 }), Buffer.alloc(512)]));
      await transmission.close();
      stream.deliver(Buffer.alloc(512));
      stream.deliver(request({ type: FLUSH }));
      await settle();
      expect(device.operations).toEqual([]);
      expect(stream.isEnded).toBe(true);
    });

    it("a lost stream: operations settle, buffers come back, nothing is sent", async () => {
      const gate = createDeferred<undefined>();
      decide = () => gate.promise;
      stream.isInstant = false;
      stream.deliver(request({ type: READ, length: 4096 }));
      stream.hangUp();
      expect(pool.idleBytes).toBe(0);
      gate.resolve(undefined);
      await transmission.drained;
      expect(transmission.requestsInFlight).toBe(0);
      expect(pool.idleBytes).toBeGreaterThan(0);
      expect(stream.writes).toEqual([]);
    });

    it("a lost stream: replies that were being sent give their buffers back once", async () => {
      stream.isInstant = false;
      stream.deliver(request({ type: READ, length: 4096 }));
      await settle();
      expect(stream.writes).toHaveLength(1);
      stream.hangUp();
      await transmission.drained;
      const { idleBytes } = pool;
      stream.confirm();
      expect(pool.idleBytes).toBe(idleBytes);
      expect(transmission.requestsInFlight).toBe(0);
    });

    it.each([
      ["another magic", Buffer.alloc(28, 7)],
      ["a write longer than any allowed", request({ type: WRITE, length: 0xffff_fe00 })],
    ])("is at once after %s", async (_, bytes) => {
      stream.deliver(bytes);
      await settle();
      expect(stream.isDestroyed).toBe(true);
      await transmission.drained;
    });
  });
});
