import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../../src/base/logger.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import { SystemDialer, SystemListener } from "../../../src/transport/system-transport.js";
import { UnixListener } from "../../../src/transport/unix.js";
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
