/**
 * Writes a capture file that holds one TCP connection, for tools that dissect protocols. IPv4 packets without a link
 * layer, one per entry; checksums are zero, which dissectors do not mind.
 */
export interface CapturedSegment {
  readonly from: "client" | "server";
  readonly bytes: Buffer;
}

export interface CaptureOptions {
  readonly serverPort: number;
  readonly segments: readonly CapturedSegment[];
}

const MAGIC_MICROSECONDS = 0xa1b2_c3d4;
const LINK_TYPE_RAW_IP = 101;
const MAX_CAPTURED_BYTES = 0x4_0000;
const CLIENT_PORT = 49_152;
const IP_HEADER_BYTES = 20;
const TCP_HEADER_BYTES = 20;

/** The bytes of a pcap file (microsecond format). */
export function capture(options: CaptureOptions): Buffer {
  const fileHeader = Buffer.alloc(24);
  fileHeader.writeUInt32LE(MAGIC_MICROSECONDS, 0);
  fileHeader.writeUInt16LE(2, 4);
  fileHeader.writeUInt16LE(4, 6);
  fileHeader.writeUInt32LE(MAX_CAPTURED_BYTES, 16);
  fileHeader.writeUInt32LE(LINK_TYPE_RAW_IP, 20);
  const sent = { client: 1, server: 1 };
  const records = options.segments.flatMap(({ from, bytes }, index) => {
    const peer = from === "client" ? "server" : "client";
    const headers = packetHeaders(from, options.serverPort, bytes.length);
    headers.writeUInt32BE(sent[from], IP_HEADER_BYTES + 4);
    headers.writeUInt32BE(sent[peer], IP_HEADER_BYTES + 8);
    sent[from] += bytes.length;
    const record = Buffer.alloc(16);
    record.writeUInt32LE(1_000_000 + index, 0);
    record.writeUInt32LE(headers.length + bytes.length, 8);
    record.writeUInt32LE(headers.length + bytes.length, 12);
    return [record, headers, bytes];
  });
  return Buffer.concat([fileHeader, ...records]);
}

/** IPv4 and TCP headers (RFC 791 §3.1, RFC 9293 §3.1) without sequence numbers. */
function packetHeaders(from: "client" | "server", serverPort: number, payloadBytes: number): Buffer {
  const headers = Buffer.alloc(IP_HEADER_BYTES + TCP_HEADER_BYTES);
  const addresses = ["0a000001", "0a000002"];
  const ports = [CLIENT_PORT, serverPort];
  if (from === "server") {
    addresses.reverse();
    ports.reverse();
  }
  headers.writeUInt8(0x45, 0);
  headers.writeUInt16BE(headers.length + payloadBytes, 2);
  headers.writeUInt8(64, 8);
  headers.writeUInt8(6, 9);
  Buffer.from(addresses.join(""), "hex").copy(headers, 12);
  for (const [index, port] of ports.entries()) headers.writeUInt16BE(port, IP_HEADER_BYTES + index * 2);
  headers.writeUInt8((TCP_HEADER_BYTES / 4) << 4, IP_HEADER_BYTES + 12);
  headers.writeUInt8(0x18, IP_HEADER_BYTES + 13);
  headers.writeUInt16BE(0xffff, IP_HEADER_BYTES + 14);
  return headers;
}
