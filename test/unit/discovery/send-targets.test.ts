import { discoverTargets, readSendTargets } from "../../../src/discovery/send-targets.js";
import { staticTargets } from "../../../src/discovery/static-targets.js";
import { decodeTextKeys } from "../../../src/wire/text-keys.js";
import type { ScriptedTargetOptions } from "../../support/scripted-target.js";
import { type Fixture, INITIATOR_NAME, createFixture, settle } from "../../support/session-fixture.js";

const asked = { host: "10.0.0.1", port: 3260 };
const RESERVED = 0xffff_ffff;

describe("the answer to SendTargets", () => {
  test("addresses with port and tag, IPv6 and names, several for one target", () => {
    const targets = readSendTargets(
      [
        ["TargetName", "iqn.a"],
        ["TargetAddress", "10.0.0.2:3261,7"],
        ["TargetAddress", "[2001:db8::5]:3260,1"],
        ["TargetAddress", "array.example.org,2"],
        ["TargetAddress", "10.0.0.2:3261,7"],
        ["TargetName", "iqn.b"],
        ["TargetAlias", "ignored"],
      ],
      asked,
    );
    expect(targets).toEqual([
      {
        targetName: "iqn.a",
        portals: [
          { host: "10.0.0.2", port: 3261, portalGroupTag: 7 },
          { host: "2001:db8::5", port: 3260, portalGroupTag: 1 },
          { host: "array.example.org", port: 3260, portalGroupTag: 2 },
        ],
      },
      // Without an address: the portal that was asked (RFC 7143 Appendix C).
      { targetName: "iqn.b", portals: [asked] },
    ]);
  });

  test("a target named twice is one target", () => {
    const targets = readSendTargets(
      [
        ["TargetName", "iqn.a"],
        ["TargetAddress", "10.0.0.2:3260,1"],
        ["TargetName", "iqn.a"],
        ["TargetAddress", "10.0.0.3:3260,2"],
      ],
      asked,
    );
    expect(targets.map(({ portals }) => portals.length)).toEqual([2]);
  });

  test.each([
    ["an address before any name", [["TargetAddress", "10.0.0.2:3260,1"]], "DISCOVERY_ANSWER_INVALID"],
    [
      "an address that is none",
      [
        ["TargetName", "iqn.a"],
        ["TargetAddress", "::::"],
      ],
      "TARGET_ADDRESS_INVALID",
    ],
  ] as const)("%s is refused", (_name, pairs, code) => {
    expect(() => readSendTargets(pairs, asked)).toThrow(expect.objectContaining({ code }));
  });
});

describe("a discovery", () => {
  const onPdu: NonNullable<ScriptedTargetOptions["onPdu"]> = (connection, pdu) => {
    if (pdu.type === "text-request") {
      const isFirst = pdu.targetTransferTag === RESERVED;
      connection.send({
        type: "text-response",
        isFinal: !isFirst,
        isContinued: isFirst,
        lun: pdu.lun,
        initiatorTaskTag: pdu.initiatorTaskTag,
        targetTransferTag: isFirst ? 3 : RESERVED,
        data: Buffer.from(isFirst ? "TargetName=iqn.2026-11.te" : "st:x\0TargetAddress=[fe80::1]:3260,1\0"),
      });
    } else if (pdu.type === "logout-request") {
      connection.send({
        type: "logout-response",
        response: 0,
        initiatorTaskTag: pdu.initiatorTaskTag,
        time2Wait: 0,
        time2Retain: 0,
      });
    }
  };

  function discover({ dependencies }: Fixture): ReturnType<typeof discoverTargets> {
    const portal = { host: "target", port: 3260 };
    return discoverTargets({ portal, initiatorName: INITIATOR_NAME, timeoutMs: 4000 }, dependencies);
  }

  test("is a session of its own kind that asks, logs out, and offers no digest", async () => {
    const fixture = await createFixture({ target: { onPdu } });
    const targets = await settle(fixture.clock, discover(fixture));
    expect(targets).toEqual([
      { targetName: "iqn.2026-11.test:x", portals: [{ host: "fe80::1", port: 3260, portalGroupTag: 1 }] },
    ]);
    const { connection } = fixture.target;
    const offered = new Map(connection.logins.flatMap((login) => decodeTextKeys(login.data)));
    expect(offered.get("SessionType")).toBe("Discovery");
    expect(offered.has("TargetName")).toBe(false);
    expect(offered.get("HeaderDigest") ?? "None").toBe("None");
    expect(offered.get("DataDigest") ?? "None").toBe("None");
    expect(connection.received.map(({ type }) => type)).toEqual(["text-request", "text-request", "logout-request"]);
    expect(decodeTextKeys(connection.ofType("text-request")[0]!.data)).toEqual([["SendTargets", "All"]]);
    await fixture.clock.advance(10);
    expect(connection.isClosed).toBe(true);
    expect(fixture.clock.pendingTimers).toBe(0);
  });

  test("of a target that says nothing ends in time", async () => {
    const fixture = await createFixture({});
    await expect(settle(fixture.clock, discover(fixture))).rejects.toMatchObject({ code: "DISCOVERY_TIMEOUT" });
    await fixture.clock.advance(10);
    expect(fixture.target.connection.isClosed).toBe(true);
    expect(fixture.clock.pendingTimers).toBe(0);
  });

  test("whose connection breaks fails, and does not begin again", async () => {
    const fixture = await createFixture({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type === "text-request") connection.close();
        },
      },
    });
    await expect(settle(fixture.clock, discover(fixture))).rejects.toMatchObject({ code: "SESSION_CONNECTION_LOST" });
    await fixture.clock.advance(60_000);
    expect(fixture.target.connections).toHaveLength(1);
  });
});

describe("static targets", () => {
  test("names in normal form, each portal once", () => {
    const portal = { host: "10.0.0.1", port: 3260 };
    expect(
      staticTargets([
        { targetName: "IQN.2026-11.Test:A", portals: [portal] },
        { targetName: "iqn.2026-11.test:a", portals: [portal, { host: "10.0.0.2", port: 3260 }] },
      ]),
    ).toEqual([{ targetName: "iqn.2026-11.test:a", portals: [portal, { host: "10.0.0.2", port: 3260 }] }]);
  });

  test("a target without portal and a name that is none are refused", () => {
    expect(() => staticTargets([{ targetName: "iqn.2026-11.test:a", portals: [] }])).toThrow(/no portal/);
    expect(() => staticTargets([{ targetName: "disk", portals: [{ host: "h", port: 1 }] }])).toThrow();
  });
});
