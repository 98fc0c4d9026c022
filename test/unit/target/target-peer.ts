import { silentLogger } from "../../../src/base/logger.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { formatPortal } from "../../../src/base/portal.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import type { BlockDevice } from "../../../src/block/device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import type { TargetDefinition, TargetServerControl } from "../../../src/target/api.js";
import {
  createTargetServer,
  type TargetServerDependencies,
  type TargetServerOptions,
} from "../../../src/target/target-server.js";
import type { ByteStream, Listener } from "../../../src/transport/transport.js";
import { LoginStage, RESERVED_TAG, TaskAttribute } from "../../../src/wire/constants.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { encodePdu, NO_DIGESTS, type DigestUse } from "../../../src/wire/encode.js";
import { Framer } from "../../../src/wire/framer.js";
import type {
  InitiatorPdu,
  LoginRequestPdu,
  LoginResponsePdu,
  LogoutResponsePdu,
  NopOutPdu,
  ScsiCommandPdu,
  ScsiDataOutPdu,
  SnackRequestPdu,
  TargetPdu,
  TaskManagementRequestPdu,
} from "../../../src/wire/pdu.js";
import { decodeTextKeys, encodeTextKeys } from "../../../src/wire/text-keys.js";
import { VirtualTime } from "../../support/virtual-time.js";
import { PeerStream } from "./peer-stream.js";

export const TARGET_NAME = "iqn.2026-11.dev.hawser:unit";
export const INITIATOR_NAME = "iqn.2026-11.dev.hawser:peer";

const PORTAL = { host: "192.0.2.1", port: 3260 };

/** A target server without sockets, on a virtual clock. */
export class TargetWorld {
  readonly clock = new VirtualTime();
  readonly device: MemoryDevice;
  readonly server: TargetServerControl;
  readonly #portals: TargetServerOptions["portals"];
  readonly #accepts: ((stream: ByteStream) => void)[] = [];

