import { HostError } from "./errors.js";
import { closeFd, errnoName, joinNetlinkGroup, netlinkReceive, netlinkSend, openNetlinkGeneric } from "./ffi.js";
import { sleep, type Clock } from "../base/clock.js";

/**
 * Generic netlink: messages of
 * ```
 *  0        4      6       8     12       16    17        18        20
 *  | length | type | flags | seq | port   | cmd | version | reserved | attributes…
 * ```
 * Little-endian here: netlink speaks the host's byte order, and every platform Hawser runs on has this one.
 */

const NLMSG_HEADER_BYTES = 16;
const GENERIC_HEADER_BYTES = 4;
const ATTRIBUTE_HEADER_BYTES = 4;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** An attribute to send: bytes, or attributes inside it. */
export interface NetlinkAttribute {
  readonly type: number;
  readonly value: Buffer | readonly NetlinkAttribute[];
}

/** An attribute with a 32-bit value. */
export function attributeU32(type: number, value: number): NetlinkAttribute {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return { type, value: bytes };
}

/** An attribute with a 64-bit value that is a safe integer. */
export function attributeU64(type: number, value: number): NetlinkAttribute {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value % 0x1_0000_0000, 0);
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), 4);
  return { type, value: bytes };
}

/** An attribute with a string and the zero byte after it. */
export function attributeString(type: number, value: string): NetlinkAttribute {
  return { type, value: Buffer.from(`${value}\0`) };
}

function align4(lengthBytes: number): number {
  return (lengthBytes + 3) & ~3;
}

/** Encodes attributes with their padding; a new buffer. */
export function encodeAttributes(attributes: readonly NetlinkAttribute[]): Buffer {
  const parts = attributes.map(({ type, value }) => {
    const isNested = !Buffer.isBuffer(value);
    const payload = isNested ? encodeAttributes(value) : value;
    const bytes = Buffer.alloc(align4(ATTRIBUTE_HEADER_BYTES + payload.length));
    bytes.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + payload.length, 0);
    bytes.writeUInt16LE(isNested ? type | NLA_F_NESTED : type, 2);
    payload.copy(bytes, ATTRIBUTE_HEADER_BYTES);
    return bytes;
  });
  return Buffer.concat(parts);
}

/** Attributes by type; of a repeated type all, in order. The values are views. Malformed: HOST_NETLINK_MALFORMED. */
export function decodeAttributes(bytes: Buffer): Map<number, readonly Buffer[]> {
  const attributes = new Map<number, Buffer[]>();
  let position = 0;
  while (position + ATTRIBUTE_HEADER_BYTES <= bytes.length) {
    const lengthBytes = bytes.readUInt16LE(position);
    const type = bytes.readUInt16LE(position + 2) & NLA_TYPE_MASK;
    if (lengthBytes < ATTRIBUTE_HEADER_BYTES || position + lengthBytes > bytes.length) {
      throw new HostError("HOST_NETLINK_MALFORMED", `netlink attribute ${type} has length ${lengthBytes}`);
    }
    const values = attributes.get(type) ?? [];
    values.push(bytes.subarray(position + ATTRIBUTE_HEADER_BYTES, position + lengthBytes));
    attributes.set(type, values);
    position += align4(lengthBytes);
  }
  return attributes;
}

export interface GenericMessage {
  readonly family: number;
  readonly command: number;
  readonly sequence: number;
  readonly attributes: readonly NetlinkAttribute[];
}

/** Encodes one request that asks for an acknowledgement; a new buffer. */
export function encodeRequestMessage(message: GenericMessage): Buffer {
  const attributes = encodeAttributes(message.attributes);
  const bytes = Buffer.alloc(NLMSG_HEADER_BYTES + GENERIC_HEADER_BYTES + attributes.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(message.family, 4);
  bytes.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK, 6);
  bytes.writeUInt32LE(message.sequence, 8);
  bytes.writeUInt8(message.command, 16);
  bytes.writeUInt8(1, 17);
  attributes.copy(bytes, NLMSG_HEADER_BYTES + GENERIC_HEADER_BYTES);
  return bytes;
}

/** What a datagram from the kernel contains. */
export type ReceivedMessage =
  /** The end of a request: errno 0 is success. */
  | { readonly kind: "acknowledgement"; readonly sequence: number; readonly errno: number }
  | {
      readonly kind: "message";
      readonly sequence: number;
      readonly family: number;
      readonly command: number;
      readonly attributes: ReadonlyMap<number, readonly Buffer[]>;
    };

