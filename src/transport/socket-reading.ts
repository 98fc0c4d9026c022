import type { OnReadOpts } from "node:net";
import type { SocketStream } from "./socket-stream.js";

/** Bytes read from a socket in one system call; measured best of 64 KiB to 1 MiB with 4 KiB and 256 KiB transfers. */
export const READ_BUFFER_BYTES = 262_144;

/** Unsent bytes beyond which `write` asks the caller to pause: two of the longest PDUs and their headers. */
export const WRITE_HIGH_WATER_BYTES = 1_048_576;

/**
 * The memory that all sockets of one thread read into. A chunk is handled before the next read begins, on whatever
 * socket, so one buffer is enough for any number of connections.
 */
export class ReadBuffer {
  readonly #bytes = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

  /** The `onread` option of a socket that is yet to be made, and the way to tell it whose bytes they are. */
  createReader(): { readonly onread: OnReadOpts; readonly attach: (stream: SocketStream) => void } {
    let stream: SocketStream | undefined;
    const bytes = this.#bytes;
    return {
      onread: {
        buffer: bytes,
        callback: (lengthBytes) => {
          stream?.receive(bytes.subarray(0, lengthBytes));
          return true;
        },
      },
      attach: (attached) => {
        stream = attached;
      },
    };
  }
}
