import type { ByteStream, StreamHandlers } from "../../src/transport/transport.js";
import type { MemoryLink } from "../../src/transport/memory.js";
import type { TransportError } from "../../src/transport/transport.js";
import { type Digests, Op, PduCutter, type PduView } from "./pdu-view.js";

export type Side = "initiator" | "target";

/** Watches both ends of every connection. Views are valid during the call. */
export interface WireObserver {
  onOpen(wire: Wire): void;
  /** What an end gave to the network, before anybody tampers with it. */
  onSent(edge: Edge, pdu: PduView): void;
  /** What an end gets from the network, just before it gets it. */
  onReceived(edge: Edge, pdu: PduView): void;
  /** An end is told that the stream is over, or has closed it itself. */
  onClosed(edge: Edge): void;
}

/** Changes what an end has sent: undefined leaves it alone, a list takes its place. */
export type Tamper = (edge: Edge, pdu: PduView) => readonly PduView[] | undefined;

/** One connection between the initiator and a portal of the target, with a tap at each end. */
export class Wire {
  readonly id: number;
  readonly portal: string;
  readonly observer: WireObserver;
  readonly tamper: Tamper;
  link: MemoryLink | undefined;
  /** As the login names it. */
  cid: number | undefined;
  initiator: Edge | undefined;
  target: Edge | undefined;

  constructor(options: {
    readonly id: number;
    readonly portal: string;
    readonly observer: WireObserver;
    readonly tamper: Tamper;
  }) {
    this.id = options.id;
    this.portal = options.portal;
    this.observer = options.observer;
    this.tamper = options.tamper;
  }

  get isOver(): boolean {
    return this.link?.isOver ?? true;
  }
}

/** One end of a connection: a stream as the product sees it. */
export class Edge implements ByteStream {
  readonly side: Side;
  readonly wire: Wire;
  readonly #inner: ByteStream;
  readonly #outgoing: PduCutter;
  readonly #incoming: PduCutter;
  readonly #said = { own: new Map<string, string>(), peers: new Map<string, string>() };
  /** The login has ended well, as this end sees it. */
  isFullFeature = false;
  isClosed = false;

  constructor(side: Side, wire: Wire, inner: ByteStream) {
    this.side = side;
    this.wire = wire;
    this.#inner = inner;
    this.#outgoing = new PduCutter(side === "target");
    this.#incoming = new PduCutter(side === "initiator");
  }

  get localAddress(): string {
    return this.#inner.localAddress;
  }
  get remoteAddress(): string {
    return this.#inner.remoteAddress;
  }
  get unsentBytes(): number {
    return this.#inner.unsentBytes;
  }

  /** In use since the end of the login. */
  get digests(): Digests {
    return this.#outgoing.digests;
  }

  /** What this end, or its peer, has declared for a key in the login. */
  declared(by: Side, key: string): string | undefined {
    return (by === this.side ? this.#said.own : this.#said.peers).get(key);
  }

  start(handlers: StreamHandlers): void {
    this.#inner.start({
      onData: (chunk) => {
        this.#incoming.push(chunk, (pdu) => {
          this.#learn(pdu, false);
          this.wire.observer.onReceived(this, pdu);
        });
        handlers.onData(chunk);
      },
      onDrain: () => handlers.onDrain?.(),
      onClose: (error) => {
        this.#close();
        handlers.onClose(error);
      },
    });
  }

  write(chunks: readonly Buffer[], onSent?: () => void): boolean {
    const [first] = chunks;
    const bytes = chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
    const result: Buffer[] = [];
    const changes: PduView[] = [];
    this.#outgoing.push(bytes, (pdu) => {
      this.#learn(pdu, true);
      this.wire.observer.onSent(this, pdu);
      const instead = this.wire.tamper(this, pdu);
      if (instead === undefined) {
        result.push(pdu.bytes);
        return;
      }
      changes.push(pdu);
      for (const each of instead) result.push(each.bytes);
    });
    if (!this.#outgoing.isAtBoundary) throw new Error("a write ended in the middle of a PDU");
    // Unchanged, the product's own buffers travel on, borrowed until they are sent: nobody hides a change to them.
    if (changes.length === 0) return this.#inner.write(chunks, onSent);
    // Copies: `bytes` may be the product's own memory, and what is left of it need not be told apart.
    if (result.length > 0) return this.#inner.write([Buffer.concat(result)], onSent);
    onSent?.();
    return true;
  }

  /** Sends something the product knows nothing of. */
  inject(pdu: PduView): void {
    if (!this.isClosed) this.#inner.write([Buffer.from(pdu.bytes)]);
  }

  pause(): void {
    this.#inner.pause();
  }
  resume(): void {
    this.#inner.resume();
  }
  end(): void {
    this.#inner.end();
  }
  destroy(error?: TransportError): void {
    this.#inner.destroy(error);
    this.#close();
  }

  #close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.wire.observer.onClosed(this);
  }

  /** Follows the login: what was agreed on, and when digests begin (RFC 7143 §13.1). */
  #learn(pdu: PduView, isOwn: boolean): void {
    if (this.isFullFeature || (pdu.opcode !== Op.login && pdu.opcode !== Op.loginResponse)) return;
    if (pdu.opcode === Op.login) this.wire.cid = pdu.bytes.readUInt16BE(20);
    const said = isOwn ? this.#said.own : this.#said.peers;
    for (const [key, value] of pdu.pairs()) said.set(key, value);
    const isEnd = pdu.opcode === Op.loginResponse && pdu.isFinal && pdu.u8(36) === 0 && (pdu.u8(1) & 3) === 3;
    if (!isEnd) return;
    this.isFullFeature = true;
    const digests = {
      header: this.declared("target", "HeaderDigest") === "CRC32C",
      data: this.declared("target", "DataDigest") === "CRC32C",
    };
    this.#outgoing.digests = digests;
    this.#incoming.digests = digests;
  }
}
