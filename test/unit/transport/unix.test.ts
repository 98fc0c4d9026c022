import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CancelledError } from "../../../src/base/errors.js";
import { silentLogger } from "../../../src/base/logger.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { socketPair } from "../../../src/host/ffi.js";
import { SystemDialer, SystemListener } from "../../../src/transport/system-transport.js";
import type { ByteStream, Dialer, Endpoint, Listener } from "../../../src/transport/transport.js";
import { TransportError } from "../../../src/transport/transport.js";
import { UnixListener, wrapFd } from "../../../src/transport/unix.js";
import { describeTransport } from "../../contract/transport.js";

const clock = new SystemClock({ unref: true });
const dependencies = { clock, logger: silentLogger };

describeTransport("unix sockets", () => {
  const directory = mkdtempSync(join(tmpdir(), "hawser-unix-"));
  return Promise.resolve({
    dialer: new SystemDialer(dependencies),
    listener: new SystemListener({}, dependencies),
    endpoint: () => ({ kind: "unix", path: join(directory, "socket") }),
    vacant: () => ({ kind: "unix", path: join(directory, "vacant") }),
    close: () => {
      rmSync(directory, { recursive: true });
      return Promise.resolve();
    },
  });
});

/** Socket pairs in the shape of a network, so that wrapped descriptors meet the same suite. */
class SocketPairs implements Dialer, Listener {
  readonly #listeners = new Map<string, (stream: ByteStream) => void>();

  async dial(endpoint: Endpoint, options: { readonly signal?: AbortSignal }): Promise<ByteStream> {
    const onConnection = this.#listeners.get(JSON.stringify(endpoint));
    if (options.signal?.aborted === true) throw new CancelledError("transport", "TRANSPORT_CANCELLED", "cancelled");
    if (onConnection === undefined) {
      throw new TransportError("transport", "TRANSPORT_REFUSED", "no such pair", { retry: "other-path" });
    }
    const [first, second] = await socketPair();
    onConnection(wrapFd(second, dependencies));
    return wrapFd(first, dependencies);
  }

  listen(endpoint: Endpoint, onConnection: (stream: ByteStream) => void) {
    const name = JSON.stringify(endpoint);
    if (this.#listeners.has(name)) {
      return Promise.reject(new TransportError("transport", "TRANSPORT_ADDRESS_IN_USE", "in use"));
    }
    this.#listeners.set(name, onConnection);
    const close = (): Promise<void> => {
      this.#listeners.delete(name);
      return Promise.resolve();
    };
    return Promise.resolve({ endpoint, close });
  }
}

describeTransport("wrapped file descriptors of socket pairs", () => {
  const pairs = new SocketPairs();
  return Promise.resolve({
    dialer: pairs,
    listener: pairs,
    endpoint: () => ({ kind: "unix", path: "/pair" }),
    vacant: () => ({ kind: "unix", path: "/vacant" }),
    close: () => Promise.resolve(),
  });
});

describe("UnixListener", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "hawser-unix-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it.each([
    [undefined, 0o600],
    [0o660, 0o660],
  ])("gives the file mode %p, whatever the umask, and leaves nothing else behind", async (mode, expected) => {
    const path = join(directory, "s");
    const previous = process.umask(0);
    const socket = await new UnixListener(mode === undefined ? {} : { mode }, dependencies).listen(
      { kind: "unix", path },
      () => undefined,
    );
    process.umask(previous);
    expect(statSync(path).mode & 0o777).toBe(expected);
    expect(readdirSync(directory)).toEqual(["s"]);
    await socket.close();
    expect(readdirSync(directory)).toEqual([]);
  });

  it("replaces a file that a dead process left", async () => {
    const path = join(directory, "s");
    // A listener whose file outlives it: moved away while it closes, then put back.
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(directory, "old"), resolve));
    const { renameSync } = await import("node:fs");
    renameSync(join(directory, "old"), path);
    await new Promise((resolve) => server.close(resolve));
    expect(statSync(path).isSocket()).toBe(true);

    const socket = await new UnixListener({}, dependencies).listen({ kind: "unix", path }, (stream) =>
      stream.destroy(),
    );
    const client = await new SystemDialer(dependencies).dial({ kind: "unix", path }, { timeoutMs: 1_000 });
    client.destroy();
    await socket.close();
  });

  it("never replaces a file that is no socket", async () => {
    const path = join(directory, "precious");
    writeFileSync(path, "data");
    await expect(
      new UnixListener({}, dependencies).listen({ kind: "unix", path }, () => undefined),
    ).rejects.toMatchObject({ code: "TRANSPORT_ADDRESS_IN_USE" });
    expect(statSync(path).size).toBe(4);
  });

  it("leaves alone the file of one who listens there now", async () => {
    const path = join(directory, "s");
    const first = await new UnixListener({}, dependencies).listen({ kind: "unix", path }, () => undefined);
    rmSync(path);
    const second = await new UnixListener({}, dependencies).listen({ kind: "unix", path }, () => undefined);
    await first.close();
    expect(statSync(path).isSocket()).toBe(true);
    await second.close();
  });

  it("refuses a path that the system would cut", async () => {
    const path = join(directory, "x".repeat(120));
    await expect(
      new UnixListener({}, dependencies).listen({ kind: "unix", path }, () => undefined),
    ).rejects.toMatchObject({ code: "TRANSPORT_PATH_TOO_LONG" });
  });
});
