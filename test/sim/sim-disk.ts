import type { Clock } from "../../src/base/clock.js";
import { sleep } from "../../src/base/clock.js";
import type { Random } from "../../src/base/random.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import { ForwardingDevice } from "../../src/block/forwarding-device.js";
import { BlockError } from "../../src/block/errors.js";
import type { BlockDevice, ByteRange } from "../../src/block/device.js";

/** What lasts: the medium, and how fast it is. */
export class SimDisk {
  readonly memory: MemoryDevice;
  readonly clock: Clock;
  readonly random: Random;
  readonly delayMs: readonly [minimum: number, maximum: number];
  /** Operations wait until this moment by the clock. */
  hangUntilMs = 0;
  #opened: OpenedDisk | undefined;
  #lag = { writesLeft: 0, forMs: 0 };

  constructor(
    options: {
      readonly sizeBytes: number;
      readonly id: string;
      readonly delayMs: readonly [minimum: number, maximum: number];
    },
    dependencies: { readonly clock: Clock; readonly random: Random },
  ) {
    this.memory = new MemoryDevice({ sizeBytes: options.sizeBytes, id: options.id });
    this.delayMs = options.delayMs;
    this.clock = dependencies.clock;
    this.random = dependencies.random;
  }

  /** The disk as one run of its target has it. */
  open(): BlockDevice {
    this.#opened = new OpenedDisk(this);
    return this.#opened;
  }

  /** So many of the next writes take longer than all others, each by itself. */
  lagWrites(writes: number, forMs: number): void {
    this.#lag = { writesLeft: writes, forMs };
  }

  /** How much longer a write that begins now takes. */
  takeLag(): number {
    if (this.#lag.writesLeft === 0) return 0;
    this.#lag.writesLeft -= 1;
    return this.#lag.forMs;
  }

  /** The power fails: what is under way is not done any more, what was acknowledged is there. */
  crash(): void {
    this.#opened?.lose();
  }
}

class OpenedDisk extends ForwardingDevice {
  readonly #disk: SimDisk;
  #isLost = false;

  constructor(disk: SimDisk) {
    super(disk.memory);
    this.#disk = disk;
  }

  lose(): void {
    this.#isLost = true;
  }

  override async read(offsetBytes: number, target: Buffer): Promise<void> {
    await this.#wait();
    await this.inner.read(offsetBytes, target);
    await this.#wait();
  }

  override async write(offsetBytes: number, source: Buffer): Promise<void> {
    await this.#wait(this.#disk.takeLag());
    await this.inner.write(offsetBytes, source);
    await this.#wait();
  }

  override async flush(): Promise<void> {
    await this.#wait();
  }

  override async unmap(ranges: readonly ByteRange[]): Promise<void> {
    await this.#wait();
    await this.inner.unmap(ranges);
  }

  override async writeZeroes(range: ByteRange): Promise<void> {
    await this.#wait();
    await this.inner.writeZeroes(range);
  }

  override close(): Promise<void> {
    return Promise.resolve();
  }

  async #wait(lagMs = 0): Promise<void> {
    const { delayMs, hangUntilMs, clock, random } = this.#disk;
    const [minimum, maximum] = delayMs;
    const hangMs = Math.max(0, hangUntilMs - clock.nowMs());
    const totalMs = lagMs + hangMs + minimum + (maximum - minimum) * random.fraction();
    if (totalMs > 0) await sleep(clock, totalMs);
    if (this.#isLost) throw new BlockError("BLOCK_CLOSED", "the power has failed");
  }
}
