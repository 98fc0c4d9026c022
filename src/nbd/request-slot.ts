import type { PooledBuffer } from "./buffer-pool.js";
import type { NbdRequest } from "./request.js";

/** One request from its header to the departure of its reply; used again for another afterwards. */
export class RequestSlot implements NbdRequest {
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetBytes = 0;
  lengthBytes = 0;
  /** Payload bytes counted against the connection's bound: of a read or a write. */
  dataBytes = 0;
  buffer: PooledBuffer | undefined;
  readonly onDone: () => void;
  readonly onFailed: (error: unknown) => void;

  constructor(onDone: () => void, onFailed: (error: unknown) => void) {
    this.onDone = onDone;
    this.onFailed = onFailed;
  }

  /** Takes over a request; its values are copied. */
  begin(request: NbdRequest, dataBytes: number): void {
    this.flags = request.flags;
    this.type = request.type;
    this.cookieHigh = request.cookieHigh;
    this.cookieLow = request.cookieLow;
    this.offsetBytes = request.offsetBytes;
    this.lengthBytes = request.lengthBytes;
    this.dataBytes = dataBytes;
  }

  /** Ends the request; the caller becomes the owner of the buffer, if there was one. */
  end(): PooledBuffer | undefined {
    const { buffer } = this;
    this.buffer = undefined;
    this.dataBytes = 0;
    return buffer;
  }
}
