import { MAX_NBD_REQUEST_BYTES } from "../base/limits.js";
import type { BlockDevice, BlockDeviceInfo, BlockExtent } from "../block/device.js";
import { Command, CommandFlag, NbdErrno } from "./constants.js";
import type { NbdRequest } from "./request.js";

const allowedFlags: Readonly<Record<number, number>> = {
  [Command.READ]: CommandFlag.DF,
  [Command.WRITE]: CommandFlag.FUA,
  // Clients set FUA on a flush here and there; it changes nothing.
  [Command.FLUSH]: CommandFlag.FUA,
  [Command.TRIM]: CommandFlag.FUA,
  [Command.WRITE_ZEROES]: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
  [Command.BLOCK_STATUS]: CommandFlag.REQ_ONE,
};

/** Commands that take a whole number of blocks inside the device. */
function refuseRange(request: NbdRequest, info: BlockDeviceInfo): NbdErrno | 0 {
  const { offsetBytes, lengthBytes } = request;
  if (offsetBytes % info.logicalBlockBytes !== 0 || lengthBytes % info.logicalBlockBytes !== 0) return NbdErrno.EINVAL;
  if (offsetBytes + lengthBytes > info.sizeBytes) {
    const isWrite = request.type === Command.WRITE || request.type === Command.WRITE_ZEROES;
    return isWrite ? NbdErrno.ENOSPC : NbdErrno.EINVAL;
  }
  return 0;
}

function refuseChange(request: NbdRequest, info: BlockDeviceInfo): NbdErrno | 0 {
  if (info.isReadOnly) return NbdErrno.EPERM;
  if (request.type === Command.TRIM && !info.canUnmap) return NbdErrno.EINVAL;
  if (request.type === Command.WRITE_ZEROES && !info.canWriteZeroes) return NbdErrno.EINVAL;
  return refuseRange(request, info);
}

/** Why a request is not executed at all (the errno), or 0 when it is. */
export function refusal(
  request: NbdRequest,
  info: BlockDeviceInfo,
  session: { readonly isStructured: boolean; readonly hasBaseAllocation: boolean },
): NbdErrno | 0 {
  const allowed = allowedFlags[request.type];
  if (allowed === undefined || (request.flags & ~allowed) !== 0) return NbdErrno.EINVAL;
  switch (request.type) {
    case Command.READ:
      if (request.lengthBytes > MAX_NBD_REQUEST_BYTES) return NbdErrno.EINVAL;
      if (!session.isStructured && (request.flags & CommandFlag.DF) !== 0) return NbdErrno.EINVAL;
      return refuseRange(request, info);
    case Command.BLOCK_STATUS:
      if (!session.hasBaseAllocation || request.lengthBytes === 0) return NbdErrno.EINVAL;
      return refuseRange(request, info);
    case Command.FLUSH:
      return 0;
    default:
      return refuseChange(request, info);
  }
}

async function trim(device: BlockDevice, request: NbdRequest): Promise<void> {
  const { offsetBytes, lengthBytes } = request;
  if (lengthBytes > 0) await device.unmap([{ offsetBytes, lengthBytes }]);
  if ((request.flags & CommandFlag.FUA) !== 0) await device.flush();
}

async function writeZeroes(device: BlockDevice, request: NbdRequest): Promise<void> {
  const { offsetBytes, lengthBytes, flags } = request;
  if (lengthBytes === 0) return;
  await device.writeZeroes(
    { offsetBytes, lengthBytes },
    { mayUnmap: (flags & CommandFlag.NO_HOLE) === 0, fua: (flags & CommandFlag.FUA) !== 0 },
  );
}

async function blockStatus(device: BlockDevice, request: NbdRequest): Promise<readonly BlockExtent[]> {
  const { offsetBytes, lengthBytes } = request;
  const extents = await device.blockStatus({ offsetBytes, lengthBytes });
  return (request.flags & CommandFlag.REQ_ONE) === 0 ? extents : extents.slice(0, 1);
}

/** Executes a request without payload that `refusal` let pass; extents for BLOCK_STATUS, else nothing. */
export async function executeControl(
  device: BlockDevice,
  request: NbdRequest,
): Promise<readonly BlockExtent[] | undefined> {
  switch (request.type) {
    case Command.TRIM:
      await trim(device, request);
      return undefined;
    case Command.WRITE_ZEROES:
      await writeZeroes(device, request);
      return undefined;
    case Command.BLOCK_STATUS:
      return blockStatus(device, request);
    default:
      await device.flush();
      return undefined;
  }
}
