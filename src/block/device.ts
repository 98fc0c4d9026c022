/** What a block device says of itself. Immutable; a change brings a new object and a "changed" event. */
export interface BlockDeviceInfo {
  readonly sizeBytes: number;
  /** 512 or 4096: offsets and lengths are multiples of it. */
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  /** Largest read or write the device takes in one piece; larger ones are split by the split filter. */
  readonly maxTransferBytes: number;
  /** Preferred transfer size, 0 when not known. */
  readonly optimalTransferBytes: number;
  readonly isReadOnly: boolean;
  /** A volatile write cache: data is safe only after `flush` or with `fua`. */
  readonly hasVolatileCache: boolean;
  readonly canUnmap: boolean;
  /** Unmapped blocks read as zeroes. */
  readonly unmapReadsZeroes: boolean;
  readonly canWriteZeroes: boolean;
  readonly canReportBlockStatus: boolean;
  readonly unmapGranularityBytes: number;
  readonly identity: DeviceIdentity;
}

/** Names that stay with the medium (VPD 83, then 80), never a path or a kernel name. */
export interface DeviceIdentity {
  /** The strongest designator, canonical: `naa.6001405…`, `eui.0025…`, `t10.…`; empty when the device has none. */
  readonly id: string;
  readonly vendor: string;
  readonly product: string;
  readonly revision: string;
  readonly serial: string;
}

export interface WriteOptions {
  /** The data is on stable storage when the write is acknowledged. */
  readonly fua?: boolean;
}

export interface WriteZeroesOptions extends WriteOptions {
  /** The device may release the blocks (they read as zeroes all the same). */
  readonly mayUnmap?: boolean;
}

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** One run of blocks in the same state. */
export interface BlockExtent extends ByteRange {
  readonly isAllocated: boolean;
  readonly readsZeroes: boolean;
}

export type DeviceEvent =
  | { readonly kind: "info-changed"; readonly info: BlockDeviceInfo }
  | { readonly kind: "identity-changed"; readonly expected: DeviceIdentity; readonly found: DeviceIdentity }
  | { readonly kind: "available" }
  | { readonly kind: "unavailable"; readonly reason: string };

/**
 * A device of fixed-size blocks. Offsets and lengths are multiples of `logicalBlockBytes` and inside the device
 * (the validate filter enforces it). Operations may run concurrently and complete in any order; two that overlap
 * and are both in flight have no order between them. A promise that resolves means the whole operation was done:
 * a short transfer is an error. Errors are AppErrors (BlockError) with retry advice.
 */
export interface BlockDevice {
  readonly info: BlockDeviceInfo;
  /** Fills all of `target`. The device owns `target` until the promise settles. */
  read(offsetBytes: number, target: Buffer): Promise<void>;
  /** Writes all of `source`; the device borrows it until the promise settles. */
  write(offsetBytes: number, source: Buffer, options?: WriteOptions): Promise<void>;
  /** Everything acknowledged before the call is on stable storage when it resolves. */
  flush(): Promise<void>;
  /** Releases blocks; a hint only in so far as the blocks may keep their data if `unmapReadsZeroes` is false. */
  unmap(ranges: readonly ByteRange[]): Promise<void>;
  writeZeroes(range: ByteRange, options?: WriteZeroesOptions): Promise<void>;
  /** The extents that cover `range` in order, without gaps; may cover less than asked, never nothing. */
  blockStatus(range: ByteRange): Promise<readonly BlockExtent[]>;
  /** Listens for changes; the returned function stops it. */
  onEvent(listener: (event: DeviceEvent) => void): () => void;
  /** Releases what the device holds. Outstanding operations settle first. */
  close(): Promise<void>;
}
