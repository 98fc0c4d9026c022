import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { openSync, readSync, closeSync, statSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

const REJECT = 0x3f;

/** What recording and reading takes, for `describeNeeding`. */
export const CAPTURE_NEEDS = ["root", "tshark", "dumpcap"] as const;

/**
 * Records what really goes over the loopback interface between two TCP ports. A datagram of its own, seen in the
 * file, tells that recording has begun, and another that all before it is in the file.
 */
export class LoopbackRecorder {
  readonly path: string;
  readonly #markerPort: number;
  readonly #process: ChildProcess;
  #said = "";

  private constructor(path: string, markerPort: number, ports: readonly number[]) {
    this.path = path;
    this.#markerPort = markerPort;
    const filter = [...ports.map((port) => `tcp port ${port}`), `udp port ${markerPort}`].join(" or ");
    this.#process = spawn("dumpcap", ["-q", "-i", "lo", "-B", "64", "-f", filter, "-w", path], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process.stderr?.on("data", (chunk: Buffer) => (this.#said += chunk.toString()));
  }

  /** Records while `work` runs. Throws what `work` throws, or that the recording is not whole. */
  static async during(
    options: { readonly path: string; readonly markerPort: number; readonly ports: readonly number[] },
    work: () => Promise<void>,
  ): Promise<void> {
    const recorder = new LoopbackRecorder(options.path, options.markerPort, options.ports);
    try {
      await recorder.#mark("recording-begins");
      await work();
    } catch (error) {
      recorder.#process.kill("SIGKILL");
      throw error;
    }
    await recorder.#stop();
  }

  /** Ends the recording; throws when the kernel dropped packets, for then the file proves nothing. */
  async #stop(): Promise<void> {
    await this.#mark("recording-ends");
    const exited = once(this.#process, "exit");
    this.#process.kill("SIGINT");
    await exited;
    const counts = /received\/dropped on interface .*: (\d+)\/(\d+) \(/.exec(this.#said);
    if (counts === null || Number(counts[1]) === 0 || Number(counts[2]) !== 0) {
      throw new Error(`the recording is not whole: ${this.#said}`);
    }
  }

  async #mark(text: string): Promise<void> {
    const socket = createSocket("udp4");
    try {
      for (let attempt = 0; attempt < 200; attempt += 1) {
        socket.send(text, this.#markerPort, "127.0.0.1");
        await delay(50);
        if (this.#tail().includes(text)) return;
        if (this.#process.exitCode !== null) break;
      }
    } finally {
      socket.close();
    }
    this.#process.kill("SIGKILL");
    throw new Error(`dumpcap does not record: ${this.#said}`);
  }

  #tail(): string {
    let sizeBytes = 0;
    try {
      sizeBytes = statSync(this.path).size;
    } catch {
      return "";
    }
    const file = openSync(this.path, "r");
    try {
      const tail = Buffer.alloc(Math.min(sizeBytes, 4096));
      readSync(file, tail, 0, tail.length, sizeBytes - tail.length);
      return tail.toString("latin1");
    } finally {
      closeSync(file);
    }
  }
}

/** One PDU as Wireshark reads it. */
export class CapturedPdu {
  readonly frame: number;
  readonly connection: number;
  readonly isFromInitiator: boolean;
  /** `Key=value` pairs, in order. */
  readonly keys: readonly string[];
  /** What the dissector says about digests: `HeaderDigest: 0x… (Good CRC32)`. */
  readonly digests: readonly string[];
  readonly #numbers: ReadonlyMap<string, number>;

  constructor(place: { frame: number; connection: number; isFromInitiator: boolean }, xml: string) {
    ({ frame: this.frame, connection: this.connection, isFromInitiator: this.isFromInitiator } = place);
    const numbers = new Map<string, number>();
    const keys: string[] = [];
    const digests: string[] = [];
    for (const [, name = "", rest = ""] of xml.matchAll(/<field name="iscsi\.([^"]+)"([^>]*)>/g)) {
      const show = /(?: |^)show="([^"]*)"/.exec(rest)?.[1] ?? "";
      if (name === "keyvalue") keys.push(show);
      if (name.endsWith("digest32")) digests.push(/showname="([^"]*)"/.exec(rest)?.[1] ?? "");
      const value = Number(show.replace("True", "1").replace("False", "0"));
      if (!numbers.has(name) && show !== "" && Number.isInteger(value)) numbers.set(name, value);
    }
    this.#numbers = numbers;
    this.keys = keys;
    this.digests = digests;
  }

  get opcode(): number {
    return this.number("opcode");
  }

  /** A field of the dissector, `iscsi.` left out. Throws when the PDU has none. */
  number(name: string): number {
    const value = this.#numbers.get(name);
    if (value === undefined) throw new Error(`${this.where} has no ${name}`);
    return value;
  }

  has(name: string): boolean {
    return this.#numbers.has(name);
  }

  get where(): string {
    const opcode = this.#numbers.get("opcode") ?? -1;
    return `PDU 0x${opcode.toString(16)} of frame ${this.frame}, connection ${this.connection}`;
  }
}

