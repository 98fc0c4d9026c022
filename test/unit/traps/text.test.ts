import { Negotiator, type NegotiationRole, type OperationalPreferences } from "../../../src/login/negotiate.js";
import { DEFAULT_PREFERENCES } from "../../../src/login/negotiate.js";
import { decodeBinaryValue } from "../../../src/wire/binary-value.js";
import { decodeTextKeys, encodeTextKeys } from "../../../src/wire/text-keys.js";
import { ScriptedLogin } from "../../support/scripted-login.js";
import { openSession, settle } from "../../support/session-fixture.js";
import { codeOf, RESERVED } from "../../support/trap-helpers.js";
import { INITIATOR_NAME, TARGET_NAME, TargetWorld, textOf } from "../target/target-peer.js";

/** Traps 29 to 36 and 51: text keys and how they are negotiated (RFC 7143 §6.1 to §6.3, §13.25). */

const names = { InitiatorName: INITIATOR_NAME, TargetName: TARGET_NAME, SessionType: "Normal" };

function negotiator(role: NegotiationRole, preferences: Partial<OperationalPreferences> = {}): Negotiator {
  const all = { ...DEFAULT_PREFERENCES, ...preferences };
  return new Negotiator({ role, sessionType: "Normal", isLeading: true, preferences: all });
}

/** An initiator that made its offers and hears agreement, but for `pairs`; a key given as undefined is not answered. */
function answered(
  pairs: Readonly<Record<string, string | undefined>>,
  preferences: Partial<OperationalPreferences> = {},
): Negotiator {
  const initiator = negotiator("initiator", preferences);
  const answers = initiator
    .offers()
    .filter(([name]) => name !== "MaxRecvDataSegmentLength")
    .flatMap(([name, value]): [string, string][] => {
      const answer = name in pairs ? pairs[name] : value.split(",")[0];
      return answer === undefined ? [] : [[name, answer]];
    });
  initiator.receive(answers, "operational");
  return initiator;
}

test("trap 29: to a response with C we send an empty request without T, and answer nothing before the end", () => {
  const script = new ScriptedLogin();
  script.answer({});
  const text = encodeTextKeys([...Object.entries(script.agree()), ["X-com.example.a", "1"]]);
  const first = { isTransit: false, isContinued: true, data: text.subarray(0, text.length - 3) };
  script.answer({}, first);
  expect(script.request).toMatchObject({ isTransit: false, isContinued: false, currentStage: 1 });
  expect(script.request.data).toHaveLength(0);
  script.answer({}, { isTransit: false, data: text.subarray(text.length - 3) });
  expect(script.sent).toEqual({ "X-com.example.a": "NotUnderstood" });
});

test("trap 29: T with C is refused", () => {
  const script = new ScriptedLogin();
  expect(codeOf(() => script.answer({}, { isTransit: true, isContinued: true }))).toBe("LOGIN_PROTOCOL_ERROR");
});

test("trap 29: the target answers a request with C by an empty response without T", async () => {
  const peer = await new TargetWorld().connect();
  const text = encodeTextKeys([...Object.entries(names), ["X-com.example.a", "1"]]);
  const part = { isTransit: false, nextStage: 0, isContinued: true, data: text.subarray(0, 90) } as const;
  await peer.send(peer.loginRequest({}, part));
  expect(peer.next("login-response")).toMatchObject({ isTransit: false, isContinued: false, data: Buffer.alloc(0) });
  await peer.send(peer.loginRequest({}, { data: text.subarray(90) }));
  expect(textOf(peer.next("login-response"))["X-com.example.a"]).toBe("NotUnderstood");
});

test("trap 30: a pair may be split over PDUs at any byte", () => {
  const whole = new ScriptedLogin();
  whole.answer({});
  const text = encodeTextKeys([...Object.entries(whole.agree()), ["MaxRecvDataSegmentLength", "65536"]]);
  const expected = whole.answer({}, { data: text });
  expect(expected).toMatchObject({ kind: "done", result: { parameters: { targetMaxRecvDataSegmentLength: 65_536 } } });
  for (let at = 0; at <= text.length; at += 1) {
    const script = new ScriptedLogin();
    script.answer({});
    script.answer({}, { isTransit: false, isContinued: true, data: text.subarray(0, at) });
    script.answer({}, { isTransit: false, data: text.subarray(at) });
    const end = script.answer({});
    const parameters = end.kind === "done" ? end.result.parameters : undefined;
    expect(parameters).toEqual(expected.kind === "done" ? expected.result.parameters : undefined);
  }
});

