import { silentLogger } from "../../src/base/logger.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { SystemRandom } from "../../src/base/system-random.js";
import type { BlockDevice } from "../../src/block/device.js";
import { createIsid } from "../../src/initiator/isid.js";
import type { ConnectVolumeRequest } from "../../src/initiator/connect-volume.js";
import type { SessionDependencies } from "../../src/session/session-options.js";
import { TcpDialer } from "../../src/transport/tcp.js";

/** Everything real: sockets, time, randomness. */
export function realDependencies(): SessionDependencies {
  const clock = new SystemClock();
  return { clock, random: new SystemRandom(), dialer: new TcpDialer({ clock }), logger: silentLogger };
}

export function volumeRequest(
  request: Pick<ConnectVolumeRequest, "portals" | "targetName" | "lun"> & Partial<ConnectVolumeRequest>,
): ConnectVolumeRequest {
  return {
    expectedId: "",
    initiatorName: "iqn.2026-11.test:host",
    isid: createIsid(new SystemRandom()),
    headerDigest: "none",
    dataDigest: "none",
    ...request,
  };
}

/** Writes patterns of many sizes and reads them back; throws at the first byte that differs. */
export async function verifyTransfers(device: BlockDevice, sizesBytes: readonly number[]): Promise<void> {
  const random = new SystemRandom();
  let offsetBytes = 0;
  const written: { offsetBytes: number; data: Buffer }[] = [];
  for (const sizeBytes of sizesBytes) {
    written.push({ offsetBytes, data: random.bytes(sizeBytes) });
    offsetBytes += sizeBytes;
  }
  await Promise.all(written.map(({ offsetBytes: at, data }) => device.write(at, data)));
  await device.flush();
  const whole = Buffer.alloc(offsetBytes);
  await device.read(0, whole);
  if (!whole.equals(Buffer.concat(written.map(({ data }) => data)))) throw new Error("data read in one piece differs");
  for (const { offsetBytes: at, data } of written) {
    const piece = Buffer.alloc(data.length);
    await device.read(at, piece);
    if (!piece.equals(data)) throw new Error(`data of ${data.length} bytes at ${at} differs`);
  }
}

/** From one block to several megabytes, across every burst and segment limit. */
export const MIXED_SIZES_BYTES = [512, 1024, 4096, 8192, 65_536, 66_048, 262_144, 262_656, 1_048_576, 3_145_728];
