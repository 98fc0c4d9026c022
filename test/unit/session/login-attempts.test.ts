import { Secret } from "../../../src/base/secret.js";
import type { Dialer } from "../../../src/transport/transport.js";
import { Session } from "../../../src/session/session.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { LoginStage, RESERVED_TAG } from "../../../src/wire/constants.js";
import { decodePdu } from "../../../src/wire/decode.js";
import { encodePdu } from "../../../src/wire/encode.js";
import { Framer } from "../../../src/wire/framer.js";
import type { LoginRequestPdu, Pdu } from "../../../src/wire/pdu.js";
import { decodeTextKeys, encodeTextKeys } from "../../../src/wire/text-keys.js";
import { type Fixture, createFixture, settle } from "../../support/session-fixture.js";

const NO_DIGESTS = { header: false, data: false };
const ODD = { kind: "tcp", host: "odd", port: 3260 } as const;

type Answer = (request: LoginRequestPdu, keys: ReadonlyMap<string, string>) => readonly Pdu[];

/** A portal whose answers to Login Requests are the test's. */
async function listen(fixture: Fixture, answer: Answer): Promise<void> {
  await fixture.network.listen(ODD, (stream) => {
    const framer = new Framer(
      { maxDataSegmentLength: 8192, digests: NO_DIGESTS },
      {
        placeData: () => undefined,
        onPdu: ({ header, ahs, data }) => {
          const pdu = decodePdu(Buffer.from(header), ahs, data);
          if (pdu.type !== "login-request") return;
          for (const reply of answer(pdu, new Map(decodeTextKeys(pdu.data)))) {
            stream.write(encodePdu(reply, NO_DIGESTS).map((chunk) => Buffer.from(chunk)));
          }
        },
      },
    );
    stream.start({ onData: (chunk) => framer.push(chunk), onClose: () => undefined });
  });
}

function loginResponse(request: LoginRequestPdu, keys: Record<string, string>, more: object = {}): Pdu {
  return {
    type: "login-response",
    isTransit: request.isTransit,
    isContinued: false,
    currentStage: request.currentStage,
    nextStage: request.isTransit ? request.nextStage : LoginStage.securityNegotiation,
    versionMax: 0,
    versionActive: 0,
    isid: Buffer.from(request.isid),
    tsih: request.isTransit && request.nextStage === LoginStage.fullFeature ? 9 : 0,
    initiatorTaskTag: request.initiatorTaskTag,
    statSn: 100,
    expCmdSn: request.cmdSn,
    maxCmdSn: request.cmdSn + 31,
    statusClass: 0,
    statusDetail: 0,
    data: encodeTextKeys(Object.entries(keys)),
    ...more,
  };
}

describe("one more attempt with other CHAP algorithms", () => {
  /** Fails on every list but MD5 alone, as some targets do. */
  const onlyMd5 =
    (lists: string[], isAlwaysFailing: boolean): Answer =>
    (request, keys) => {
      if (keys.has("AuthMethod")) {
        return [loginResponse(request, { TargetPortalGroupTag: "1", AuthMethod: "CHAP" }, { isTransit: false })];
      }
      const list = keys.get("CHAP_A") ?? "";
      lists.push(list);
      if (list !== "5" || isAlwaysFailing) return [loginResponse(request, {}, { statusClass: 3, isTransit: false })];
      return [loginResponse(request, {}, { statusClass: 2, statusDetail: 1, isTransit: false })];
    };

  test.each([
    [false, "LOGIN_AUTHENTICATION_FAILED"],
    [true, "LOGIN_TARGET_ERROR"],
  ])("is made once, with MD5 alone (target always failing: %s)", async (isAlwaysFailing, code) => {
    const lists: string[] = [];
    const fixture = await createFixture({
      session: { portal: ODD, chap: { user: "u", secret: Secret.from("a secret of some length") } },
    });
    await listen(fixture, onlyMd5(lists, isAlwaysFailing));
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ code });
    expect(lists).toHaveLength(2);
    expect(lists[0]!.split(",").length).toBeGreaterThan(1);
    expect(lists[1]).toBe("5");
    expect(fixture.network.links).toHaveLength(0);
    expect(fixture.clock.pendingTimers).toBe(0);
  });
});

