import { discoverTargets } from "../../../src/discovery/send-targets.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import type { InitiatorPdu, Pdu } from "../../../src/wire/pdu.js";
import { decodeTextKeys } from "../../../src/wire/text-keys.js";
import type { ScriptedConnection } from "../../support/scripted-target.js";
import { createFixture, INITIATOR_NAME, openSession, settle } from "../../support/session-fixture.js";
import { answerLogout, NO_DATA, RESERVED } from "../../support/trap-helpers.js";
import { management, type TargetPeer, TARGET_NAME, TargetWorld } from "../target/target-peer.js";

/** Traps 49, 50 and 70: SendTargets, long texts, discovery sessions (RFC 7143 §4.3, §6.4, §7.4, Appendix C). */

/** Answers text requests with these parts, one after the other, and logouts. */
function answerText(parts: readonly string[]) {
  let sent = 0;
  return (connection: ScriptedConnection, pdu: Pdu): void => {
    answerLogout()(connection, pdu);
    if (pdu.type !== "text-request") return;
    const isLast = sent === parts.length - 1;
    connection.send({
      ...{ type: "text-response", isFinal: isLast, isContinued: !isLast, lun: pdu.lun },
      ...{ initiatorTaskTag: pdu.initiatorTaskTag, targetTransferTag: isLast ? RESERVED : 0x70 + sent },
      data: Buffer.from(parts[sent] ?? ""),
    });
    sent += 1;
  };
}

const request = { portal: { host: "target", port: 3260 }, initiatorName: INITIATOR_NAME, timeoutMs: 20_000 };

test("trap 49: a target without TargetAddress is at the portal that was asked", async () => {
  const fixture = await createFixture({ target: { onPdu: answerText(["TargetName=iqn.2026-11.test:a\0"]) } });
  expect(await settle(fixture.clock, discoverTargets(request, fixture.dependencies))).toEqual([
    { targetName: "iqn.2026-11.test:a", portals: [request.portal] },
  ]);
});

test("trap 49: a long answer goes on with the target's tag, until all of it is there", async () => {
  const parts = [
    "TargetName=iqn.2026-11.test:a\0TargetAddr",
    "ess=10.0.0.1:3260,1\0TargetName=iqn.2026",
    "-11.test:b\0",
  ];
  const fixture = await createFixture({ target: { onPdu: answerText(parts) } });
  const targets = await settle(fixture.clock, discoverTargets(request, fixture.dependencies));
  expect(targets.map(({ targetName }) => targetName)).toEqual(["iqn.2026-11.test:a", "iqn.2026-11.test:b"]);
  const asked = fixture.target.connection.ofType("text-request");
  expect(asked.map((pdu) => pdu.targetTransferTag)).toEqual([RESERVED, 0x70, 0x71]);
});

test("trap 50: the requests of one text exchange share their task tag and echo the target's tag; the next begins with ffffffff", async () => {
  const { session, target, clock } = await openSession({ target: { onPdu: answerText(["a=", "b\0"]) } });
  await settle(clock, session.text([["X-one", "1"]]));
  target.onPdu = answerText(["c=d\0"]);
  await settle(clock, session.text([["X-two", "2"]]));
  const [first, second, fresh] = target.connection.ofType("text-request");
  expect([first?.targetTransferTag, second?.targetTransferTag, fresh?.targetTransferTag]).toEqual([
    RESERVED,
    0x70,
    RESERVED,
  ]);
  expect(second?.initiatorTaskTag).toBe(first?.initiatorTaskTag);
  expect(fresh?.initiatorTaskTag).not.toBe(first?.initiatorTaskTag);
});

function textRequest(targetTransferTag: number, text: string): InitiatorPdu {
  return {
    ...{ type: "text-request", isImmediate: true, isFinal: true, isContinued: false, lun: LUN_ZERO },
    ...{ initiatorTaskTag: 5, targetTransferTag, cmdSn: 100, expStatSn: 0, data: Buffer.from(text) },
  };
}

