import { AppError } from "../../src/base/errors.js";
import { LUN_ZERO } from "../../src/base/lun.js";
import type { ByteStream, Endpoint, Listener } from "../../src/transport/transport.js";
import { LoginStage, RESERVED_TAG } from "../../src/wire/constants.js";
import { decodePdu } from "../../src/wire/decode.js";
import { encodePdu } from "../../src/wire/encode.js";
import { Framer } from "../../src/wire/framer.js";
import type { LoginRequestPdu, Pdu, ScsiCommandPdu, TargetPdu } from "../../src/wire/pdu.js";
import { decodeTextKeys, encodeTextKeys } from "../../src/wire/text-keys.js";

const NO_DATA = Buffer.alloc(0);
type WithoutSequence<T> = T extends unknown ? Omit<T, "statSn" | "expCmdSn" | "maxCmdSn"> : never;
/** A target PDU whose sequence numbers the connection fills in unless the test gives its own. */
export type ScriptedPdu = WithoutSequence<TargetPdu> & {
  readonly statSn?: number;
  readonly expCmdSn?: number;
  readonly maxCmdSn?: number;
};

export interface ScriptedTargetOptions {
  readonly endpoint: Endpoint;
  /** Answers of the operational stage. */
  readonly keys?: Readonly<Record<string, string>>;
  readonly portalGroupTag?: number;
  /** Commands the target takes beyond those it has received. */
  readonly windowSize?: number;
  /** StatSN of the first login response of each connection; default 100. */
  readonly firstStatSn?: number;
  /** What happens to every PDU in full feature phase; default: it is only recorded. */
  readonly onPdu?: (connection: ScriptedConnection, pdu: Pdu) => void;
}

/** A target that says what a test tells it to say: login is played by itself, everything after it by the test. */
export class ScriptedTarget {
  readonly connections: ScriptedConnection[] = [];
  readonly options: ScriptedTargetOptions;
  onPdu: NonNullable<ScriptedTargetOptions["onPdu"]>;
  /** Status class and detail for the next logins; undefined lets them in. */
  loginRefusal: { readonly statusClass: number; readonly statusDetail: number; readonly address?: string } | undefined;
  keys: Readonly<Record<string, string>>;
  /** Called in the same breath as the last login response is sent. */
  onLoggedIn: ((connection: ScriptedConnection) => void) | undefined;
  #nextTsih = 1;

  private constructor(options: ScriptedTargetOptions) {
    this.options = options;
    this.keys = options.keys ?? {};
    this.onPdu = options.onPdu ?? ((): void => undefined);
  }

  static async listen(listener: Listener, options: ScriptedTargetOptions): Promise<ScriptedTarget> {
    const target = new ScriptedTarget(options);
    await listener.listen(options.endpoint, (stream) => {
      target.connections.push(new ScriptedConnection(stream, target));
    });
    return target;
  }

  /** The latest connection. */
  get connection(): ScriptedConnection {
    return this.connections.at(-1)!;
  }

  /** PDUs that are to be treated as lost on the way: recorded, and nothing else. */
  ignores: (pdu: Pdu) => boolean = () => false;

  takeTsih(): number {
    this.#nextTsih += 1;
    return this.#nextTsih - 1;
  }
}

export class ScriptedConnection {
  readonly logins: LoginRequestPdu[] = [];
  /** PDUs received in full feature phase. */
  readonly received: Pdu[] = [];
  isClosed = false;
  statSn: number;
  /** Of the session: shared by its connections. */
  numbers: { expCmdSn: number; readonly early: Set<number> } = { expCmdSn: 0, early: new Set() };
  cid = 0;
  /** The next PDU goes out with a wrong data digest, or with a changed header; digests must be in use. */
  spoilNext = false;
  spoilNextHeader = false;
  readonly #stream: ByteStream;
  readonly #target: ScriptedTarget;
  readonly #framer: Framer;
  #digests = { header: false, data: false };
  #isFullFeature = false;
  #corked: Buffer[] | undefined;

