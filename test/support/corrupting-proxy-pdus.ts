/**
 * Just enough of RFC 7143 §11.2 to find the edges of PDUs in a TCP stream. Written apart from src/wire on purpose: a
 * tool that shared its framer would share its mistakes.
 */

const BHS_BYTES = 48;
const DIGEST_BYTES = 4;

const KINDS = new Map<number, PduKind>([
  [0x00, "nop-out"],
  [0x01, "scsi-command"],
  [0x02, "task-management-request"],
  [0x03, "login-request"],
  [0x04, "text-request"],
  [0x05, "data-out"],
  [0x06, "logout-request"],
  [0x10, "snack"],
  [0x20, "nop-in"],
  [0x21, "scsi-response"],
  [0x22, "task-management-response"],
  [0x23, "login-response"],
  [0x24, "text-response"],
  [0x25, "data-in"],
  [0x26, "logout-response"],
  [0x31, "r2t"],
  [0x32, "async-message"],
  [0x3f, "reject"],
]);

export type PduKind =
  | "nop-out"
  | "scsi-command"
  /** A SCSI Command with a data segment; a rule for `scsi-command` takes it too. */
  | "immediate-data"
  | "task-management-request"
  | "login-request"
  | "text-request"
  | "data-out"
  | "logout-request"
  | "snack"
  | "nop-in"
  | "scsi-response"
  | "task-management-response"
  | "login-response"
  | "text-response"
  | "data-in"
  | "logout-response"
  | "r2t"
  | "async-message"
  | "reject"
  | "unknown";

/** Which digests the PDUs of a connection carry now. */
export interface Digests {
  readonly header: boolean;
  readonly data: boolean;
}

export const NO_DIGESTS: Digests = { header: false, data: false };

/** One whole PDU and where its parts lie in `bytes`. The buffer is the receiver's. */
export interface CutPdu {
  readonly kind: PduKind;
  readonly bytes: Buffer;
  readonly headerDigestAt: number | undefined;
  readonly dataAt: number;
  /** Without padding. */
  readonly dataBytes: number;
  readonly dataDigestAt: number | undefined;
}

function kindOf(header: Buffer): PduKind {
  const kind = KINDS.get(header.readUInt8(0) & 0x3f) ?? "unknown";
  return kind === "scsi-command" && header.readUIntBE(5, 3) > 0 ? "immediate-data" : kind;
}

/** Cuts one direction of a connection into PDUs. */
export class PduCutter {
  /** Holds from the next PDU on. */
  digests: Digests = NO_DIGESTS;
  #pieces: Buffer[] = [];
  #lengthBytes = 0;

  /** Borrows `chunk` until the PDUs in it are complete; `onPdu` may change `digests`. */
  push(chunk: Buffer, onPdu: (pdu: CutPdu) => void): void {
    this.#pieces.push(chunk);
    this.#lengthBytes += chunk.length;
    for (;;) {
      if (this.#lengthBytes < BHS_BYTES) return;
      const header = this.#joined(BHS_BYTES);
      const digests = this.digests;
      const headerEnd = BHS_BYTES + header.readUInt8(4) * 4;
      const dataAt = headerEnd + (digests.header ? DIGEST_BYTES : 0);
      const dataBytes = header.readUIntBE(5, 3);
      const dataEnd = dataAt + Math.ceil(dataBytes / 4) * 4;
      const hasDataDigest = digests.data && dataBytes > 0;
      const endsAt = dataEnd + (hasDataDigest ? DIGEST_BYTES : 0);
      if (this.#lengthBytes < endsAt) return;
      onPdu({
        kind: kindOf(header),
        bytes: this.#take(endsAt),
        headerDigestAt: digests.header ? headerEnd : undefined,
        dataAt,
        dataBytes,
        dataDigestAt: hasDataDigest ? dataEnd : undefined,
      });
    }
  }

  /** The waiting bytes with at least `lengthBytes` of them in one buffer. */
  #joined(lengthBytes: number): Buffer {
    const [first] = this.#pieces;
    if (first !== undefined && first.length >= lengthBytes) return first;
    const whole = Buffer.concat(this.#pieces);
    this.#pieces = [whole];
    return whole;
  }

  #take(lengthBytes: number): Buffer {
    const whole = this.#joined(lengthBytes);
    const rest = whole.subarray(lengthBytes);
    this.#pieces[0] = rest;
    if (rest.length === 0) this.#pieces.shift();
    this.#lengthBytes -= lengthBytes;
    return Buffer.from(whole.subarray(0, lengthBytes));
  }
}

/** Follows a login by the target's answers, to know from which PDU on there are digests (§11.13, §13.1). */
export class LoginWatcher {
  #text = "";
  #isFullFeature = false;

  get isFullFeature(): boolean {
    return this.#isFullFeature;
  }

  /** Takes a Login Response; returns the digests when it is the one that ends the login. */
  take(pdu: CutPdu): Digests | undefined {
    this.#text += pdu.bytes.toString("latin1", pdu.dataAt, pdu.dataAt + pdu.dataBytes);
    const flags = pdu.bytes.readUInt8(1);
    const isLast = (flags & 0x80) !== 0 && (flags & 0x03) === 3 && pdu.bytes.readUInt8(36) === 0;
    if (!isLast) return undefined;
    this.#isFullFeature = true;
    const chosen = (key: string): boolean => this.#text.split("\0").includes(`${key}=CRC32C`);
    return { header: chosen("HeaderDigest"), data: chosen("DataDigest") };
  }
}