test("trap 30: a pair may be split over Text Responses at any byte", async () => {
  const text = Buffer.from("TargetName=iqn.2026-11.test:a\0TargetAddress=10.0.0.1:3260,1\0");
  for (let at = 1; at < text.length; at += 5) {
    let sent = 0;
    const { session, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type !== "text-request") return;
          const isLast = sent === 1;
          connection.send({
            ...{ type: "text-response", isFinal: isLast, isContinued: !isLast, lun: pdu.lun },
            ...{ initiatorTaskTag: pdu.initiatorTaskTag, targetTransferTag: isLast ? RESERVED : 9 },
            data: isLast ? text.subarray(at) : text.subarray(0, at),
          });
          sent += 1;
        },
      },
    });
    expect(await settle(clock, session.text([["SendTargets", ""]]))).toEqual(decodeTextKeys(text));
  }
});

test("trap 31: every pair ends with NUL, keys have 63 bytes, simple values 255, others 8192; 8192 bytes of text are taken", () => {
  expect(encodeTextKeys([["a", "b"]])).toEqual(Buffer.from("a=b\0"));
  expect(codeOf(() => decodeTextKeys(Buffer.from("a=b\0c=d")))).toBe("TEXT_UNTERMINATED");
  expect(decodeTextKeys(Buffer.from(`${"k".repeat(63)}=1\0`))).toHaveLength(1);
  expect(codeOf(() => decodeTextKeys(Buffer.from(`${"k".repeat(64)}=1\0`)))).toBe("TEXT_KEY_INVALID");
  expect(decodeTextKeys(Buffer.from(`TargetAlias=${"v".repeat(255)}\0`))).toHaveLength(1);
  expect(codeOf(() => decodeTextKeys(Buffer.from(`TargetAlias=${"v".repeat(256)}\0`)))).toBe("TEXT_VALUE_TOO_LONG");
  expect(decodeTextKeys(Buffer.from(`CHAP_C=0x${"a".repeat(2048)}\0`))).toHaveLength(1);
  const script = new ScriptedLogin();
  script.answer({});
  const filler = Array.from({ length: 32 }, (_, at) => [`X-com.example.${at}`, "v".repeat(240)] as const);
  const pairs = [...Object.entries(script.agree()), ...filler];
  expect(encodeTextKeys(pairs).length).toBeGreaterThan(8192);
  script.answer(pairs, { isTransit: false });
  expect(Object.keys(script.sent)).toHaveLength(32);
});

test.each(["initiator", "target"] as const)(
  "trap 32: the %s answers a key it does not know with NotUnderstood",
  (role) => {
    const { answers } = negotiator(role).receive([["X-com.example.key", "7"]], "operational");
    expect(answers).toEqual([["X-com.example.key", "NotUnderstood"]]);
  },
);

test("trap 32: NotUnderstood, Irrelevant and Reject for a key of ours mean three things", () => {
  // Not understood: a peer that does not know a key of the first RFC is broken, one that does not know a young key is old.
  expect(codeOf(() => answered({ MaxBurstLength: "NotUnderstood" }))).toBe("NEGOTIATION_NOT_UNDERSTOOD");
  const young = { taskReporting: ["FastAbort", "RFC3720"], iscsiProtocolLevel: 2 } as const;
  const old = answered({ TaskReporting: "NotUnderstood", iSCSIProtocolLevel: "NotUnderstood" }, young).result();
  expect(old).toMatchObject({ taskReporting: "RFC3720", iscsiProtocolLevel: 1 });
  // Irrelevant and Reject: the value stays what it was, here the default, not what we proposed.
  const kept = answered({ FirstBurstLength: "Irrelevant", MaxOutstandingR2T: "Reject" }).result();
  expect(kept).toMatchObject({ firstBurstLength: 65_536, maxOutstandingR2T: 1 });
  // Reject where we can do without no longer: the digest that was demanded.
  expect(codeOf(() => answered({ DataDigest: "Reject" }, { dataDigest: ["CRC32C"] }).result())).toBe(
    "NEGOTIATION_UNACCEPTABLE",
  );
});

