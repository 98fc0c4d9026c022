import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openSealedChap } from "../../src/base/sealed-chap.js";
import type { Secret } from "../../src/base/secret.js";
import { SystemRandom } from "../../src/base/system-random.js";
import { loadNodeKey } from "../../src/dataplane/node-key.js";
import { CanaryHunt, ProcessSampler } from "../support/canary.js";
import { reportMeasured } from "../support/file-load.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { StaticVolume } from "../support/static-volume.js";
import { Tgtd } from "../support/tgt.js";

const run = promisify(execFile);
const MIB = 1_048_576;
const PORT = 13_410;
const ONE_WAY = "iqn.2026-11.test:canary-one-way";
const MUTUAL = "iqn.2026-11.test:canary-mutual";

/** Every kind of secret somebody may give us, right and wrong: none of them may be seen anywhere. */
const SECRETS = {
  oneWay: "canary-ONE-way-4711?",
  mutual: "canary~mutual>other/way-0815",
  wrong: "canary-wrong-guess-1234",
  wrongMutual: "canary-wrong-proof-5678",
  short: "canry-short",
  misplaced: "canary-in-a-wrong-place-99",
};

describe("the hunt for canaries", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hawser-canary-"));
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  it.each([
    ["plain", (secret: string) => `{"msg":"login with ${secret} failed"}`],
    ["hexadecimal", (secret: string) => `CHAP_R=0x${Buffer.from(secret).toString("hex")}`],
    ["base64", (secret: string) => `0b${Buffer.from(secret).toString("base64")}`],
    ["base64 inside something else", (secret: string) => Buffer.from(`{"a":"${secret}","b":1}`).toString("base64")],
    ["base64url, shifted by one", (secret: string) => Buffer.from(`x${secret}y`).toString("base64url")],
    ["a Buffer as JSON", (secret: string) => JSON.stringify(Buffer.from(secret))],
  ])("finds one that is %s", (_, disguise) => {
    for (const [name, secret] of Object.entries(SECRETS)) {
      const hunt = new CanaryHunt(SECRETS);
      const path = join(folder, "deep", name);
      mkdirSync(join(folder, "deep"), { recursive: true });
      writeFileSync(path, disguise(secret));
      hunt.lookBelow(folder);
      expect(hunt.found).toContain(`${path}: ${name}`);
      rmSync(path);
    }
  });

  it("finds nothing where nothing is", () => {
    writeFileSync(join(folder, "file"), "canary one way mutual wrong".repeat(1000));
    const hunt = new CanaryHunt(SECRETS);
    expect(hunt.lookBelow(folder)).toBe(1);
    expect(hunt.found).toEqual([]);
  });

  it("finds one in the arguments and the environment of a child's child", async () => {
    const hunt = new CanaryHunt(SECRETS);
    const script = `CANARY='${SECRETS.mutual}' sh -c 'sleep 0.5; true' '${SECRETS.oneWay}'; true`;
    const child = spawn("sh", ["-c", 'read script; eval "$script"'], { stdio: ["pipe", "ignore", "ignore"] });
    const sampler = new ProcessSampler(() => (child.pid === undefined ? [] : [child.pid]), hunt);
    child.stdin.end(`${script}\n`);
    await once(child, "exit");
    sampler.stop();
    // How many of the processes are met on the way to their next program is a matter of luck.
    const places = new Set(hunt.found.map((line) => line.replace(/ \d+/, "")));
    expect([...places].sort()).toEqual(["arguments of process: oneWay", "environment of process: mutual"]);
  });
});

const needs = [...HOST_NEEDS, "tgtd", "tgtadm", "mkfs.ext4", "/dev/fuse"];

