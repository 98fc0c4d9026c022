import { Secret } from "../../src/base/secret.js";
import type { InitiatorLoginOptions } from "../../src/login/initiator-login.js";
import { loginOptions, loginOverTcp } from "../support/login-driver.js";
import type { LoginEnd } from "../support/login-driver.js";
import { describeNeeding } from "../support/needs.js";
import { Tgtd } from "../support/tgt.js";

const portal = { host: "127.0.0.1", port: 13_481 };
const name = (end: string): string => `iqn.2026-01.dev.hawser:${end}`;
const oneWay = { user: "node1", secret: Secret.from("initiator-secret") };
const mutual = {
  user: "node2",
  secret: Secret.from("another-secret-1"),
  mutualUser: "storage",
  mutualSecret: Secret.from("target-secret-2"),
};

describeNeeding(["tgtd", "tgtadm"], "logging in to tgtd", () => {
  let tgtd: Tgtd;

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      controlPort: 7391,
      portals: ["127.0.0.1:13481", "[::1]:13481"],
      targets: [
        {
          name: name("open"),
          diskBytes: [1_048_576],
          parameters: {
            MaxOutstandingR2T: 8,
            HeaderDigest: "CRC32C,None",
            DataDigest: "CRC32C,None",
            MaxBurstLength: 65_536,
          },
        },
        { name: name("chap"), diskBytes: [1_048_576], account: { user: "node1", secret: "initiator-secret" } },
        {
          name: name("mutual"),
          diskBytes: [1_048_576],
          account: {
            user: "node2",
            secret: "another-secret-1",
            mutualUser: "storage",
            mutualSecret: "target-secret-2",
          },
        },
      ],
    });
  });

  afterAll(async () => {
    await tgtd.stop();
  });

  async function run(target: string, changes: Partial<InitiatorLoginOptions> = {}): Promise<LoginEnd | Error> {
    return (await loginOverTcp(portal, loginOptions({ targetName: name(target), ...changes }))).end;
  }

  it.each([false, true])(
    "agrees on the target's limits; security stage skipped: %p",
    async (isSecurityStageSkipped) => {
      expect(await run("open", { isSecurityStageSkipped })).toMatchObject({
        kind: "done",
        result: {
          targetPortalGroupTag: 1,
          parameters: { maxOutstandingR2T: 8, maxBurstLength: 65_536, firstBurstLength: 65_536 },
        },
      });
    },
  );

  it("agrees on both digests over IPv6", async () => {
    const options = loginOptions({ targetName: name("open"), headerDigest: "crc32c", dataDigest: "prefer-crc32c" });
    const { end } = await loginOverTcp({ host: "::1", port: portal.port }, options);
    expect(end).toMatchObject({ kind: "done", result: { isHeaderDigestUsed: true, isDataDigestUsed: true } });
  });

  it("offers the keys that are younger than tgt without harm", async () => {
    const offers = { taskReporting: ["FastAbort", "ResponseFence", "RFC3720"], iscsiProtocolLevel: 2 } as const;
    expect(await run("open", { offers })).toMatchObject({
      kind: "done",
      result: { parameters: { taskReporting: "RFC3720", iscsiProtocolLevel: 1 } },
    });
  });

  it("logs in for discovery", async () => {
    const { targetName, ...options } = loginOptions();
    expect(targetName).toBeDefined();
    const { end } = await loginOverTcp(portal, { ...options, sessionType: "Discovery" });
    expect(end).toMatchObject({ kind: "done" });
  });

  it.each([
    ["one-way", "chap", oneWay],
    ["mutual", "mutual", mutual],
  ])("proves itself by %s CHAP, in the second attempt where tgt errs in SHA-256", async (_title, target, chap) => {
    const options = loginOptions({ targetName: name(target), chap });
    const first = await loginOverTcp(portal, options);
    // A tgt that computes algorithm 7 as SHA-1 refuses the right secret; a sound one is done here.
    const chapAlgorithms = first.end instanceof Error ? first.login.nextChapAttempt(first.end) : undefined;
    if (first.end instanceof Error) expect(chapAlgorithms).toEqual([5]);
    const last = chapAlgorithms === undefined ? first : await loginOverTcp(portal, { ...options, chapAlgorithms });
    expect(last.end).toMatchObject({ kind: "done", result: { authMethod: "CHAP" } });
  });

  it("tells a wrong secret, a missing one, a target that cannot prove itself, and an unknown target apart", async () => {
    const chapAlgorithms = [5] as const;
    const wrong = { ...oneWay, secret: Secret.from("wrong-wrong-wrong") };
    expect(await run("chap", { chap: wrong, chapAlgorithms })).toMatchObject({ code: "LOGIN_AUTHENTICATION_FAILED" });
    expect(await run("chap")).toMatchObject({ code: "LOGIN_AUTHENTICATION_FAILED" });
    const impostor = { ...mutual, mutualSecret: Secret.from("wrong-wrong-wrong") };
    expect(await run("mutual", { chap: impostor, chapAlgorithms })).toMatchObject({ code: "AUTH_TARGET_NOT_PROVEN" });
    expect(await run("nobody")).toMatchObject({ code: "LOGIN_TARGET_NOT_FOUND" });
  });
});
