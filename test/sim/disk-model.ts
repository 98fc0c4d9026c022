/**
 * What a disk may hold. Each write has a number, and each block it writes carries it, so that a block read back says
 * which write it is from. A block may hold what any write left there that no later one is known to have replaced.
 */

export const BLOCK_BYTES = 512;

/** The content of blocks that were never written, or were zeroed. */
const ZERO = 0;

interface Version {
  /** What the block says: the number of the write, or ZERO. */
  readonly content: number;
  readonly startedAt: number;
  /** When it was acknowledged or failed; later writes may replace it for certain from then on. */
  endedAt: number;
  /** From when on it can no longer be what the block holds. */
  replacedAt: number;
}

export interface ModelOperation {
  readonly kind: "write" | "zero";
  readonly firstBlock: number;
  readonly blocks: number;
  readonly content: number;
  readonly startedAt: number;
  readonly versions: readonly Version[];
}

export interface ModelRead {
  readonly firstBlock: number;
  readonly blocks: number;
  readonly startedAt: number;
}

const NEVER = Number.POSITIVE_INFINITY;

export class DiskModel {
  readonly #seed: number;
  readonly #blocks: Version[][];
  readonly #reads = new Set<ModelRead>();
  #time = 1;
  #nextContent = 1;
  /** Blocks that were compared, so that no complaint means something. */
  checkedBlocks = 0;

  constructor(blockCount: number, seed: number) {
    this.#seed = seed;
    const first = (): Version => ({ content: ZERO, startedAt: 0, endedAt: 0, replacedAt: NEVER });
    this.#blocks = Array.from({ length: blockCount }, () => [first()]);
  }

  beginWrite(kind: "write" | "zero", firstBlock: number, blocks: number): ModelOperation {
    const startedAt = this.#tick();
    const content = kind === "zero" ? ZERO : this.#nextContent;
    if (kind === "write") this.#nextContent += 1;
    const versions: Version[] = [];
    for (let block = firstBlock; block < firstBlock + blocks; block += 1) {
      const version = { content, startedAt, endedAt: NEVER, replacedAt: NEVER };
      this.#blocks[block]?.push(version);
      versions.push(version);
    }
    return { kind, firstBlock, blocks, content, startedAt, versions };
  }

  /** Acknowledged: whatever ended before this write began is gone from its blocks. */
  acknowledge(operation: ModelOperation): void {
    const now = this.#tick();
    for (const version of operation.versions) version.endedAt = now;
    for (let block = operation.firstBlock; block < operation.firstBlock + operation.blocks; block += 1) {
      for (const other of this.#blocks[block] ?? []) {
        if (other.endedAt < operation.startedAt && other.replacedAt === NEVER) other.replacedAt = now;
      }
      this.#prune(block);
    }
  }

  /** Failed: its blocks hold what it wrote, or what was there before; it will not change them any more. */
  fail(operation: ModelOperation): void {
    const now = this.#tick();
    for (const version of operation.versions) version.endedAt = now;
  }

  beginRead(firstBlock: number, blocks: number): ModelRead {
    const read = { firstBlock, blocks, startedAt: this.#tick() };
    this.#reads.add(read);
    return read;
  }

  abandonRead(read: ModelRead): void {
    this.#reads.delete(read);
  }

  /** Complaints about what was read. */
  endRead(read: ModelRead, data: Buffer): string[] {
    const now = this.#tick();
    this.#reads.delete(read);
    const complaints: string[] = [];
    for (let index = 0; index < read.blocks; index += 1) {
      const block = read.firstBlock + index;
      const complaint = this.#check(block, data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES), read, now);
      if (complaint !== undefined) complaints.push(complaint);
    }
    return complaints;
  }

  /** The bytes of a write: each block says whose it is, and every byte of it depends on that. */
  fill(operation: ModelOperation): Buffer {
    const data = Buffer.alloc(operation.blocks * BLOCK_BYTES);
    if (operation.content === ZERO) return data;
    for (let index = 0; index < operation.blocks; index += 1) {
      this.#stamp(
        data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES),
        operation.content,
        operation.firstBlock + index,
      );
    }
    return data;
  }

  #stamp(target: Buffer, content: number, block: number): void {
    target.writeUInt32BE(content, 0);
    target.writeUInt32BE(block, 4);
    target.writeUInt32BE(Math.imul(content ^ this.#seed, 0x9e37_79b1) >>> 0, 8);
    target.writeUInt32BE(Math.imul(block + content, 0x85eb_ca6b) >>> 0, 12);
    target.copy(target, 16, 0, 16);
    target.copy(target, 32, 0, 32);
    target.copy(target, 64, 0, 64);
    target.copy(target, 128, 0, 128);
    target.copy(target, 256, 0, 256);
  }

  #check(block: number, data: Buffer, read: ModelRead, now: number): string | undefined {
    this.checkedBlocks += 1;
    const content = data.readUInt32BE(0);
    const expected = Buffer.alloc(BLOCK_BYTES);
    if (content !== ZERO) this.#stamp(expected, content, block);
    if (!expected.equals(data)) return `block ${block} is torn or not its own: ${data.toString("hex", 0, 24)}…`;
    const versions = this.#blocks[block] ?? [];
    const isAllowed = versions.some((version) => version.content === content && version.replacedAt > read.startedAt);
    if (isAllowed) {
      this.#settle(block, content, read, now);
      return undefined;
    }
    const allowed = versions.filter((version) => version.replacedAt > read.startedAt).map((version) => version.content);
    return `block ${block} holds write ${content}, allowed: ${allowed.join(", ")}`;
  }

  /** Nothing was under way while it was read: what it held it goes on holding. */
  #settle(block: number, content: number, read: ModelRead, now: number): void {
    const versions = this.#blocks[block] ?? [];
    const live = versions.filter((version) => version.replacedAt === NEVER);
    if (live.length < 2 || live.some((version) => version.endedAt > read.startedAt)) return;
    for (const version of live) if (version.content !== content) version.replacedAt = now;
    this.#prune(block);
  }

  #prune(block: number): void {
    let oldest = this.#time;
    for (const { startedAt } of this.#reads) oldest = Math.min(oldest, startedAt);
    const versions = this.#blocks[block] ?? [];
    if (versions.length > 1) this.#blocks[block] = versions.filter((version) => version.replacedAt > oldest);
  }

  #tick(): number {
    this.#time += 1;
    return this.#time;
  }
}
