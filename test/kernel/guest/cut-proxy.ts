import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";

/** A portal on 127.0.0.1 that leads to another, and whose connections can be cut: what a node comes in through. */
export class CutProxy {
  /** Connections it has taken so far. */
  accepted = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(targetPort: number) {
    this.#server = createServer({ noDelay: true }, (initiator) => {
      this.accepted += 1;
      const target = createConnection({ host: "127.0.0.1", port: targetPort, noDelay: true });
      this.#join(initiator, target);
      this.#join(target, initiator);
    });
  }

  static async start(options: { readonly port: number; readonly targetPort: number }): Promise<CutProxy> {
    const proxy = new CutProxy(options.targetPort);
    proxy.#server.listen(options.port, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }

  #join(one: Socket, other: Socket): void {
    this.#sockets.add(one);
    one.on("error", () => other.destroy());
    one.on("close", () => {
      this.#sockets.delete(one);
      other.destroy();
    });
    one.pipe(other);
  }
}
