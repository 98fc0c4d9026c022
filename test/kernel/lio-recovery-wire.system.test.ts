import { reportMeasured } from "../support/file-load.js";
import { buildForGuest, type GuestBuild } from "../support/guest-build.js";
import { type RepairedModule, repairedLioModule } from "../support/lio-repair.js";
import { lioStart, lioTarget } from "../support/lio.js";
import { describeNeeding } from "../support/needs.js";
import { expectUmlSuccess, runInUml, UML_NEEDS } from "../support/uml.js";

const IQN = "iqn.2026-11.test:wire";
const PORT = 13_460;
const WHOLE_READ = ["data-in 0", "data-in 1", "data-in 2", "data-in 3 F A S"];
/** "Function rejected" (RFC 7143 §11.6.1); LIO says so of every task that it has moved as asked. */
const MOVED = "tmf 255";
/** "Function complete"; LIO says so of a task that it does not know. */
const UNKNOWN = "tmf 0";

/**
 * What LIO does with the means of recovery, one PDU at a time. The initiator's recovery relies on each of these, also
 * on those that are against the RFC: when a kernel changes one of them, this is where it shows.
 */
describeNeeding(UML_NEEDS, "LIO at error recovery level 2, seen from the wire", () => {
  let build: GuestBuild;
  let module: RepairedModule;
  let seen: Record<string, unknown>;

  beforeAll(async () => {
    build = await buildForGuest();
    module = await repairedLioModule();
    const target = lioTarget({ iqn: IQN, port: PORT, errorRecoveryLevel: 2, maxConnections: 8 });
    const result = await runInUml({
      script: `${lioStart(module.path)}${target}node ${build.folder}/test/kernel/guest/lio-wire.js ${PORT} ${IQN}`,
      timeoutMs: 170_000,
    });
    expectUmlSuccess(result);
    seen = JSON.parse(result.files["wire.json"] ?? "{}") as Record<string, unknown>;
    for (const [step, what] of Object.entries(seen)) reportMeasured(`LIO, ${step}: ${JSON.stringify(what)}`);
  }, 180_000);

  afterAll(async () => {
    await build.remove();
    await module.remove();
  });

  it("agrees to level 2, eight connections and data digests", () => {
    const login = ["MaxConnections=8", "ErrorRecoveryLevel=2", "DataDigest=CRC32C", "DefaultTime2Retain=20"];
    expect(seen["login"]).toEqual(expect.arrayContaining(login));
  });

  it("Data SNACK: sends a run again, but takes an explicit run with the last PDU for a protocol error", () => {
    const first = WHOLE_READ;
    expect(seen["data snack 1 of 4, run 1"]).toEqual({ first, again: ["data-in 1"], closed: false });
    expect(seen["data snack 1 of 4, run 0"]).toEqual({ first, again: WHOLE_READ.slice(1), closed: false });
    expect(seen["data snack of the last, run 0"]).toEqual({ first, again: WHOLE_READ.slice(3), closed: false });
    expect(seen["data snack of the last, run 1"]).toMatchObject({ first, closed: true });
  });

  it("Status SNACK: whatever was lost, a SCSI Response comes, with ExpDataSN 0", () => {
    const again = ["response status 0 expDataSn 0"];
    expect(seen["status snack of a response"]).toEqual({ first: again, again, closed: false });
    expect(seen["status snack of a collapsed status"]).toMatchObject({ first: ["data-in 0 F A S"], again });
    expect(seen["status snack of a ping's answer"]).toMatchObject({ first: ["nop-in"], again });
  });

  it("DataACK is asked for with every sequence, the last one too; R-Data SNACK closes the connection", () => {
    const first = ["data-in 0", "data-in 1 F A", "data-in 2", "data-in 3 F A S"];
    expect(seen["data ack"]).toMatchObject({ first, once: { closed: false } });
    expect(seen["r-data snack"]).toMatchObject({ closed: true });
  });

  it("bad immediate data: rejected, and the retry with the same CmdSN is carried out", () => {
    const retry = ["response status 0 expDataSn 0"];
    expect(seen["bad immediate data"]).toMatchObject({ answers: ["reject 2"], expCmdSnAfter: 2, retry, closed: false });
  });

  it("Data-Out: a missing PDU is asked for after three seconds; a bad one at once, as long as its Reject is not acknowledged", () => {
    const r2t = "r2t 1 8192+24576";
    const end = ["response status 0 expDataSn 0"];
    expect(seen["missing data-out"]).toEqual({ r2t: [r2t], waitedSeconds: 3, end });
    const answers = [r2t, "reject 2"];
    expect(seen["bad data-out, reject held"]).toMatchObject({ answers, end, closed: false });
    expect(seen["bad data-out, reject acknowledged at once"]).toMatchObject({ answers, end: [], closed: false });
  });

  it("TASK REASSIGN: only after the recovery logout; a task that was moved is answered with 255, an unknown one with 0", () => {
    expect(seen["reassign"]).toEqual({
      before: [...WHOLE_READ, "response status 0 expDataSn 0"],
      ...{ early: [UNKNOWN], lost: [], beforeLogout: [UNKNOWN] },
      logout: ["logout 0 wait 0 retain 0", "async 2 cid 1 2 20"],
      ...{ write: [MOVED, "r2t 1 0+32768"], written: ["response status 0 expDataSn 0"] },
      read: [MOVED, ...WHOLE_READ.slice(2)],
      plain: [MOVED, "response status 0 expDataSn 0"],
      ...{ unknown: [UNKNOWN], logoutAgain: ["logout 1 wait 0 retain 0"], closed: false },
    });
    const read = ["async 2 cid 10 2 20", MOVED, ...WHOLE_READ];
    expect(seen["reassign acknowledged"]).toEqual({ round: 10, read, ping: true });
  });

  it("reinstates a connection that lives, and one that was the last", () => {
    const onFirst = ["async 2 cid 1 2 20"];
    const read = [MOVED, ...WHOLE_READ.slice(1)];
    expect(seen["reinstatement of a live connection"]).toEqual({ oldClosed: true, onFirst, read });
    expect(seen["login after all connections were lost"]).toEqual({ status: 0, read: [MOVED, ...WHOLE_READ] });
  });

  test.each(["0", "1"])("level %s: the loss of one connection ends the session", (level) => {
    const gone = { otherClosed: true, joinStatus: 0x020a };
    expect(seen[`loss of one connection at level ${level}`]).toEqual(gone);
  });
});
