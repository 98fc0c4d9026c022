import { once } from "node:events";
import { createInterface } from "node:readline";
import type { LabNode } from "./net-lab.js";

/** What `link-child.ts` understands. */
export type LinkCommand =
  | { readonly kind: "listen"; readonly host: string }
  | { readonly kind: "accepted" }
  | {
      readonly kind: "dial";
      readonly host: string;
      readonly port: number;
      readonly localAddress?: string;
      readonly localInterface?: string;
      /** A bare socket of Node.js in place of the transport. */
      readonly isRaw?: boolean;
    }
  | { readonly kind: "write"; readonly lengthBytes: number }
  | { readonly kind: "end" }
  | { readonly kind: "destroy" }
  | { readonly kind: "state" };

/** What a listening side saw of one connection: `end` is `open`, `ended`, or the errno that it broke with. */
export interface AcceptedLink {
  readonly receivedBytes: number;
  readonly end: string;
}

/** What the dialing side knows: `closed` is undefined, `in order`, or the code of the error. */
export interface LinkState {
  readonly closed?: string;
  readonly openSockets: number;
}

/** A process in a node that makes or accepts connections: one command at a time. */
export class LinkChild {
  readonly #answers: AsyncIterator<string>;
  readonly #send: (line: string) => void;
  readonly #end: () => Promise<void>;

  constructor(node: LabNode) {
    const child = node.spawn(process.execPath, ["--import", "tsx", "test/support/link-child.ts"]);
    child.stderr.pipe(process.stderr);
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.#send = (line) => void child.stdin.write(line);
    this.#end = async () => {
      const closed = once(child, "close");
      child.stdin.end();
      await closed;
    };
  }

  listen(host: string): Promise<number> {
    return this.#ask({ kind: "listen", host }) as Promise<number>;
  }

  accepted(): Promise<readonly AcceptedLink[]> {
    return this.#ask({ kind: "accepted" }) as Promise<readonly AcceptedLink[]>;
  }

  /** The local address, with its port. Rejects with an Error whose message is the code. */
  dial(options: Omit<Extract<LinkCommand, { readonly kind: "dial" }>, "kind">): Promise<string> {
    return this.#ask({ kind: "dial", ...options }) as Promise<string>;
  }

  /** Bytes that the system has not taken. */
  write(lengthBytes: number): Promise<number> {
    return this.#ask({ kind: "write", lengthBytes }) as Promise<number>;
  }

  async end(): Promise<void> {
    await this.#ask({ kind: "end" });
  }

  async destroy(): Promise<void> {
    await this.#ask({ kind: "destroy" });
  }

  state(): Promise<LinkState> {
    return this.#ask({ kind: "state" }) as Promise<LinkState>;
  }

  /** Ends the process. */
  stop(): Promise<void> {
    return this.#end();
  }

  async #ask(command: LinkCommand): Promise<unknown> {
    this.#send(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error("the process in the namespace has ended");
    const answer = JSON.parse(value) as { readonly value?: unknown; readonly error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value;
  }
}