describe("logins that do not become sessions", () => {
  test("anything but a Login Response ends the attempt (§6.3)", async () => {
    const fixture = await createFixture({ session: { portal: ODD } });
    await listen(fixture, ({ initiatorTaskTag }) => [
      {
        type: "nop-in",
        lun: LUN_ZERO,
        initiatorTaskTag,
        targetTransferTag: RESERVED_TAG,
        statSn: 1,
        expCmdSn: 1,
        maxCmdSn: 1,
        data: Buffer.alloc(0),
      },
    ]);
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ code: "SESSION_PROTOCOL", details: { section: "§6.3" } });
  });

  test("a portal that accepts and then says nothing has its time, and others are tried", async () => {
    const fixture = await createFixture({ session: { portal: ODD, timers: { loginTimeoutMs: 3_000 } } });
    await listen(fixture, () => []);
    const opening = settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    await expect(opening).rejects.toMatchObject({ code: "SESSION_TIMEOUT", retry: "other-path" });
    expect(fixture.clock.pendingTimers).toBe(0);
  });

  /** A dialer that acts right after the stream is there, or right after bytes have come in. */
  function watchedDialer(dialer: Dialer, moment: "dialled" | "received", act: (count: number) => void): Dialer {
    let received = 0;
    return {
      dial: async (endpoint, options) => {
        const stream = await dialer.dial(endpoint, options);
        if (moment === "dialled") {
          act(0);
          return stream;
        }
        const start = stream.start.bind(stream);
        stream.start = ({ onData, ...handlers }) =>
          start({
            ...handlers,
            onData: (chunk) => {
              onData(chunk);
              received += 1;
              act(received);
            },
          });
        return stream;
      },
    };
  }

  test.each(["dialled", "received"] as const)("cancelled in the same breath: %s", async (moment) => {
    const fixture = await createFixture({});
    const controller = new AbortController();
    // Two Login Responses make a session: the second one brings the full feature phase.
    const dialer = watchedDialer(fixture.network, moment, (count) => {
      if (count !== 1) controller.abort(new Error("not wanted any more"));
    });
    const opening = Session.open(fixture.options, { ...fixture.dependencies, dialer }, controller.signal);
    await expect(settle(fixture.clock, opening)).rejects.toMatchObject({ code: "SESSION_CANCELLED" });
    await fixture.clock.advance(1_000);
    expect(fixture.network.links).toHaveLength(0);
    expect(fixture.clock.pendingTimers).toBe(0);
  });

  test("cancelled while it waits for an answer", async () => {
    const fixture = await createFixture({ session: { portal: ODD } });
    await listen(fixture, () => []);
    const controller = new AbortController();
    const opening = Session.open(fixture.options, fixture.dependencies, controller.signal);
    opening.catch(() => undefined);
    await fixture.clock.advance(100);
    controller.abort();
    await expect(settle(fixture.clock, opening)).rejects.toMatchObject({ code: "SESSION_CANCELLED" });
    expect(fixture.network.links).toHaveLength(0);
  });
});

describe("what is said at the login", () => {
  test("alias, source address, segment length and vendor keys as configured", async () => {
    const fixture = await createFixture({
      session: {
        initiatorAlias: "host seven",
        localAddress: "10.0.0.7",
        extensionKeys: [["X-com.example.key", "one"]],
        offers: { maxRecvDataSegmentLength: 65_536 },
        isPortalPinned: true,
        portalRetryCount: 3,
      },
    });
    const session = await settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
    const said = fixture.target.connection.logins.map(({ data }) => data.toString()).join("");
    expect(said).toContain("InitiatorAlias=host seven\0");
    expect(said).toContain("X-com.example.key=one\0");
    expect(said).toContain("MaxRecvDataSegmentLength=65536\0");
    expect(session.status().connections[0]!.localAddress).toMatch(/^10\.0\.0\.7:/);
    session.close();
  });
});