  constructor(stream: ByteStream, target: ScriptedTarget) {
    this.#stream = stream;
    this.#target = target;
    this.statSn = target.options.firstStatSn ?? 100;
    this.#framer = new Framer(
      { maxDataSegmentLength: 1 << 24, digests: this.#digests },
      {
        placeData: () => undefined,
        onPdu: (raw) => {
          if (raw.isDataDigestGood) this.#receive(decodePdu(Buffer.from(raw.header), raw.ahs, raw.data));
          else this.close();
        },
      },
    );
    stream.start({
      onData: (chunk) => {
        if (!this.isClosed) this.#push(chunk);
      },
      onClose: () => (this.isClosed = true),
    });
  }

  get expCmdSn(): number {
    return this.numbers.expCmdSn;
  }

  set expCmdSn(value: number) {
    this.numbers.expCmdSn = value;
  }

  /** Sends a PDU; the sequence numbers are right unless given. A PDU that has a status number uses it up. */
  send(pdu: ScriptedPdu): void {
    const isUnnumbered =
      pdu.type === "ready-to-transfer" ||
      (pdu.type === "nop-in" && pdu.initiatorTaskTag === RESERVED_TAG) ||
      (pdu.type === "scsi-data-in" && !pdu.hasStatus);
    const full = {
      statSn: this.statSn,
      expCmdSn: this.expCmdSn,
      maxCmdSn: (this.expCmdSn + (this.#target.options.windowSize ?? 32) - 1) >>> 0,
      ...pdu,
    };
    if (!isUnnumbered) this.statSn = (full.statSn + 1) >>> 0;
    this.sendBytes(this.#spoiled(encodePdu(full, this.#digests)));
  }

  /** Turns a bit of the data segment or of the header over, once, when the test wants that. */
  #spoiled(chunks: readonly Buffer[]): readonly Buffer[] {
    if (!this.spoilNext && !this.spoilNextHeader) return chunks;
    const bytes = Buffer.concat(chunks);
    // The last byte of the data digest; the last of the header, which says nothing of lengths.
    const index = this.spoilNext ? bytes.length - 1 : 47;
    bytes[index] = (bytes[index] ?? 0) ^ 1;
    this.spoilNext = false;
    this.spoilNextHeader = false;
    return [bytes];
  }

  sendBytes(chunks: readonly Buffer[]): void {
    if (this.#corked !== undefined) {
      this.#corked.push(...chunks);
      return;
    }
    this.#stream.write(chunks.map((chunk) => Buffer.from(chunk)));
  }

  /** A SCSI Response. */
  respond(
    command: { readonly initiatorTaskTag: number },
    response: {
      readonly status?: number;
      readonly response?: number;
      readonly sense?: Buffer;
      readonly underflow?: number;
      readonly overflow?: number;
      readonly data?: Buffer;
      readonly statSn?: number;
      readonly snackTag?: number;
      readonly expDataSn?: number;
    } = {},
  ): void {
    const { sense } = response;
    const framed = sense === undefined ? NO_DATA : Buffer.concat([Buffer.from([0, sense.length]), sense]);
    this.send({
      type: "scsi-response",
      response: response.response ?? 0,
      status: response.status ?? 0,
      initiatorTaskTag: command.initiatorTaskTag,
      snackTag: response.snackTag ?? 0,
      expDataSn: response.expDataSn ?? 0,
      isBidirectionalOverflow: false,
      isBidirectionalUnderflow: false,
      isOverflow: response.overflow !== undefined,
      isUnderflow: response.underflow !== undefined,
      bidirectionalResidualCount: 0,
      residualCount: response.underflow ?? response.overflow ?? 0,
      data: response.data ?? framed,
      ...(response.statSn === undefined ? {} : { statSn: response.statSn }),
    });
  }

  /** The bytes of what `act` would send. */
  capture(act: () => void): Buffer {
    this.#corked = [];
    act();
    const bytes = Buffer.concat(this.#corked);
    this.#corked = undefined;
    return bytes;
  }

  /** One Data-In; with `status` the last one of its command. */
  dataIn(
    command: { readonly initiatorTaskTag: number },
    part: {
      readonly data: Buffer;
      readonly bufferOffset?: number;
      readonly dataSn?: number;
      readonly status?: number;
      readonly underflow?: number;
      readonly statSn?: number;
      /** Asks for a DataACK with this tag. */
      readonly acknowledge?: number;
    },
  ): void {
    this.send({
      type: "scsi-data-in",
      isFinal: part.status !== undefined,
      isAcknowledgeRequested: part.acknowledge !== undefined,
      hasStatus: part.status !== undefined,
      isOverflow: false,
      isUnderflow: part.underflow !== undefined,
      status: part.status ?? 0,
      lun: LUN_ZERO,
      initiatorTaskTag: command.initiatorTaskTag,
      targetTransferTag: part.acknowledge ?? RESERVED_TAG,
      dataSn: part.dataSn ?? 0,
      bufferOffset: part.bufferOffset ?? 0,
      residualCount: part.underflow ?? 0,
      data: part.data,
      ...(part.statSn === undefined ? {} : { statSn: part.statSn }),
    });
  }

  /** The answer to a ping. */
  pong(ping: { readonly initiatorTaskTag: number }): void {
    this.send({
      type: "nop-in",
      lun: LUN_ZERO,
      initiatorTaskTag: ping.initiatorTaskTag,
      targetTransferTag: RESERVED_TAG,
      data: NO_DATA,
    });
  }

  /** Refuses a PDU that was received. */
  reject(reason: number, pdu: Pdu, statSn?: number): void {
    const header = encodePdu(pdu, { header: false, data: false })[0] ?? NO_DATA;
    this.send({
      type: "reject",
      reason,
      dataSnOrR2tSn: 0,
      data: Buffer.from(header.subarray(0, 48)),
      ...(statSn === undefined ? {} : { statSn }),
    });
  }

  /** The answer to a logout. */
  loggedOut(request: { readonly initiatorTaskTag: number }, response = 0, time2Wait = 0): void {
    this.send({
      type: "logout-response",
      response,
      initiatorTaskTag: request.initiatorTaskTag,
      time2Wait,
      time2Retain: 0,
    });
  }

  /** The answer to a task management function. */
  managed(request: { readonly initiatorTaskTag: number }, response = 0): void {
    this.send({
      type: "task-management-response",
      response,
      additionalResponse: 0,
      initiatorTaskTag: request.initiatorTaskTag,
    });
  }

  readyToTransfer(
    command: ScsiCommandPdu,
    part: { readonly r2tSn: number; readonly offset: number; readonly length: number; readonly tag: number },
  ): void {
    this.send({
      type: "ready-to-transfer",
      lun: command.lun,
      initiatorTaskTag: command.initiatorTaskTag,
      targetTransferTag: part.tag,
      r2tSn: part.r2tSn,
      bufferOffset: part.offset,
      desiredDataTransferLength: part.length,
    });
  }

  /** What was received of one type. */
  ofType<T extends Pdu["type"]>(type: T): Extract<Pdu, { type: T }>[] {
    return this.received.filter((pdu): pdu is Extract<Pdu, { type: T }> => pdu.type === type);
  }

  close(): void {
    this.isClosed = true;
    this.#stream.destroy();
  }

  /** Bytes that make no sense end the connection, as a target does at ErrorRecoveryLevel 0. */
  #push(chunk: Buffer): void {
    try {
      this.#framer.push(chunk);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      this.close();
    }
  }

  #receive(pdu: Pdu): void {
    if (this.isClosed) return;
    if (!this.#isFullFeature) {
      if (pdu.type !== "login-request") throw new Error(`${pdu.type} before the full feature phase`);
      this.#login(pdu);
      return;
    }
    this.received.push(pdu);
    if ("cmdSn" in pdu && "isImmediate" in pdu && !pdu.isImmediate && !this.#target.ignores(pdu)) {
      this.#count(pdu.cmdSn);
    }
    this.#target.onPdu(this, pdu);
  }

  /** A command may come early when the session has several connections. */
  #count(cmdSn: number): void {
    const { early } = this.numbers;
    if (((cmdSn - this.expCmdSn) | 0) >= 0) early.add(cmdSn);
    while (early.delete(this.expCmdSn)) this.expCmdSn = (this.expCmdSn + 1) >>> 0;
  }

