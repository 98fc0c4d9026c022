import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { lioStart, lioTarget } from "../support/lio.js";
import type { JoinReport } from "../support/login-driver.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const iqn = "iqn.2026-11.test:join";

describeNeeding([...UML_NEEDS], "connections of one session at LIO", () => {
  let build: GuestBuild;

  beforeAll(async () => {
    build = await buildForGuest();
  });

  afterAll(() => build.remove());

  it("joins over all portals up to MaxConnections; keys it does not know harm nothing", async () => {
    const portals = ["127.0.0.1:13450", "127.0.0.1:13451", "127.0.0.1:13452"];
    const result = await runInUml({
      script: `${lioStart()}${lioTarget({ iqn, portals, errorRecoveryLevel: 2, maxConnections: 3 })}
node ${build.folder}/test/kernel/guest/login-lio.js ${iqn} 13450 13451 13452`,
    });
    expectUmlSuccess(result);
    process.stdout.write(`LIO: ${result.files["login.json"] ?? ""}\n`);
    const { leading, joins } = JSON.parse(result.files["login.json"] ?? "{}") as JoinReport;
    expect(leading).toMatchObject({
      hasTsih: true,
      parameters: { errorRecoveryLevel: 2, maxConnections: 3, maxOutstandingR2T: 1, taskReporting: "RFC3720" },
      extensionAnswers: [["X-dev.hawser.test", "NotUnderstood"]],
    });
    expect(joins).toMatchObject([
      { hasTsih: true, parameters: { errorRecoveryLevel: 2 } },
      { hasTsih: true, parameters: { errorRecoveryLevel: 2 } },
      { code: "LOGIN_TOO_MANY_CONNECTIONS" },
      { code: "LOGIN_SESSION_DOES_NOT_EXIST" },
    ]);
  }, 120_000);
});