describeNeeding(needs, "CHAP secrets", () => {
  let tgtd: Tgtd;
  let host: HawserHost;

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      ...{ controlPort: PORT, portals: [`127.0.0.1:${PORT}`] },
      targets: [
        { name: ONE_WAY, diskBytes: [128 * MIB], account: { user: "one", secret: SECRETS.oneWay } },
        {
          ...{ name: MUTUAL, diskBytes: [128 * MIB] },
          account: { user: "two", secret: SECRETS.oneWay, mutualUser: "back", mutualSecret: SECRETS.mutual },
        },
      ],
    });
    host = await HawserHost.start({ logLevel: "trace" });
  }, 60_000);

  afterAll(async () => {
    await host.remove();
    await tgtd.stop();
  }, 60_000);

  const volume = (
    volumeId: string,
    targetIQN: string,
    secrets: Record<string, string>,
    attributes: Record<string, string> = {},
  ): StaticVolume =>
    new StaticVolume(host, {
      ...{ volumeId, fsType: "ext4", secrets },
      attributes: { targetPortal: `127.0.0.1:${PORT}`, targetIQN, lun: "1", ...attributes },
    });

  it("appear in no log, record, argument, environment, event or error", async () => {
    const hunt = new CanaryHunt(SECRETS);
    const sampler = new ProcessSampler(() => host.processes.flatMap((one) => (one.isRunning ? [one.pid] : [])), hunt);
    const watching = new AbortController();
    const kinds: string[] = [];
    const watched = (async () => {
      for await (const event of host.dataplaneClient.watch(watching.signal)) {
        kinds.push(event.kind);
        hunt.look(`event ${event.kind}`, JSON.stringify(event));
      }
    })();
    let refusals = 0;
    const refuse = async (what: string, attempt: () => Promise<unknown>): Promise<void> => {
      const error = await attempt().then(
        () => undefined,
        (reason: unknown) => reason as Error & { status: string },
      );
      if (error === undefined) throw new Error(`${what} was not refused`);
      refusals += 1;
      hunt.look(`error for ${what}`, `${error.status} ${error.message} ${error.stack ?? ""} ${JSON.stringify(error)}`);
    };
    const mutual = { chapUser: "two", chapSecret: SECRETS.oneWay, mutualUser: "back", mutualSecret: SECRETS.mutual };
    const oneWay = { chapUser: "one", chapSecret: SECRETS.oneWay };
    const bad: readonly [string, Record<string, string>][] = [
      ["a wrong secret", { ...mutual, chapSecret: SECRETS.wrong }],
      ["a wrong mutual secret", { ...mutual, mutualSecret: SECRETS.wrongMutual }],
      ["a short secret", { ...mutual, chapSecret: SECRETS.short }],
      ["one secret for both directions", { ...mutual, mutualSecret: SECRETS.oneWay }],
      ["a secret without a user", { chapSecret: SECRETS.oneWay }],
      ["names of open-iscsi with a wrong secret", openIscsiNames(SECRETS.wrong)],
      ["an endless user name", { chapUser: "x".repeat(2000), chapSecret: SECRETS.misplaced }],
    ];
    try {
      for (const [what, secrets] of bad) {
        const one = volume("canary-bad", MUTUAL, secrets);
        await one.attach();
        await refuse(what, () => one.stage());
      }
      for (const name of ["chapSecret", "password", "node.session.auth.password", "discoverySecretXyz"]) {
        const one = volume("canary-misplaced", MUTUAL, mutual, { [name]: SECRETS.misplaced });
        await refuse(`attribute ${name} at the attacher`, () => one.attach());
        await refuse(`attribute ${name} at the node`, () => one.stage());
      }
      for (const [name, target, secrets] of [
        ["one", ONE_WAY, oneWay],
        ["two", MUTUAL, mutual],
      ] as const) {
        const one = volume(`canary-${name}`, target, secrets);
        hunt.look("publish context", JSON.stringify(await one.attach()));
        await one.mount();
        writeFileSync(join(one.podPath, "file"), "x".repeat(100_000), { flush: true });
        // A new login with the secret that the dataplane keeps, and a new node process.
        await tgtd.kill();
        await tgtd.launch();
        await host.node.kill();
        await host.node.start();
        writeFileSync(join(one.podPath, "file"), "y".repeat(100_000), { flush: true });
        hunt.look("status", JSON.stringify(await host.dataplaneClient.list()));
        expect(hunt.lookBelow(host.stateDirectory)).toBeGreaterThan(3);
        await one.unmount();
        await one.detach();
        await refuse("a wrong secret for a known volume", async () => {
          const wrong = volume(`canary-${name}`, target, { ...secrets, chapSecret: SECRETS.wrong });
          await wrong.attach();
          await wrong.stage();
        });
      }
      for (const one of [host.node, host.dataplane, host.controller]) expect(await one.stop()).toBe(0);
    } finally {
      sampler.stop();
      watching.abort();
      await watched;
    }
    const files = hunt.lookBelow(host.directory);
    expect(hunt.found).toEqual([]);
    // The hunt was where things happen: every level of the log, login and data, all processes, programs they start.
    const log = host.dataplane.log;
    for (const sign of ['"level":10', "login-request", "scsi-command"]) expect(log).toContain(sign);
    expect([...sampler.programs]).toEqual(expect.arrayContaining(["node", "nbdfuse"]));
    expect(kinds).toEqual(expect.arrayContaining(["attach-failed", "volume-attached", "connection-lost"]));
    reportMeasured(
      `${refusals} refusals; ${hunt.searchedPlaces} places and ${(hunt.searchedBytes / MIB).toFixed(1)} MiB searched: ` +
        `${files} files, ${kinds.length} events, ${sampler.count} command lines of ${[...sampler.programs].sort().join(", ")}`,
    );
  }, 120_000);

  it("appear in no output of hawserctl, which reads them from a file", async () => {
    const hunt = new CanaryHunt(SECRETS);
    const file = (name: string, secret: string): string => {
      const path = join(tgtd.directory, name);
      writeFileSync(path, `${secret}\n`);
      chmodSync(path, 0o600);
      return path;
    };
    const luns = (secretFile: string): Promise<{ stdout: string; stderr: string }> => {
      const args = ["luns", "--portal", `127.0.0.1:${PORT}`, "--target", MUTUAL, "--log-level", "trace"];
      args.push("--chap-user", "two", "--chap-secret-file", secretFile);
      args.push("--mutual-user", "back", "--mutual-secret-file", file("mutual", SECRETS.mutual));
      const child = run(process.execPath, [join(process.cwd(), "dist", "hawserctl.js"), ...args]);
      const sampler = new ProcessSampler(() => (child.child.pid === undefined ? [] : [child.child.pid]), hunt);
      return child.finally(() => sampler.stop());
    };
    const good = await luns(file("right", SECRETS.oneWay));
    expect(good.stdout).toContain("1");
    expect(good.stderr).toContain("login-request");
    hunt.look("output of hawserctl", good.stdout + good.stderr);
    const failure = (await luns(file("wrong", SECRETS.wrong)).catch((error: unknown) => error)) as Error & {
      stderr: string;
    };
    expect(failure.stderr).toContain("CHAP");
    hunt.look("failure of hawserctl", `${failure.message} ${failure.stderr}`);
    expect(hunt.found).toEqual([]);
  }, 30_000);
});

