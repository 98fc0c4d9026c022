import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { silentLogger } from "../../../src/base/logger.js";
import { KubeletRegistration } from "../../../src/csi/kubelet-registration.js";
import { FakeKubelet } from "../../support/kubelet.js";
import { VirtualTime } from "../../support/virtual-time.js";

const ENDPOINT = "/var/lib/kubelet/plugins/csi.hawser.dev/csi.sock";

describe("KubeletRegistration", () => {
  let directory: string;
  let clock: VirtualTime;
  const open: KubeletRegistration[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "hawser-reg-"));
    clock = new VirtualTime();
  });
  afterEach(async () => {
    for (const registration of open.splice(0)) await registration.close();
    rmSync(directory, { recursive: true });
  });

  const create = (folder = directory): KubeletRegistration => {
    const registration = new KubeletRegistration(
      { directory: folder, endpoint: ENDPOINT, protoDirectory: join(process.cwd(), "proto") },
      { clock, logger: silentLogger },
    );
    open.push(registration);
    return registration;
  };

  const ask = async (path: string, authority?: string): Promise<unknown> => {
    const kubelet = new FakeKubelet(path, authority);
    try {
      return await kubelet.getInfo();
    } finally {
      kubelet.close();
    }
  };

  const answer = { type: "CSIPlugin", name: "csi.hawser.dev", endpoint: ENDPOINT, supportedVersions: ["1.0.0"] };

  it("shows one socket, for the owner only, and takes it away again", async () => {
    const registration = create();
    await registration.start();
    expect(readdirSync(directory)).toEqual(["csi.hawser.dev-reg.sock"]);
    expect(statSync(registration.socketPath).mode & 0o777).toBe(0o600);
    await registration.close();
    expect(readdirSync(directory)).toEqual([]);
  });

  it.each([undefined, "localhost", "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fcsi.hawser.dev-reg.sock", "[::1]:0"])(
    "says who it is as often as it is asked, with the authority %j",
    async (authority) => {
      const registration = create();
      await registration.start();
      expect(await ask(registration.socketPath, authority)).toEqual(answer);
      expect(await ask(registration.socketPath, authority)).toEqual(answer);
    },
  );

  it("outlives a kubelet before 1.29, whose authority, a plain path, HTTP/2 does not allow", async () => {
    const registration = create();
    await registration.start();
    await expect(ask(registration.socketPath, registration.socketPath)).rejects.toMatchObject({ code: 13 });
    expect(await ask(registration.socketPath)).toEqual(answer);
  });

  it("goes on after a registration, which may come again", async () => {
    const registration = create();
    let hasFailed = false;
    registration.failed.catch(() => (hasFailed = true));
    await registration.start();
    const kubelet = new FakeKubelet(registration.socketPath);
    await kubelet.notify(true);
    await kubelet.notify(true);
    expect(await kubelet.getInfo()).toEqual(answer);
    kubelet.close();
    expect(hasFailed).toBe(false);
  });

  it("answers a kubelet that refuses it, and fails with the kubelet's words, but not with a book of them", async () => {
    const registration = create();
    await registration.start();
    const kubelet = new FakeKubelet(registration.socketPath);
    await expect(kubelet.notify(false, `name in use ${"!".repeat(100_000)}`)).resolves.toEqual({});
    kubelet.close();
    await expect(registration.failed).rejects.toMatchObject({
      code: "KUBELET_REGISTRATION_REFUSED",
      message: expect.stringMatching(/^.{0,1200}$/) as string,
    });
    await expect(registration.failed).rejects.toThrow("the kubelet refuses the driver: name in use");
  });

  it("takes the place of a socket that a killed process left", async () => {
    const path = join(directory, "csi.hawser.dev-reg.sock");
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(join(directory, "was"), resolve));
    const { renameSync } = await import("node:fs");
    renameSync(join(directory, "was"), path);
    await new Promise((resolve) => dead.close(resolve));
    expect(existsSync(path)).toBe(true);
    const registration = create();
    await registration.start();
    expect(await ask(path)).toEqual(answer);
  });

  it("makes the socket again when a kubelet has emptied its folder", async () => {
    const registration = create();
    await registration.start();
    unlinkSync(registration.socketPath);
    await clock.advance(5_000);
    const deadlineMs = Date.now() + 10_000;
    while (!existsSync(registration.socketPath) && Date.now() < deadlineMs) await delay(5);
    expect(await ask(registration.socketPath)).toEqual(answer);
  });

  it("leaves the socket of a successor alone", async () => {
    const first = create();
    await first.start();
    const second = create();
    await second.start();
    await first.close();
    expect(await ask(second.socketPath)).toEqual(answer);
  });

  it("refuses a folder that is not there, and a file in its place", async () => {
    await expect(create(join(directory, "missing")).start()).rejects.toMatchObject({
      code: "KUBELET_REGISTRATION_FAILED",
      message: expect.stringContaining("plugins_registry") as string,
    });
    mkdirSync(join(directory, "other"));
    writeFileSync(join(directory, "other", "csi.hawser.dev-reg.sock"), "precious");
    await expect(create(join(directory, "other")).start()).rejects.toThrow("is no socket; remove it");
    expect(readdirSync(join(directory, "other"))).toEqual(["csi.hawser.dev-reg.sock"]);
  });
});
