import type { Clock } from "../../../src/base/clock.js";
import { createDeferred } from "../../../src/base/deferred.js";
import type { BlockDeviceInfo } from "../../../src/block/device.js";
import { ForwardingDevice } from "../../../src/block/forwarding-device.js";
import { BlockError } from "../../../src/block/errors.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { splitFilter } from "../../../src/block/split.js";
import { statsFilter } from "../../../src/block/stats.js";
import { validateFilter } from "../../../src/block/validate.js";
import { FaultDevice, type Fault, type FaultSubject } from "../../support/fault-device.js";

const faulty = (
  decide: (subject: FaultSubject) => Fault = () => undefined,
  options: Partial<ConstructorParameters<typeof MemoryDevice>[0]> = {},
): FaultDevice => new FaultDevice(new MemoryDevice({ sizeBytes: 1_048_576, ...options }), decide);

const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

describe("validateFilter", () => {
  it("lets nothing wrong reach the device", async () => {
    const inner = faulty();
    const device = validateFilter(inner);
    const bad = { offsetBytes: 1_048_576, lengthBytes: 512 };
    const refusal = { code: "BLOCK_INVALID_RANGE" };
    await expect(device.read(NaN, Buffer.alloc(512))).rejects.toMatchObject(refusal);
    await expect(device.read(0.5, Buffer.alloc(512))).rejects.toMatchObject(refusal);
    await expect(device.unmap([{ offsetBytes: 0, lengthBytes: 512 }, bad])).rejects.toMatchObject(refusal);
    await expect(device.writeZeroes(bad)).rejects.toMatchObject(refusal);
    await expect(device.blockStatus(bad)).rejects.toMatchObject(refusal);
    expect(inner.operations).toEqual([]);
  });

  it("does nothing for nothing", async () => {
    const inner = faulty();
    const device = validateFilter(inner);
    await device.read(512, Buffer.alloc(0));
    await device.write(512, Buffer.alloc(0));
    await device.unmap([]);
    await device.unmap([{ offsetBytes: 0, lengthBytes: 0 }]);
    await device.writeZeroes({ offsetBytes: 0, lengthBytes: 0 });
    expect(await device.blockStatus({ offsetBytes: 0, lengthBytes: 0 })).toEqual([]);
    expect(inner.operations).toEqual([]);
  });

  it("refuses changes of a read-only device, and reads it", async () => {
    const inner = faulty(undefined, { isReadOnly: true, id: "naa.6001" });
    const device = validateFilter(inner);
    const range = { offsetBytes: 0, lengthBytes: 512 };
    const refusal = { code: "BLOCK_READ_ONLY", message: expect.stringContaining("naa.6001") as string };
    await expect(device.write(0, Buffer.alloc(512))).rejects.toMatchObject(refusal);
    await expect(device.unmap([range])).rejects.toMatchObject(refusal);
    await expect(device.writeZeroes(range)).rejects.toMatchObject(refusal);
    await device.read(0, Buffer.alloc(512));
    expect(inner.operations.map(({ operation }) => operation)).toEqual(["read"]);
  });

  it("refuses what the device cannot do", async () => {
    class Plain extends ForwardingDevice {
      override get info(): BlockDeviceInfo {
        return { ...super.info, canUnmap: false, canWriteZeroes: false, canReportBlockStatus: false };
      }
    }
    const device = validateFilter(new Plain(new MemoryDevice({ sizeBytes: 4096 })));
    const range = { offsetBytes: 0, lengthBytes: 512 };
    const refusal = { code: "BLOCK_NOT_SUPPORTED" };
    await expect(device.unmap([range])).rejects.toMatchObject(refusal);
    await expect(device.writeZeroes(range)).rejects.toMatchObject(refusal);
    await expect(device.blockStatus(range)).rejects.toMatchObject(refusal);
  });
});