describeNeeding(needs, "CHAP secrets that the controller makes", () => {
  it("appear nowhere but sealed", async () => {
    const store = mkdtempSync(join(tmpdir(), "hawser-canary-"));
    const portal = `127.0.0.1:${PORT + 1}`;
    const controllerArgs = ["--backend", "embedded", "--store", `file:${store}`, "--portal", portal];
    const host = await HawserHost.start({ logLevel: "trace", controllerArgs });
    try {
      const capability = { mount: { fsType: "ext4" }, accessMode: { mode: "SINGLE_NODE_WRITER" } };
      const { volume: created } = (await host.call("controller", "CreateVolume", {
        ...{ name: "canary", capacityRange: { requiredBytes: 64 * MIB }, volumeCapabilities: [capability] },
      })) as { volume: { volumeId: string; volumeContext: Record<string, string> } };
      const { volumeId, volumeContext: attributes } = created;
      const one = new StaticVolume(host, { volumeId, fsType: "ext4", attributes });
      const publishContext = await one.attach();
      const { nodeId } = (await host.call("node", "NodeGetInfo")) as { nodeId: string };
      // Only the node can open it, and only for this volume.
      const keyPair = await loadNodeKey({ stateDirectory: host.stateDirectory }, { random: new SystemRandom() });
      const chap = openSealedChap(keyPair, publishContext["chap"] ?? "", { volumeHandle: volumeId, nodeId });
      const secrets = { generated: text(chap.secret), generatedMutual: text(chap.mutualSecret) };
      const hunt = new CanaryHunt(secrets);
      const sampler = new ProcessSampler(() => host.processes.flatMap((p) => (p.isRunning ? [p.pid] : [])), hunt);
      hunt.look("publish context", JSON.stringify(publishContext));
      await one.mount();
      hunt.look("status", JSON.stringify(await host.dataplaneClient.list()));
      hunt.lookBelow(host.stateDirectory);
      await one.unmount();
      // The controller keeps them for its target, sealed to the store's own key.
      expect(hunt.lookBelow(store)).toBeGreaterThan(1);
      await one.detach();
      await host.call("controller", "DeleteVolume", { volumeId });
      sampler.stop();
      const files = hunt.lookBelow(host.directory);
      expect(hunt.found).toEqual([]);
      reportMeasured(`generated secrets of ${secrets.generated.length} characters in none of ${files} files`);
    } finally {
      await host.remove();
      rmSync(store, { recursive: true });
    }
  }, 60_000);
});

function text(secret: Secret | undefined): string {
  if (secret === undefined) throw new Error("no secret was generated");
  return secret.reveal().toString();
}

function openIscsiNames(secret: string): Record<string, string> {
  return { "node.session.auth.username": "two", "node.session.auth.password": secret };
}
