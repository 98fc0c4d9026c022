import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Secret } from "../../src/base/secret.js";
import { FileDevice } from "../../src/block/file-device.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import type { TargetServer } from "../../src/target/api.js";
import { describeNeeding } from "../support/needs.js";
import { realTargetServer, runProgram } from "../support/target-server.js";

const SIZE_BYTES = 48 << 20;
const PREFIX = "iqn.2026-11.dev.hawser";

describeNeeding(["qemu-img", "iscsi-ls", "iscsi-inq"], "the target with libiscsi and qemu", () => {
  let folder = "";
  let server: TargetServer;
  let memory: MemoryDevice;
  let file: FileDevice;
  let v4 = "";
  let v6 = "";

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "hawser-target-interop-"));
    memory = new MemoryDevice({ sizeBytes: SIZE_BYTES, id: "naa.3aaaabbbbccccdddd", serial: "SERIAL-1" });
    file = await FileDevice.open({ path: join(folder, "disk.img"), sizeBytes: SIZE_BYTES, logicalBlockBytes: 4096 });
    const portals = [
      { host: "127.0.0.1", port: 0 },
      { host: "::1", port: 0 },
    ];
    server = realTargetServer({ portals });
    await server.start();
    const chap = { user: "qemu", secret: Secret.from("a-secret-of-20-bytes") };
    server.addTarget({ name: `${PREFIX}:open`, luns: new Map([[0, memory]]), access: { kind: "any" } });
    server.addTarget({ name: `${PREFIX}:file`, luns: new Map([[3, file]]), access: { kind: "any" } });
    server.addTarget({ name: `${PREFIX}:chap`, luns: new Map([[0, memory]]), access: { kind: "any", chap } });
    server.addTarget({ name: `${PREFIX}:nobody`, luns: new Map(), access: { kind: "list", rules: [] } });
    v4 = `127.0.0.1:${server.portals[0]?.port ?? 0}`;
    v6 = `[::1]:${server.portals[1]?.port ?? 0}`;
  });

  afterAll(async () => {
    await server.stop();
    await file.close();
    await rm(folder, { recursive: true, force: true });
  });

  test("discovery lists what may be used, at every portal, over IPv4 and IPv6", async () => {
    for (const portal of [v4, v6]) {
      const { output } = await runProgram("iscsi-ls", [`iscsi://${portal}`]);
      expect(output).toContain(`Target:${PREFIX}:open Portal:${v4},1`);
      expect(output).toContain(v6);
      expect(output).not.toContain("nobody");
    }
  });

  test("identity as iscsi-inq reads it", async () => {
    const { output } = await runProgram("iscsi-inq", ["-e", "1", "-c", "131", `iscsi://${v4}/${PREFIX}:open/0`]);
    expect(output).toContain("NAA");
    expect(output).toContain("HAWSER  SERIAL-1");
    const serial = await runProgram("iscsi-inq", ["-e", "1", "-c", "128", `iscsi://${v4}/${PREFIX}:open/0`]);
    expect(serial.output).toContain("SERIAL-1");
  });

  test.each([
    ["memory, 512-byte blocks", () => `iscsi://${v4}/${PREFIX}:open/0`],
    ["a file, 4096-byte blocks, over IPv6", () => `iscsi://${v6}/${PREFIX}:file/3`],
    ["with CHAP", () => `iscsi://qemu%a-secret-of-20-bytes@${v4}/${PREFIX}:chap/0`],
  ])(
    "qemu-img writes an image and reads the same one back: %s",
    async (_, url) => {
      const [from, back] = [join(folder, "from.raw"), join(folder, "back.raw")];
      const image = randomBytes(SIZE_BYTES);
      image.fill(0, 8 << 20, 24 << 20);
      await writeFile(from, image);
      const raw = ["-f", "raw", "-O", "raw"];
      expect(await runProgram("qemu-img", ["convert", "-n", ...raw, from, url()])).toEqual({ exitCode: 0, output: "" });
      expect(await runProgram("qemu-img", ["convert", ...raw, url(), back])).toEqual({ exitCode: 0, output: "" });
      expect((await readFile(back)).equals(image)).toBe(true);
    },
    120_000,
  );

  test("header digests", async () => {
    const image = `driver=iscsi,transport=tcp,portal=${v4},target=${PREFIX}:open,lun=0,header-digest=crc32c`;
    const commands = ["-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M"];
    const { exitCode, output } = await runProgram("qemu-io", ["--image-opts", ...commands, image]);
    expect([exitCode, output.match(/1 MiB, 1 ops/g)?.length]).toEqual([0, 2]);
  });

  test.each([
    ["a wrong CHAP secret", () => `iscsi://qemu%a-wrong-secret-of-20@${v4}/${PREFIX}:chap/0`],
    ["no CHAP where it is demanded", () => `iscsi://${v4}/${PREFIX}:chap/0`],
    ["an initiator that is not allowed", () => `iscsi://${v4}/${PREFIX}:nobody/0`],
  ])("%s is kept out", async (_, url) => {
    expect((await runProgram("iscsi-inq", [url()])).exitCode).not.toBe(0);
  });
});