  constructor(
    options: Partial<TargetServerOptions> & {
      access?: TargetDefinition["access"];
      devices?: BlockDevice[];
    } & Pick<TargetDefinition, "redirect" | "advertisedPortals" | "explicitAccessStates"> = {},
    dependencies: Partial<TargetServerDependencies> = {},
  ) {
    this.device = new MemoryDevice({ sizeBytes: 1_048_576, physicalBlockBytes: 512, id: "naa.3111222233334444" });
    const listener: Listener = {
      listen: (endpoint, onConnection) => {
        this.#accepts.push(onConnection);
        return Promise.resolve({ endpoint, close: () => Promise.resolve() });
      },
    };
    const { access = { kind: "any" }, devices = [this.device], ...others } = options;
    this.#portals = others.portals ?? [PORTAL];
    this.server = createTargetServer(
      { ...others, portals: this.#portals },
      { listener, clock: this.clock, random: new SeededRandom(1), logger: silentLogger, ...dependencies },
    );
    const luns = new Map(devices.map((device, index) => [index, device]));
    this.server.addTarget({ ...others, name: TARGET_NAME, luns, access });
  }

  /** A connection to one of the portals, by its place in the list. */
  async connect(portal = 0): Promise<TargetPeer> {
    if (this.#accepts.length === 0) await this.server.start();
    const peer = new TargetPeer(this, formatPortal(this.#portals[portal] ?? PORTAL));
    this.#accepts[portal]?.(peer.stream);
    return peer;
  }

  /** A further connection of the session of `first`, which shares its CmdSN and task tags. */
  async join(first: TargetPeer, changes: LoginChanges = {}): Promise<TargetPeer> {
    const peer = await this.connect(changes.portal);
    peer.counters = first.counters;
    const response = await peer.login({ tsih: first.tsih, cid: 2, ...changes });
    if (response.statusClass !== 0) throw new Error(`join refused: ${response.statusClass}/${response.statusDetail}`);
    return peer;
  }

  /** A connection that is through its login. */
  async login(changes: LoginChanges = {}): Promise<TargetPeer> {
    const peer = await this.connect(changes.portal);
    const response = await peer.login(changes);
    if (response.statusClass !== 0) throw new Error(`login refused: ${response.statusClass}/${response.statusDetail}`);
    return peer;
  }
}

export interface LoginChanges {
  readonly initiatorName?: string;
  readonly isid?: string;
  readonly keys?: Record<string, string>;
  readonly tsih?: number;
  readonly cid?: number;
  /** Place of the portal in the list. */
  readonly portal?: number;
}

/** An initiator that does exactly what a test tells it, right or wrong. */
export class TargetPeer {
  readonly stream: PeerStream;
  received: TargetPdu[] = [];
  readonly #world: TargetWorld;
  readonly #framer: Framer;
  #digests: DigestUse = NO_DIGESTS;
  /** CmdSN and task tags belong to the session: connections of one share them. */
  counters = { cmdSn: 100, tag: 1 };
  tsih = 0;
  cid = 1;
  /** StatSN after the last numbered response that came. */
  expStatSn = 0;

  /** `localAddress`: the portal it came to. */
  constructor(world: TargetWorld, localAddress: string) {
    this.#world = world;
    this.#framer = new Framer(
      { maxDataSegmentLength: 0xff_ffff, digests: NO_DIGESTS },
      {
        placeData: () => undefined,
        onPdu: (raw) => {
          const pdu = decodePdu(raw.header, raw.ahs, raw.data) as TargetPdu;
          this.received.push(pdu);
          if (isNumbered(pdu)) this.expStatSn = (pdu.statSn + 1) >>> 0;
        },
      },
    );
    this.stream = new PeerStream((bytes) => this.#framer.push(bytes), localAddress);
  }

  get cmdSn(): number {
    return this.counters.cmdSn;
  }

  set cmdSn(value: number) {
    this.counters.cmdSn = value;
  }

  useDigests(digests: DigestUse): void {
    this.#digests = digests;
    this.#framer.setDigests(digests);
  }

  /** Sends raw bytes. */
  async sendBytes(bytes: Buffer): Promise<void> {
    if (this.stream.closed === "open") this.stream.handlers?.onData(bytes);
    await this.#world.clock.advance(0);
  }

  async send(...pdus: InitiatorPdu[]): Promise<void> {
    await this.sendBytes(Buffer.concat(pdus.flatMap((pdu) => encodePdu(pdu, this.#digests))));
  }

  /** The next PDU of the target; fails when there is none. */
  next<Type extends TargetPdu["type"]>(type: Type): Extract<TargetPdu, { type: Type }> {
    const pdu = this.received.shift();
    if (pdu?.type !== type) throw new Error(`expected ${type}, got ${pdu === undefined ? "nothing" : describe(pdu)}`);
    return pdu as Extract<TargetPdu, { type: Type }>;
  }

  loginRequest(keys: Record<string, string>, changes: Partial<LoginRequestPdu> = {}): LoginRequestPdu {
    return {
      type: "login-request",
      isTransit: true,
      isContinued: false,
      currentStage: LoginStage.operationalNegotiation,
      nextStage: LoginStage.fullFeature,
      versionMax: 0,
      versionMin: 0,
      isid: Buffer.from("800000000001", "hex"),
      tsih: 0,
      initiatorTaskTag: 0x77,
      cid: this.cid,
      cmdSn: this.cmdSn,
      expStatSn: 0,
      data: encodeTextKeys(Object.entries(keys)),
      ...changes,
    };
  }

  /** One login request, straight to full feature phase. */
  async login(changes: LoginChanges = {}): Promise<LoginResponsePdu> {
    const keys = {
      InitiatorName: changes.initiatorName ?? INITIATOR_NAME,
      TargetName: TARGET_NAME,
      SessionType: "Normal",
      InitialR2T: "No",
      ImmediateData: "Yes",
      MaxRecvDataSegmentLength: "262144",
      ...changes.keys,
    };
    this.cid = changes.cid ?? 1;
    await this.send(
      this.loginRequest(keys, {
        isid: Buffer.from(changes.isid ?? "800000000001", "hex"),
        tsih: changes.tsih ?? 0,
      }),
    );
    const response = this.next("login-response");
    this.tsih = response.tsih;
    return response;
  }

  /** A command PDU with the next CmdSN and task tag. */
  command(cdbHex: string, changes: Partial<ScsiCommandPdu> = {}): ScsiCommandPdu {
    const cdb = Buffer.alloc(16);
    Buffer.from(cdbHex.replace(/ /g, ""), "hex").copy(cdb);
    const isImmediate = changes.isImmediate ?? false;
    const cmdSn = this.cmdSn;
    if (!isImmediate && changes.cmdSn === undefined) this.cmdSn = (this.cmdSn + 1) >>> 0;
    this.counters.tag += 1;
    return {
      type: "scsi-command",
      isImmediate,
      isFinal: true,
      isRead: false,
      isWrite: false,
      taskAttribute: TaskAttribute.simple,
      lun: LUN_ZERO,
      initiatorTaskTag: this.counters.tag,
      expectedDataTransferLength: 0,
      cmdSn,
      expStatSn: 0,
      cdb,
      data: Buffer.alloc(0),
      ...changes,
    };
  }

  /** Runs a command without Data-Out; collects its data. */
  async run(cdbHex: string, readBytes = 0): Promise<CommandResult> {
    return this.runPdu(this.command(cdbHex, { isRead: readBytes > 0, expectedDataTransferLength: readBytes }));
  }

  /** Runs a command whose Data-Out goes with it. */
  async runWrite(cdbHex: string, data: Buffer): Promise<CommandResult> {
    return this.runPdu(this.command(cdbHex, { isWrite: true, expectedDataTransferLength: data.length, data }));
  }

  async runPdu(pdu: ScsiCommandPdu): Promise<CommandResult> {
    await this.send(pdu);
    return this.result(pdu.initiatorTaskTag);
  }

  /** Takes the PDUs of one task out of what was received. */
  result(tag: number): CommandResult {
    const own = this.received.filter((pdu) => "initiatorTaskTag" in pdu && pdu.initiatorTaskTag === tag);
    for (const pdu of own) this.received.splice(this.received.indexOf(pdu), 1);
    const dataIn = own.filter((pdu) => pdu.type === "scsi-data-in");
    const data = Buffer.concat(dataIn.map((pdu) => pdu.data));
    const last = own.at(-1);
    if (last?.type === "scsi-data-in" && last.hasStatus) {
      const signed = last.isUnderflow ? -last.residualCount : last.residualCount;
      return { status: last.status, data, sense: Buffer.alloc(0), residual: signed, dataInCount: dataIn.length };
    }
    if (last?.type !== "scsi-response") throw new Error(`task ${tag} has no response`);
    const signed = last.isUnderflow ? -last.residualCount : last.residualCount;
    return { status: last.status, data, sense: last.data.subarray(2), residual: signed, dataInCount: dataIn.length };
  }

  /** Acknowledges all numbered responses that came (or another ExpStatSN) with a NOP-Out that asks for nothing. */
  async acknowledge(expStatSn = this.expStatSn): Promise<void> {
    await this.send({ ...nopOut(this, ""), initiatorTaskTag: RESERVED_TAG, expStatSn });
  }

  /** Asks for PDUs again. */
  async snack(changes: Partial<SnackRequestPdu>): Promise<void> {
    await this.send({
      type: "snack-request",
      snackType: 0,
      lun: LUN_ZERO,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: RESERVED_TAG,
      expStatSn: 0,
      begRun: 0,
      runLength: 0,
      ...changes,
    });
  }

  /** Logs out a connection, by default this one; returns the response code. */
  async logout(reason: number, cid = this.cid): Promise<LogoutResponsePdu> {
    const fields = { isImmediate: true, cmdSn: this.cmdSn, expStatSn: 0, initiatorTaskTag: 0x6000 };
    await this.send({ type: "logout-request", reason, cid, ...fields });
    return this.next("logout-response");
  }

  /** TASK REASSIGN to this connection; returns the response code. */
  async reassign(referencedTaskTag: number, expDataSn = 0): Promise<number> {
    await this.send(management(this, { function: 8, referencedTaskTag, expDataSn }));
    return this.next("task-management-response").response;
  }

  /** The connection breaks. */
  async break(): Promise<void> {
    this.stream.destroy();
    await this.#world.clock.advance(0);
  }

  /** Takes the unit attention every new nexus begins with. */
  async clearAttention(): Promise<void> {
    await this.run("00 00 00 00 00 00");
  }
}

export interface CommandResult {
  readonly status: number;
  readonly data: Buffer;
  readonly sense: Buffer;
  /** Positive for overflow, negative for underflow. */
  readonly residual: number;
  readonly dataInCount: number;
}

/** `key/asc/ascq` of fixed sense, or "good". */
export function outcomeOf(result: CommandResult): string {
  if (result.status === 0) return "good";
  if (result.status !== 2) return `status ${result.status.toString(16)}`;
  const hex = (value: number | undefined): string => (value ?? 0).toString(16).padStart(2, "0");
  return `${(result.sense[2] ?? 0).toString(16)}/${hex(result.sense[12])}/${hex(result.sense[13])}`;
}

export function textOf(pdu: { readonly data: Buffer }): Record<string, string> {
  return Object.fromEntries(decodeTextKeys(pdu.data));
}

export function nopOut(peer: TargetPeer, data = "ping"): NopOutPdu {
  return {
    type: "nop-out",
    isImmediate: true,
    lun: LUN_ZERO,
    initiatorTaskTag: 0x9999,
    targetTransferTag: RESERVED_TAG,
    cmdSn: peer.cmdSn,
    expStatSn: 0,
    data: Buffer.from(data),
  };
}

/** Does the PDU take a StatSN of its own (RFC 7143 §4.2.2.2)? */
function isNumbered(pdu: TargetPdu): boolean {
  if (pdu.type === "scsi-data-in") return pdu.hasStatus;
  if (pdu.type === "nop-in") return pdu.initiatorTaskTag !== RESERVED_TAG;
  return pdu.type !== "ready-to-transfer";
}

function describe(pdu: TargetPdu): string {
  return `${pdu.type}${"reason" in pdu ? ` reason ${pdu.reason}` : ""}`;
}

/** READ(10) and WRITE(10) of the first eight blocks. */
export const READ_8 = "28 00 00 00 00 00 00 00 08 00";
export const WRITE_8 = "2a 00 00 00 00 00 00 00 08 00";

/** A Data-Out PDU of one task. */
export function dataOut(tag: number, changes: Partial<ScsiDataOutPdu>): ScsiDataOutPdu {
  return {
    type: "scsi-data-out",
    isFinal: true,
    lun: LUN_ZERO,
    initiatorTaskTag: tag,
    targetTransferTag: RESERVED_TAG,
    expStatSn: 0,
    dataSn: 0,
    bufferOffset: 0,
    data: Buffer.alloc(0),
    ...changes,
  };
}

/** An immediate task management request. */
export function management(peer: TargetPeer, changes: Partial<TaskManagementRequestPdu>): TaskManagementRequestPdu {
  return {
    type: "task-management-request",
    isImmediate: true,
    function: 1,
    lun: LUN_ZERO,
    initiatorTaskTag: 0x5000,
    referencedTaskTag: RESERVED_TAG,
    cmdSn: peer.cmdSn,
    expStatSn: 0,
    refCmdSn: 0,
    expDataSn: 0,
    ...changes,
  };
}

/** A session past its first unit attention. */
export async function ready(keys: Record<string, string> = {}, world = new TargetWorld()): Promise<TargetPeer> {
  const peer = await world.login({ keys });
  await peer.clearAttention();
  return peer;
}
