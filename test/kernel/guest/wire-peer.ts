import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { RESERVED_TAG } from "../../../src/wire/constants.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { type DigestUse, encodePdu, NO_DIGESTS } from "../../../src/wire/encode.js";
import { Framer } from "../../../src/wire/framer.js";
import type { LoginResponsePdu, Pdu, ScsiCommandPdu } from "../../../src/wire/pdu.js";

type PduOf<T extends Pdu["type"]> = Extract<Pdu, { readonly type: T }>;

const MAX_DATA_SEGMENT = 8192;

/**
 * One connection of a hand-driven initiator: it sends exactly what it is told, numbers nothing by itself, and answers
 * nothing. To see what a target does when the rules are bent or a connection is lost.
 */
export class WirePeer {
  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #arrived: Pdu[] = [];
  #digests: DigestUse = NO_DIGESTS;
  #wake: (() => void) | undefined;
  isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#framer = new Framer(
      { maxDataSegmentLength: 1 << 18, digests: NO_DIGESTS },
      {
        placeData: () => undefined,
        onPdu: (raw) => {
          const pdu = decodePdu(Buffer.from(raw.header), raw.ahs, raw.data);
          this.#arrived.push(pdu);
          // The next PDU is the first one with digests.
          if (pdu.type === "login-response") this.#afterLogin(pdu);
          this.#wake?.();
        },
      },
    );
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.#framer.push(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.isClosed = true;
      this.#wake?.();
    });
  }

  static async connect(port: number, host = "127.0.0.1"): Promise<WirePeer> {
    const socket = createConnection({ host, port });
    await once(socket, "connect");
    return new WirePeer(socket);
  }

  /** `spoilDigest`: the last byte, that is the data digest, is wrong. */
  send(pdu: Pdu, options: { readonly spoilDigest?: boolean } = {}): void {
    const bytes = Buffer.concat(encodePdu(pdu, this.#digests));
    if (options.spoilDigest === true) bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    this.#socket.write(bytes);
  }

  /** The next PDU of one type; others that came before it are passed over. Undefined: nothing in time, or closed. */
  async next<T extends Pdu["type"]>(type: T, timeoutMs = 2000): Promise<PduOf<T> | undefined> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const index = this.#arrived.findIndex((pdu) => pdu.type === type);
      const found = this.#arrived[index];
      if (found !== undefined) {
        this.#arrived.splice(0, index + 1);
        return found as PduOf<T>;
      }
      if (this.isClosed || Date.now() >= deadline) return undefined;
      await this.#change(deadline - Date.now());
    }
  }

  /** Everything that arrives until `quietMs` pass without a PDU. */
  async all(quietMs = 400): Promise<Pdu[]> {
    for (;;) {
      const before = this.#arrived.length;
      await this.#change(quietMs);
      if (this.#arrived.length === before) return this.#arrived.splice(0);
    }
  }

  /** Does the target close within the time? */
  async closes(timeoutMs = 1500): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (!this.isClosed && Date.now() < deadline) await this.#change(deadline - Date.now());
    return this.isClosed;
  }

  kill(): void {
    this.#socket.resetAndDestroy();
  }

  /** One request with all keys, straight to the full feature phase. */
  async logIn(options: {
    readonly targetName: string;
    readonly isid: Buffer;
    readonly tsih?: number;
    readonly cid?: number;
    readonly cmdSn?: number;
    readonly expStatSn?: number;
    readonly keys: Readonly<Record<string, string>>;
  }): Promise<LoginResponsePdu> {
    const keys = {
      InitiatorName: "iqn.2026-11.test:wire",
      TargetName: options.targetName,
      MaxRecvDataSegmentLength: String(MAX_DATA_SEGMENT),
      ...options.keys,
    };
    this.send({
      ...{ type: "login-request", isTransit: true, isContinued: false, currentStage: 1, nextStage: 3 },
      ...{ versionMax: 0, versionMin: 0, isid: options.isid, tsih: options.tsih ?? 0, initiatorTaskTag: 1 },
      ...{ cid: options.cid ?? 0, cmdSn: options.cmdSn ?? 1, expStatSn: options.expStatSn ?? 0 },
      data: Buffer.from(
        Object.entries(keys)
          .map(([key, value]) => `${key}=${value}\0`)
          .join(""),
      ),
    });
    const answer = await this.next("login-response", 10_000);
    if (answer === undefined) throw new Error("no answer to the login");
    return answer;
  }

  #afterLogin(answer: LoginResponsePdu): void {
    if (!answer.isTransit || answer.statusClass !== 0) return;
    const keys = answer.data.toString("latin1").split("\0");
    this.#digests = { header: keys.includes("HeaderDigest=CRC32C"), data: keys.includes("DataDigest=CRC32C") };
    this.#framer.setDigests(this.#digests);
  }

  async #change(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}

interface CommandNumbers {
  readonly initiatorTaskTag: number;
  readonly cmdSn: number;
  readonly expStatSn: number;
}

/** READ(10) or WRITE(10) of 512-byte blocks from block 0; `data` is the immediate data. */
export function transfer(
  direction: "read" | "write",
  lengthBytes: number,
  numbers: CommandNumbers,
  data = Buffer.alloc(0),
): ScsiCommandPdu {
  const cdb = Buffer.alloc(16);
  cdb.writeUInt8(direction === "read" ? 0x28 : 0x2a, 0);
  cdb.writeUInt16BE(lengthBytes / 512, 7);
  return {
    ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: direction === "read" },
    ...{ isWrite: direction === "write", taskAttribute: 1, lun: LUN_ZERO, expectedDataTransferLength: lengthBytes },
    ...{ cdb, data, ...numbers },
  };
}

/** TEST UNIT READY. */
export function testUnitReady(numbers: CommandNumbers): ScsiCommandPdu {
  return {
    ...{ type: "scsi-command", isImmediate: false, isFinal: true, isRead: false, isWrite: false, taskAttribute: 1 },
    ...{ lun: LUN_ZERO, expectedDataTransferLength: 0, cdb: Buffer.alloc(16), data: Buffer.alloc(0), ...numbers },
  };
}

/** TASK REASSIGN (RFC 7143 §11.5): immediate, so it consumes no CmdSN. */
export function taskReassign(
  referencedTaskTag: number,
  expDataSn: number,
  numbers: CommandNumbers,
): PduOf<"task-management-request"> {
  return {
    ...{ type: "task-management-request", isImmediate: true, function: 8, lun: LUN_ZERO, ...numbers },
    ...{ referencedTaskTag, refCmdSn: RESERVED_TAG, expDataSn },
  };
}

/** The Data-Outs that answer one R2T with zeros, each of at most one segment. */
export function dataOuts(r2t: PduOf<"ready-to-transfer">, expStatSn: number): PduOf<"scsi-data-out">[] {
  const pdus: PduOf<"scsi-data-out">[] = [];
  const endsAt = r2t.bufferOffset + r2t.desiredDataTransferLength;
  for (let at = r2t.bufferOffset; at < endsAt; at += MAX_DATA_SEGMENT) {
    const lengthBytes = Math.min(MAX_DATA_SEGMENT, endsAt - at);
    pdus.push({
      ...{ type: "scsi-data-out", isFinal: at + lengthBytes === endsAt, lun: LUN_ZERO, expStatSn },
      ...{ initiatorTaskTag: r2t.initiatorTaskTag, targetTransferTag: r2t.targetTransferTag },
      ...{ dataSn: pdus.length, bufferOffset: at, data: Buffer.alloc(lengthBytes, 0x5a) },
    });
  }
  return pdus;
}
