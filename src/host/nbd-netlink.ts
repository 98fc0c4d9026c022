import type { Clock } from "../base/clock.js";
import { HostError } from "./errors.js";
import {
  attributeString,
  attributeU32,
  attributeU64,
  decodeAttributes,
  NetlinkSocket,
  type NetlinkAttribute,
  type NetlinkFamily,
  type ReceivedMessage,
} from "./netlink.js";

/** Numbers of the kernel's netlink interface "nbd" (linux/nbd-netlink.h). */
const NbdCommand = { CONNECT: 1, DISCONNECT: 2, RECONFIGURE: 3, LINK_DEAD: 4, STATUS: 5 } as const;
const NbdAttribute = {
  INDEX: 1,
  SIZE_BYTES: 2,
  BLOCK_SIZE_BYTES: 3,
  TIMEOUT: 4,
  SERVER_FLAGS: 5,
  CLIENT_FLAGS: 6,
  SOCKETS: 7,
  DEAD_CONN_TIMEOUT: 8,
  DEVICE_LIST: 9,
  BACKEND_IDENTIFIER: 10,
} as const;
const SOCKET_ITEM = 1;
const SOCKET_FD = 1;
const DEVICE_ITEM = 1;
const DEVICE_INDEX = 1;
const DEVICE_CONNECTED = 2;

/** Longest identifier: the kernel puts it into a page of sysfs; ours have a handle and two ids. */
const MAX_BACKEND_ID_BYTES = 1024;

export interface NbdConnectOptions {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** Transmission flags of the server. */
  readonly serverFlags: number;
  /** Socket ends the kernel takes a reference of; the caller may close its own afterwards. */
  readonly sockets: readonly number[];
  /** Survives in /sys/block/nbdN/backend, and must be repeated to reconfigure the device. */
  readonly backendId: string;
  /** How long requests wait for a new socket after the last one died, before they fail. */
  readonly deadConnectionTimeoutMs: number;
  /** Without it the kernel picks or makes a free device. */
  readonly index?: number;
}

function socketsAttribute(sockets: readonly number[]): NetlinkAttribute {
  return {
    type: NbdAttribute.SOCKETS,
    value: sockets.map((fd) => ({ type: SOCKET_ITEM, value: [attributeU32(SOCKET_FD, fd)] })),
  };
}

/** Attributes of CONNECT. TIMEOUT 0: a slow answer never makes the kernel give up a socket. */
export function connectAttributes(options: NbdConnectOptions): readonly NetlinkAttribute[] {
  if (Buffer.byteLength(options.backendId) > MAX_BACKEND_ID_BYTES) {
    throw new HostError("HOST_BACKEND_ID_TOO_LONG", `an nbd backend id has at most ${MAX_BACKEND_ID_BYTES} bytes`);
  }
  return [
    ...(options.index === undefined ? [] : [attributeU32(NbdAttribute.INDEX, options.index)]),
    attributeU64(NbdAttribute.SIZE_BYTES, options.sizeBytes),
    attributeU64(NbdAttribute.BLOCK_SIZE_BYTES, options.blockBytes),
    attributeU64(NbdAttribute.TIMEOUT, 0),
    attributeU64(NbdAttribute.SERVER_FLAGS, options.serverFlags),
    attributeU64(NbdAttribute.CLIENT_FLAGS, 0),
    attributeU64(NbdAttribute.DEAD_CONN_TIMEOUT, Math.ceil(options.deadConnectionTimeoutMs / 1000)),
    attributeString(NbdAttribute.BACKEND_IDENTIFIER, options.backendId),
    socketsAttribute(options.sockets),
  ];
}

export interface NbdReconfigureOptions {
  readonly index: number;
  /** Must be the device's, or the kernel refuses with EINVAL. */
  readonly backendId: string;
  readonly sockets?: readonly number[];
  readonly sizeBytes?: number;
  readonly deadConnectionTimeoutMs?: number;
}