async function discover(world: TargetWorld): Promise<TargetPeer> {
  const peer = await world.connect();
  await peer.send(peer.loginRequest({ InitiatorName: INITIATOR_NAME, SessionType: "Discovery" }));
  expect(peer.next("login-response").statusClass).toBe(0);
  return peer;
}

test("trap 50: at the target a request with the reserved tag begins anew, whatever was left of the last answer", async () => {
  const world = new TargetWorld();
  for (let index = 0; index < 300; index += 1) {
    world.server.addTarget({ name: `${TARGET_NAME}-${index}`, luns: new Map(), access: { kind: "any" } });
  }
  const peer = await discover(world);
  await peer.send(textRequest(RESERVED, "SendTargets=All\0"));
  const begun = peer.next("text-response");
  expect([begun.isFinal, begun.targetTransferTag === RESERVED]).toEqual([false, false]);
  await peer.send(textRequest(RESERVED, `SendTargets=${TARGET_NAME}\0`));
  const fresh = peer.next("text-response");
  expect(fresh).toMatchObject({ isFinal: true, targetTransferTag: RESERVED });
  expect(decodeTextKeys(fresh.data)).toHaveLength(2);
  await peer.send(textRequest(begun.targetTransferTag, ""));
  expect(peer.next("reject").reason).toBe(0x04);
});

test("trap 70: a discovery session sends SendTargets and the logout that closes it, and no ping while it waits", async () => {
  const fixture = await createFixture({ target: { onPdu: answerLogout() } });
  const asking = discoverTargets(request, fixture.dependencies);
  asking.catch(() => undefined);
  await fixture.clock.advance(15_000);
  const { connection } = fixture.target;
  expect(connection.received.map(({ type }) => type)).toEqual(["text-request"]);
  const [question] = connection.ofType("text-request");
  connection.send({
    ...{ type: "text-response", isFinal: true, isContinued: false, lun: LUN_ZERO, targetTransferTag: RESERVED },
    ...{ initiatorTaskTag: question!.initiatorTaskTag, data: NO_DATA },
  });
  expect(await settle(fixture.clock, asking)).toEqual([]);
  expect(connection.received.map(({ type }) => type)).toEqual(["text-request", "logout-request"]);
  expect(connection.ofType("logout-request")[0]?.reason).toBe(0);
  const offered = new Map(connection.logins.flatMap(({ data }) => decodeTextKeys(data)));
  expect([offered.get("SessionType"), offered.get("ErrorRecoveryLevel") ?? "0"]).toEqual(["Discovery", "0"]);
});

test("trap 70: the target holds a discovery session to ErrorRecoveryLevel 0 and one connection", async () => {
  const peer = await new TargetWorld().connect();
  const keys = { InitiatorName: INITIATOR_NAME, SessionType: "Discovery", ErrorRecoveryLevel: "2" };
  await peer.send(peer.loginRequest({ ...keys, MaxConnections: "4" }));
  const answers = Object.fromEntries(decodeTextKeys(peer.next("login-response").data));
  expect(answers["ErrorRecoveryLevel"]).toBe("0");
  expect(["1", "Irrelevant"]).toContain(answers["MaxConnections"]);
});

test.each([
  ["a SCSI command", (peer: TargetPeer): InitiatorPdu => peer.command("00")],
  ["task management", (peer: TargetPeer): InitiatorPdu => management(peer, { function: 5 })],
  [
    "a SNACK",
    (): InitiatorPdu => ({
      ...{ type: "snack-request", snackType: 1, lun: LUN_ZERO, initiatorTaskTag: RESERVED },
      ...{ targetTransferTag: RESERVED, expStatSn: 0, begRun: 0, runLength: 0 },
    }),
  ],
])("trap 70: the target rejects %s in a discovery session, and goes on with it", async (_name, pdu) => {
  const peer = await discover(new TargetWorld());
  await peer.send(pdu(peer));
  expect([0x04, 0x05]).toContain(peer.next("reject").reason);
  await peer.send(textRequest(RESERVED, "SendTargets=All\0"));
  expect(peer.next("text-response").data.length).toBeGreaterThan(0);
});