test.each(["initiator", "target"] as const)(
  "trap 33: the %s answers no key of the marker family NotUnderstood",
  (role) => {
    const markers = ["IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt"].map((key) => [key, "No"] as const);
    const { answers } = negotiator(role).receive(markers, "operational");
    expect(answers.map(([key]) => key)).toEqual(markers.map(([key]) => key));
    expect(answers.every(([, value]) => value === "Reject" || value === "No")).toBe(true);
  },
);

test("trap 34: a key that is declared or proposed again in one negotiation ends the login", () => {
  const script = new ScriptedLogin();
  script.answer({});
  const again: [string, string][] = [...Object.entries(script.agree()), ["MaxRecvDataSegmentLength", "65536"]];
  again.push(["MaxRecvDataSegmentLength", "8192"]);
  expect(codeOf(() => script.answer(again))).toBe("NEGOTIATION_KEY_REPEATED");
});

test("trap 34: the target drops a login that negotiates a key again, in one request or in two", async () => {
  const peer = await new TargetWorld().connect();
  const stay = { isTransit: false, nextStage: 0 } as const;
  await peer.send(peer.loginRequest({ ...names, MaxBurstLength: "65536" }, stay));
  expect(peer.next("login-response").statusClass).toBe(0);
  await peer.send(peer.loginRequest({ MaxBurstLength: "65536" }, stay));
  expect(peer.next("login-response").statusClass).toBe(2);
  expect(peer.stream.closed).not.toBe("open");
});

test.each([
  ["HeaderDigest", "CRC32C"],
  ["MaxBurstLength", "1048577"],
  ["DefaultTime2Wait", "1"],
  ["ErrorRecoveryLevel", "1"],
  ["TaskReporting", "FastAbort"],
  ["AuthMethod", "CHAP"],
])("trap 35: the selection %s=%s, which we did not offer, is a protocol error", (key, value) => {
  if (key === "AuthMethod") {
    expect(codeOf(() => new ScriptedLogin().answer({ AuthMethod: value }))).toBe("AUTH_METHOD_REFUSED");
    return;
  }
  const preferences = key === "TaskReporting" ? { taskReporting: ["ResponseFence", "RFC3720"] as const } : {};
  expect(codeOf(() => answered({ [key]: value }, preferences))).toBe("NEGOTIATION_VALUE_NOT_OFFERED");
});

test("trap 36: a No to AND and a Yes to OR decide alone, so their answers may stay away; others may not", () => {
  const silent = { ImmediateData: undefined, InitialR2T: undefined, DataPDUInOrder: undefined };
  const result = answered(silent, { immediateData: false, initialR2T: true, dataPduInOrder: true }).result();
  expect(result).toMatchObject({ immediateData: false, initialR2T: true, dataPduInOrder: true });
  expect(codeOf(() => answered({ ImmediateData: undefined }, { immediateData: true }).result())).toBe(
    "NEGOTIATION_INCOMPLETE",
  );
});

test("trap 51: hexadecimal and base64 in both spellings, odd digits as (n+1)/2 bytes, decimal only of a known length", () => {
  const limits = { maxBytes: 1024 };
  expect(decodeBinaryValue("0x1ff", limits)).toEqual(Buffer.from([0x01, 0xff]));
  expect(decodeBinaryValue("0X1FF", limits)).toEqual(Buffer.from([0x01, 0xff]));
  expect(decodeBinaryValue("0bAf8=", limits)).toEqual(Buffer.from([0x01, 0xff]));
  expect(decodeBinaryValue("0BAf8=", limits)).toEqual(Buffer.from([0x01, 0xff]));
  expect(codeOf(() => decodeBinaryValue("511", limits))).toBe("TEXT_VALUE_INVALID");
  expect(decodeBinaryValue("511", { maxBytes: 8, exactBytes: 2 })).toEqual(Buffer.from([0x01, 0xff]));
  expect(codeOf(() => decodeBinaryValue("511", { maxBytes: 16, exactBytes: 9 }))).toBe("TEXT_VALUE_INVALID");
});
