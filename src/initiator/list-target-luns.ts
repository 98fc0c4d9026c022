import { AppError } from "../base/errors.js";
import { type Lun, formatLun } from "../base/lun.js";
import { openIscsiLun } from "../block/iscsi-lun.js";
import { listLuns } from "../discovery/list-luns.js";
import { FULL_INQUIRY_BYTES, decodeInquiry } from "../scsi/inquiry.js";
import { inquiry } from "../scsi/cdb.js";
import type { SessionDependencies, SessionOptions } from "../session/session-options.js";
import { Session } from "../session/session.js";
import type { ScsiResult } from "../session/task.js";

/** One unit of a target, for people. Sizes are 0 and texts empty where the unit did not tell. */
export interface LunDescription {
  /** Decimal, or 16 hexadecimal digits for a LUN with more levels. */
  readonly lun: string;
  readonly deviceType: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly vendor: string;
  readonly product: string;
  readonly serial: string;
  readonly id: string;
}

const deviceTypes: Readonly<Record<number, string>> = {
  0x00: "disk",
  0x01: "tape",
  0x05: "cd/dvd",
  0x08: "changer",
  0x0c: "controller",
  0x0d: "enclosure",
  0x11: "object",
};

/**
 * Logs in to a target, asks which units it has and what each is, logs out. Rejects with the errors of the login, of the
 * session, and DiscoveryError; a single unit that cannot be read is listed with what is known of it.
 */
export async function listTargetLuns(
  options: Omit<SessionOptions, "sessionType">,
  dependencies: SessionDependencies,
  signal?: AbortSignal,
): Promise<LunDescription[]> {
  const session = await Session.open(options, dependencies, signal);
  const onAbort = (): void => session.close();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const descriptions: LunDescription[] = [];
    for (const lun of await listLuns(session)) descriptions.push(await describeLun(session, lun, dependencies));
    return descriptions;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    await session.logout().catch(() => undefined);
  }
}

async function describeLun(session: Session, lun: Lun, dependencies: SessionDependencies): Promise<LunDescription> {
  const blank = { lun: formatLun(lun), sizeBytes: 0, logicalBlockBytes: 0, serial: "", id: "" };
  const data = await readInquiry(session, lun);
  if (data === undefined) return { ...blank, deviceType: "unknown", vendor: "", product: "" };
  const { vendor, product } = data;
  const deviceType = deviceTypes[data.deviceType] ?? `type 0x${data.deviceType.toString(16)}`;
  if (data.peripheralQualifier !== 0 || data.deviceType !== 0) return { ...blank, deviceType, vendor, product };
  try {
    const device = await openIscsiLun(session, { lun }, dependencies);
    const { sizeBytes, logicalBlockBytes, identity } = device.info;
    await device.close();
    return {
      ...blank,
      deviceType,
      sizeBytes,
      logicalBlockBytes,
      vendor,
      product,
      serial: identity.serial,
      id: identity.id,
    };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    dependencies.logger.warn("a unit could not be read", { lun: formatLun(lun), reason: error.message });
    return { ...blank, deviceType, vendor, product };
  }
}

/** INQUIRY is answered whatever state the unit is in (SPC-5 §5.14), so one question is enough. */
async function readInquiry(session: Session, lun: Lun): Promise<ReturnType<typeof decodeInquiry> | undefined> {
  const dataIn = Buffer.alloc(FULL_INQUIRY_BYTES);
  const cdb = inquiry({ allocationLength: FULL_INQUIRY_BYTES });
  const result = await new Promise<ScsiResult>((resolve) => {
    session.execute({ lun, cdb, dataIn, allowUnderflow: true, onDone: resolve });
  });
  if (result.kind === "failed") throw result.error;
  return result.status === 0 ? decodeInquiry(dataIn.subarray(0, result.transferredBytes)) : undefined;
}
