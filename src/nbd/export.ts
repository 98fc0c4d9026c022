import type { BlockDevice, BlockDeviceInfo } from "../block/device.js";
import { TransmissionFlag } from "./constants.js";

/** Where a server finds what it serves. A `Map` of devices by export name is one. */
export interface NbdExports {
  get(name: string): BlockDevice | undefined;
  /** Names for a client that asks for the list. */
  keys(): Iterable<string>;
}

/** The export of a name. The empty name means the default: of a server with one export, that one. */
export function findExport(
  exports: NbdExports,
  name: string,
): { readonly name: string; readonly device: BlockDevice } | undefined {
  const device = exports.get(name);
  if (device !== undefined) return { name, device };
  const [only, ...others] = name === "" ? [...exports.keys()] : [];
  if (only === undefined || others.length > 0) return undefined;
  const onlyDevice = exports.get(only);
  return onlyDevice === undefined ? undefined : { name: only, device: onlyDevice };
}

/**
 * What a client may send for this device. FLUSH and FUA are always there: if the device has no volatile cache they
 * cost little, and its word may change. All connections act on the one device, so a flush on any covers writes
 * acknowledged on every other (CAN_MULTI_CONN). CACHE is not offered: there is no cache to fill.
 */
export function transmissionFlags(info: BlockDeviceInfo, options: { readonly isStructured: boolean }): number {
  let flags: number = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH | TransmissionFlag.CAN_MULTI_CONN;
  if (options.isStructured) flags |= TransmissionFlag.SEND_DF;
  if (info.isReadOnly) return flags | TransmissionFlag.READ_ONLY;
  flags |= TransmissionFlag.SEND_FUA;
  if (info.canUnmap) flags |= TransmissionFlag.SEND_TRIM;
  // A device says canWriteZeroes only when it does it by itself, without the data going over the wire: that is fast.
  if (info.canWriteZeroes) flags |= TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_FAST_ZERO;
  return flags;
}

/** A line for people about the device behind an export. */
export function describeExport(info: BlockDeviceInfo): string {
  const { vendor, product, id } = info.identity;
  return [vendor.trim(), product.trim(), id].filter((part) => part !== "").join(" ");
}