describe("splitFilter", () => {
  it("passes what fits in one piece and cuts the rest at multiples of the piece", async () => {
    const inner = faulty(undefined, { maxTransferBytes: 8192 });
    const device = splitFilter(inner);
    await device.read(512, Buffer.alloc(8192));
    expect(inner.operations.splice(0)).toEqual([{ operation: "read", offsetBytes: 512, lengthBytes: 8192 }]);
    await device.read(4096 + 512, Buffer.alloc(20_480));
    expect(inner.operations).toEqual([
      { operation: "read", offsetBytes: 4608, lengthBytes: 3584 },
      { operation: "read", offsetBytes: 8192, lengthBytes: 8192 },
      { operation: "read", offsetBytes: 16_384, lengthBytes: 8192 },
      { operation: "read", offsetBytes: 24_576, lengthBytes: 512 },
    ]);
  });

  it("cuts at a smaller piece where one is wanted, and never below a block", async () => {
    const inner = faulty(undefined, { maxTransferBytes: 65_536 });
    const device = splitFilter(inner, { maxPieceBytes: 8192 });
    await device.write(0, Buffer.alloc(16_384));
    await device.read(0, Buffer.alloc(4096));
    expect(inner.operations.splice(0)).toEqual([
      { operation: "write", offsetBytes: 0, lengthBytes: 8192 },
      { operation: "write", offsetBytes: 8192, lengthBytes: 8192 },
      { operation: "read", offsetBytes: 0, lengthBytes: 4096 },
    ]);
    expect(device.info).toMatchObject({ maxTransferBytes: 33_554_432, optimalTransferBytes: 8192 });
    const larger = splitFilter(inner, { maxPieceBytes: 1_048_576 });
    await larger.read(0, Buffer.alloc(65_536));
    expect(inner.operations.splice(0)).toHaveLength(1);
    const { logicalBlockBytes } = inner.info;
    await splitFilter(inner, { maxPieceBytes: 1 }).read(0, Buffer.alloc(2 * logicalBlockBytes));
    expect(inner.operations.map(({ lengthBytes }) => lengthBytes)).toEqual([logicalBlockBytes, logicalBlockBytes]);
  });

  it("keeps the smaller piece when the device changes", async () => {
    const memory = new MemoryDevice({ sizeBytes: 8192, maxTransferBytes: 8192 });
    const device = splitFilter(memory, { maxPieceBytes: 4096 });
    const infos: BlockDeviceInfo[] = [];
    device.onEvent((event) => event.kind === "info-changed" && infos.push(event.info));
    memory.resize(16_384);
    expect(infos).toEqual([device.info]);
    expect(device.info.optimalTransferBytes).toBe(4096);
    await device.read(8192, Buffer.alloc(8192));
  });

  it("announces that it takes more than the device", () => {
    const device = splitFilter(faulty(undefined, { maxTransferBytes: 65_536 }));
    expect(device.info.maxTransferBytes).toBe(33_554_432);
    expect(device.info.optimalTransferBytes).toBe(65_536);
    expect(device.info).toBe(device.info);
  });

  it("keeps a few pieces in flight, not all", async () => {
    const gate = createDeferred<undefined>();
    let inFlight = 0;
    let most = 0;
    const inner = faulty(
      () => {
        inFlight += 1;
        most = Math.max(most, inFlight);
        return gate.promise.then(() => {
          inFlight -= 1;
        });
      },
      { maxTransferBytes: 4096 },
    );
    const reading = splitFilter(inner).read(0, Buffer.alloc(65_536));
    await settle();
    expect(inFlight).toBe(4);
    gate.resolve(undefined);
    await reading;
    expect(most).toBe(4);
    expect(inner.operations).toHaveLength(16);
  });

  it("fails with the first error, starts no more pieces, and only when none is in flight", async () => {
    const slow = createDeferred<undefined>();
    const broken = new BlockError("BLOCK_IO", "broken");
    const inner = faulty(({ offsetBytes }) => (offsetBytes === 4096 ? broken : slow.promise), {
      maxTransferBytes: 4096,
    });
    let outcome: unknown;
    const writing = splitFilter(inner)
      .write(0, Buffer.alloc(65_536))
      .catch((error: unknown) => {
        outcome = error;
      });
    await settle();
    expect(outcome).toBeUndefined();
    slow.resolve(undefined);
    await writing;
    expect(outcome).toBe(broken);
    expect(inner.operations).toHaveLength(4);
  });

  it("follows the device when its limits change", async () => {
    const memory = new MemoryDevice({ sizeBytes: 8192, maxTransferBytes: 4096 });
    const device = splitFilter(memory);
    const infos: BlockDeviceInfo[] = [];
    device.onEvent((event) => event.kind === "info-changed" && infos.push(event.info));
    memory.resize(16_384);
    expect(device.info).toMatchObject({ sizeBytes: 16_384, maxTransferBytes: 33_554_432 });
    expect(infos).toEqual([device.info]);
    await device.read(8192, Buffer.alloc(8192));
  });
});

describe("statsFilter", () => {
  it("counts, times and passes errors on", async () => {
    let nowMs = 0;
    const clock: Clock = {
      nowMs: () => nowMs,
      wallTimeMs: () => 0,
      setTimer: () => ({ cancel: () => undefined }),
      defer: () => undefined,
    };
    const broken = new BlockError("BLOCK_IO", "broken");
    const gate = createDeferred<undefined>();
    const inner = faulty(({ operation }) =>
      operation === "flush" ? broken : operation === "read" ? gate.promise : undefined,
    );
    const device = statsFilter(inner, { clock });
    const reading = device.read(0, Buffer.alloc(4096));
    expect(device.stats().inFlight).toBe(1);
    nowMs = 25;
    gate.resolve(undefined);
    await reading;
    await device.write(0, Buffer.alloc(512));
    await device.unmap([
      { offsetBytes: 0, lengthBytes: 512 },
      { offsetBytes: 1024, lengthBytes: 1024 },
    ]);
    await expect(device.flush()).rejects.toBe(broken);
    const { inFlight, operations } = device.stats();
    expect(inFlight).toBe(0);
    expect(operations.read).toEqual({ completed: 1, failed: 0, bytes: 4096, totalMs: 25, maximumMs: 25 });
    expect(operations.write).toMatchObject({ completed: 1, bytes: 512 });
    expect(operations.unmap).toMatchObject({ completed: 1, bytes: 1536 });
    expect(operations.flush).toMatchObject({ completed: 0, failed: 1 });
  });
});