/** Decodes every message of a datagram. Malformed: HOST_NETLINK_MALFORMED. */
export function decodeMessages(datagram: Buffer): readonly ReceivedMessage[] {
  const messages: ReceivedMessage[] = [];
  let position = 0;
  while (position + NLMSG_HEADER_BYTES <= datagram.length) {
    const lengthBytes = datagram.readUInt32LE(position);
    if (lengthBytes < NLMSG_HEADER_BYTES + GENERIC_HEADER_BYTES || position + lengthBytes > datagram.length) {
      throw new HostError("HOST_NETLINK_MALFORMED", `netlink message has length ${lengthBytes}`);
    }
    const bytes = datagram.subarray(position, position + lengthBytes);
    const type = bytes.readUInt16LE(4);
    const sequence = bytes.readUInt32LE(8);
    if (type === NLMSG_ERROR) {
      messages.push({ kind: "acknowledgement", sequence, errno: 0 - bytes.readInt32LE(NLMSG_HEADER_BYTES) });
    } else if (type === NLMSG_DONE) {
      messages.push({ kind: "acknowledgement", sequence, errno: 0 });
    } else {
      const attributes = decodeAttributes(bytes.subarray(NLMSG_HEADER_BYTES + GENERIC_HEADER_BYTES));
      messages.push({ kind: "message", sequence, family: type, command: bytes.readUInt8(16), attributes });
    }
    position += align4(lengthBytes);
  }
  return messages;
}

const CONTROL_FAMILY = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const CTRL_ATTR_MCAST_GROUPS = 7;
const CTRL_ATTR_MCAST_GRP_NAME = 1;
const CTRL_ATTR_MCAST_GRP_ID = 2;

export interface NetlinkFamily {
  readonly id: number;
  /** Numbers of the multicast groups by name. */
  readonly groups: ReadonlyMap<string, number>;
}

function parseFamily(attributes: ReadonlyMap<number, readonly Buffer[]>): NetlinkFamily | undefined {
  const id = attributes.get(CTRL_ATTR_FAMILY_ID)?.[0]?.readUInt16LE(0);
  if (id === undefined) return undefined;
  const groups = new Map<string, number>();
  const list = attributes.get(CTRL_ATTR_MCAST_GROUPS)?.[0] ?? Buffer.alloc(0);
  for (const group of [...decodeAttributes(list).values()].flat()) {
    const fields = decodeAttributes(group);
    const name = fields.get(CTRL_ATTR_MCAST_GRP_NAME)?.[0]?.toString("latin1").replace(/\0.*$/s, "");
    const number = fields.get(CTRL_ATTR_MCAST_GRP_ID)?.[0]?.readUInt32LE(0);
    if (name !== undefined && number !== undefined) groups.set(name, number);
  }
  return { id, groups };
}

/** How often a socket is looked at while an answer is outstanding. The kernel mostly answers inside the send. */
const POLL_MS = 5;

/** A generic netlink socket on which requests are made one after the other. */
export class NetlinkSocket {
  readonly #fd: number;
  readonly #clock: Clock;
  #sequence = 0;
  #isClosed = false;

  private constructor(fd: number, clock: Clock) {
    this.#fd = fd;
    this.#clock = clock;
  }

  static async open(dependencies: { readonly clock: Clock }): Promise<NetlinkSocket> {
    return new NetlinkSocket(await openNetlinkGeneric(), dependencies.clock);
  }

  /**
   * Sends one command and resolves with the messages that answered it, when the kernel has acknowledged it. A refusal
   * is a HostError `HOST_<errno>`; no answer within `timeoutMs` is HOST_NETLINK_TIMEOUT.
   */
  async request(
    family: number,
    command: number,
    attributes: readonly NetlinkAttribute[],
    timeoutMs = 10_000,
  ): Promise<readonly ReceivedMessage[]> {
    this.#sequence += 1;
    const sequence = this.#sequence;
    await netlinkSend(this.#fd, encodeRequestMessage({ family, command, sequence, attributes }));
    const answers: ReceivedMessage[] = [];
    const deadlineMs = this.#clock.nowMs() + timeoutMs;
    for (;;) {
      for (const message of await this.receive()) {
        if (message.sequence !== sequence) continue;
        if (message.kind === "message") answers.push(message);
        else if (message.errno === 0) return answers;
        else throw this.#refused(command, message.errno);
      }
      if (this.#clock.nowMs() > deadlineMs) {
        throw new HostError("HOST_NETLINK_TIMEOUT", `the kernel did not answer netlink command ${command} in time`);
      }
      await sleep(this.#clock, POLL_MS);
    }
  }

  #refused(command: number, errno: number): HostError {
    const name = errnoName(errno);
    return new HostError(`HOST_${name}`, `the kernel refused netlink command ${command} with ${name}`, {
      details: { errno: name, command },
    });
  }

  /** Messages that are waiting, multicast ones included; none when nothing waits. */
  async receive(): Promise<readonly ReceivedMessage[]> {
    const datagram = await netlinkReceive(this.#fd);
    return datagram === undefined ? [] : decodeMessages(datagram);
  }

  /** Finds a family by name; undefined when the kernel has none. */
  async findFamily(name: string): Promise<NetlinkFamily | undefined> {
    try {
      const attributes = [attributeString(CTRL_ATTR_FAMILY_NAME, name)];
      const [answer] = await this.request(CONTROL_FAMILY, CTRL_CMD_GETFAMILY, attributes);
      return answer?.kind === "message" ? parseFamily(answer.attributes) : undefined;
    } catch (error) {
      if (error instanceof HostError && error.code === "HOST_ENOENT") return undefined;
      throw error;
    }
  }

  /** Listens to a multicast group from now on. */
  async join(group: number): Promise<void> {
    await joinNetlinkGroup(this.#fd, group);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeFd(this.#fd);
  }
}
