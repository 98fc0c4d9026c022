import { ISTGT_TARGET_NAME, Istgt } from "../support/istgt.js";
import { loginOptions, logInAndJoin } from "../support/login-driver.js";
import { describeNeeding } from "../support/needs.js";
import { Tgtd } from "../support/tgt.js";

const at = (port: number): { host: string; port: number } => ({ host: "127.0.0.1", port });

describeNeeding(["istgt"], "connections of one session at istgt", () => {
  let istgt: Istgt;

  beforeAll(async () => {
    istgt = await Istgt.start({
      controlPort: 13_520,
      portals: [at(13_521), at(13_522), { host: "::1", port: 13_521 }],
      diskBytes: 1_048_576,
    });
  });

  afterAll(() => istgt.stop());

  it("joins over all portals; keys it does not know harm nothing; what may not join is refused", async () => {
    const options = loginOptions({ targetName: ISTGT_TARGET_NAME, offers: { maxConnections: 8 } });
    const portals = [at(13_522), { host: "::1", port: 13_521 }, at(13_521), at(13_522)];
    const { leading, joins } = await logInAndJoin(at(13_521), portals, options);
    process.stdout.write(`istgt: ${JSON.stringify({ leading, joins })}\n`);
    expect(leading).toMatchObject({ hasTsih: true, parameters: { maxConnections: 4, taskReporting: "RFC3720" } });
    expect(joins).toMatchObject([
      { hasTsih: true, parameters: { maxConnections: 4 } },
      { hasTsih: true },
      { hasTsih: true },
      // The one word it has for all that may not join.
      { code: "LOGIN_CANNOT_INCLUDE_IN_SESSION" },
      { code: "LOGIN_CANNOT_INCLUDE_IN_SESSION" },
    ]);
  });
});

describeNeeding(["tgtd", "tgtadm"], "connections of one session at tgtd", () => {
  let tgtd: Tgtd;
  const targetName = "iqn.2026-01.dev.hawser:join";

  beforeAll(async () => {
    tgtd = await Tgtd.start({
      controlPort: 7392,
      portals: ["127.0.0.1:13523", "127.0.0.1:13524"],
      targets: [{ name: targetName, diskBytes: [1_048_576], parameters: { MaxConnections: 4 } }],
    });
  });

  afterAll(() => tgtd.stop());

  it("keys it does not know harm nothing; a join that is none is refused", async () => {
    const options = loginOptions({ targetName, offers: { maxConnections: 4 } });
    const { leading, joins } = await logInAndJoin(at(13_523), [at(13_524)], options);
    process.stdout.write(`tgt: ${JSON.stringify({ leading, joins })}\n`);
    expect(leading).toMatchObject({ hasTsih: true, parameters: { taskReporting: "RFC3720", iscsiProtocolLevel: 1 } });
    // It agrees to four connections, then treats the second login as that of a new session: noticed, not believed.
    expect(joins).toMatchObject([{ code: "NEGOTIATION_KEY_REPEATED" }, { code: "LOGIN_TARGET_NOT_FOUND" }]);
  });
});