/** Reads a recording with tshark. */
export class IscsiCapture {
  readonly #path: string;
  readonly #ports: readonly number[];

  constructor(path: string, ports: readonly number[]) {
    this.#path = path;
    this.#ports = ports;
  }

  /** What tshark prints with these arguments more. */
  tshark(...args: readonly string[]): string {
    const decodeAs = this.#ports.flatMap((port) => ["-d", `tcp.port==${port},iscsi`]);
    const preferences = [
      // Ports of our own are not the registered one.
      `iscsi.target_ports:${this.#ports.join(",")}`,
      // What looks bogus must be read too, not passed over.
      "iscsi.bogus_pdu_filter:FALSE",
      // Two processors may record two segments in the other order; what is between them would be lost.
      "tcp.reassemble_out_of_order:TRUE",
    ].flatMap((preference) => ["-o", preference]);
    return execFileSync("tshark", ["-n", "-r", this.#path, ...decodeAs, ...preferences, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 1 << 30,
    });
  }

  /** Complaints of the dissectors of iSCSI and SCSI, and everything malformed, one line each. */
  complaints(): readonly string[] {
    const filter = "_ws.malformed or iscsi.opcode.invalid or iscsi.keyvalue.invalid or _ws.expert.severity >= 0x800000";
    const columns = ["-e", "frame.number", "-e", "_ws.col.Info", "-e", "_ws.expert.message"];
    const lines = this.tshark("-Y", filter, "-T", "fields", ...columns).split("\n");
    return lines.filter((line) => line !== "");
  }

  /** All PDUs in the order in which they went over the wire. */
  pdus(): readonly CapturedPdu[] {
    const xml = this.tshark("-Y", "iscsi", "-T", "pdml", "-J", "frame tcp iscsi iscsi.flags");
    const pdus: CapturedPdu[] = [];
    for (const packet of xml.split("<packet>").slice(1)) {
      const read = (name: string): number =>
        Number(new RegExp(`<field name="${name}"[^>]* show="(\\d+)"`).exec(packet)?.[1] ?? NaN);
      const place = {
        frame: read("frame.number"),
        connection: read("tcp.stream"),
        isFromInitiator: this.#ports.includes(read("tcp.dstport")),
      };
      let isRejectedHeader = false;
      // The dissector puts the flags beside a PDU, after it; and takes the header in a Reject for one more PDU.
      for (const xmlOfPdu of packet.split('<proto name="iscsi"').slice(1)) {
        const pdu = new CapturedPdu(place, xmlOfPdu);
        if (!isRejectedHeader) pdus.push(pdu);
        isRejectedHeader = !isRejectedHeader && pdu.opcode === REJECT;
      }
    }
    return pdus;
  }
}