/** Attributes of RECONFIGURE. */
export function reconfigureAttributes(options: NbdReconfigureOptions): readonly NetlinkAttribute[] {
  const { sizeBytes, sockets, deadConnectionTimeoutMs } = options;
  return [
    attributeU32(NbdAttribute.INDEX, options.index),
    attributeString(NbdAttribute.BACKEND_IDENTIFIER, options.backendId),
    ...(sizeBytes === undefined ? [] : [attributeU64(NbdAttribute.SIZE_BYTES, sizeBytes)]),
    ...(deadConnectionTimeoutMs === undefined
      ? []
      : [attributeU64(NbdAttribute.DEAD_CONN_TIMEOUT, Math.ceil(deadConnectionTimeoutMs / 1000))]),
    ...(sockets === undefined ? [] : [socketsAttribute(sockets)]),
  ];
}

function indexOf(message: ReceivedMessage | undefined): number | undefined {
  if (message?.kind !== "message") return undefined;
  return message.attributes.get(NbdAttribute.INDEX)?.[0]?.readUInt32LE(0);
}

/** The kernel's nbd driver, over netlink. Needs CAP_SYS_ADMIN. One request at a time. */
export class NbdNetlink {
  readonly #socket: NetlinkSocket;
  readonly #family: NetlinkFamily;

  private constructor(socket: NetlinkSocket, family: NetlinkFamily) {
    this.#socket = socket;
    this.#family = family;
  }

  /** Opens the interface. HOST_NBD_UNAVAILABLE when the kernel has no nbd driver (loaded). */
  static async open(dependencies: { readonly clock: Clock }): Promise<NbdNetlink> {
    const socket = await NetlinkSocket.open(dependencies);
    try {
      const family = await socket.findFamily("nbd");
      if (family === undefined) {
        throw new HostError("HOST_NBD_UNAVAILABLE", "the kernel has no nbd driver; load it with: modprobe nbd");
      }
      return new NbdNetlink(socket, family);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Makes a device and returns its index N of /dev/nbdN. */
  async connect(options: NbdConnectOptions): Promise<number> {
    const answers = await this.#socket.request(this.#family.id, NbdCommand.CONNECT, connectAttributes(options));
    const index = indexOf(answers.find((answer) => indexOf(answer) !== undefined)) ?? options.index;
    if (index === undefined)
      throw new HostError("HOST_NBD_NO_INDEX", "the kernel connected an nbd device and did not name it");
    return index;
  }

  /** Unmakes the device: queued requests fail. Whether it is in use is the caller's business. */
  async disconnect(index: number): Promise<void> {
    await this.#socket.request(this.#family.id, NbdCommand.DISCONNECT, [attributeU32(NbdAttribute.INDEX, index)]);
  }

  /**
   * Gives a device new sockets or a new size. Only dead sockets are replaced, and success is reported even when none
   * was: whoever needs to know must see a request arrive on the new socket.
   */
  async reconfigure(options: NbdReconfigureOptions): Promise<void> {
    await this.#socket.request(this.#family.id, NbdCommand.RECONFIGURE, reconfigureAttributes(options));
  }

  /** Is the device connected, as the kernel sees it? */
  async isConnected(index: number): Promise<boolean> {
    const attributes = [attributeU32(NbdAttribute.INDEX, index)];
    const [answer] = await this.#socket.request(this.#family.id, NbdCommand.STATUS, attributes);
    if (answer?.kind !== "message") return false;
    const list = answer.attributes.get(NbdAttribute.DEVICE_LIST)?.[0];
    const items = list === undefined ? [] : (decodeAttributes(list).get(DEVICE_ITEM) ?? []);
    return items.some((item) => {
      const fields = decodeAttributes(item);
      return (
        fields.get(DEVICE_INDEX)?.[0]?.readUInt32LE(0) === index &&
        fields.get(DEVICE_CONNECTED)?.[0]?.readUInt8(0) === 1
      );
    });
  }

  /** Listens for devices whose sockets die, from now on. */
  async watchDeadLinks(): Promise<void> {
    const group = this.#family.groups.get("nbd_mc_group");
    if (group === undefined) throw new HostError("HOST_NBD_NO_EVENTS", "the kernel's nbd driver sends no events");
    await this.#socket.join(group);
  }

  /** Indexes of devices of which a socket died since the last call; needs `watchDeadLinks`. */
  async deadLinks(): Promise<readonly number[]> {
    const messages = await this.#socket.receive();
    return messages
      .filter((message) => message.kind === "message" && message.command === NbdCommand.LINK_DEAD)
      .map(indexOf)
      .filter((index) => index !== undefined);
  }

  close(): void {
    this.#socket.close();
  }
}