  #login(request: LoginRequestPdu): void {
    this.logins.push(request);
    this.cid = request.cid;
    const session = request.tsih === 0 ? undefined : this.#target.connections.find((other) => other !== this);
    if (session === undefined) this.expCmdSn = request.cmdSn;
    else this.numbers = session.numbers;
    const { loginRefusal, options } = this.#target;
    const isSecurity = request.currentStage === LoginStage.securityNegotiation;
    const isLast = request.nextStage === LoginStage.fullFeature && request.isTransit;
    const answers: [string, string][] = [];
    if (loginRefusal !== undefined) {
      if (loginRefusal.address !== undefined) answers.push(["TargetAddress", loginRefusal.address]);
    } else if (isSecurity) {
      answers.push(["TargetPortalGroupTag", String(options.portalGroupTag ?? 1)], ["AuthMethod", "None"]);
    } else {
      answers.push(...this.#operationalAnswers(decodeTextKeys(request.data)));
    }
    this.#corked = [];
    this.send({
      type: "login-response",
      isTransit: loginRefusal === undefined && request.isTransit,
      isContinued: false,
      currentStage: request.currentStage,
      nextStage: request.nextStage,
      versionMax: 0,
      versionActive: 0,
      isid: request.isid,
      tsih: request.tsih !== 0 ? request.tsih : isLast && loginRefusal === undefined ? this.#target.takeTsih() : 0,
      initiatorTaskTag: request.initiatorTaskTag,
      statusClass: loginRefusal?.statusClass ?? 0,
      statusDetail: loginRefusal?.statusDetail ?? 0,
      data: encodeTextKeys(answers),
    });
    if (isLast && loginRefusal === undefined) this.#enterFullFeature(answers, request);
    const bytes = Buffer.concat(this.#corked);
    this.#corked = undefined;
    this.sendBytes([bytes]);
  }

  /** Every offer is taken as it is, except where the test has its own answer. */
  #operationalAnswers(offers: readonly (readonly [string, string])[]): [string, string][] {
    const { keys } = this.#target;
    const declared = new Set(["MaxRecvDataSegmentLength"]);
    const answers = offers
      .filter(([key]) => !declared.has(key))
      .map(([key, value]): [string, string] => [key, keys[key] ?? value.split(",")[0] ?? ""]);
    const declaration = keys["MaxRecvDataSegmentLength"];
    if (declaration !== undefined) answers.push(["MaxRecvDataSegmentLength", declaration]);
    return answers;
  }

  #enterFullFeature(answers: readonly (readonly [string, string])[], { tsih, cid, isid }: LoginRequestPdu): void {
    this.#isFullFeature = true;
    // Reinstatement of the session, or of a connection (RFC 7143 §6.3.4, §6.3.5): the old one ends before this login does.
    for (const other of this.#target.connections) {
      const isSameSession = other.logins[0]?.isid.equals(isid) === true;
      if (other !== this && !other.isClosed && isSameSession && (tsih === 0 || other.cid === cid)) other.close();
    }
    const uses = (name: string): boolean => answers.some(([key, value]) => key === name && value === "CRC32C");
    this.#digests = { header: uses("HeaderDigest"), data: uses("DataDigest") };
    this.#framer.setDigests(this.#digests);
    this.#target.onLoggedIn?.(this);
  }
}
