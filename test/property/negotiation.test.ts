import fc from "fast-check";
import { AppError } from "../../src/base/errors.js";
import { SeededRandom } from "../../src/base/seeded-random.js";
import { InitiatorLogin } from "../../src/login/initiator-login.js";
import { KEYS } from "../../src/login/keys.js";
import type { NegotiationStage, OperationalPreferences, SessionType, TextPairs } from "../../src/login/negotiate.js";
import { DEFAULT_PREFERENCES, NegotiationError, Negotiator } from "../../src/login/negotiate.js";
import { loginOptions } from "../support/login-driver.js";

const digests = fc.constantFrom<readonly ("None" | "CRC32C")[]>(["None"], ["CRC32C", "None"], ["None", "CRC32C"]);
const length = fc.integer({ min: 512, max: 0xff_ffff });
const seconds = fc.integer({ min: 0, max: 3600 });

const preferences: fc.Arbitrary<OperationalPreferences> = fc.record({
  headerDigest: digests,
  dataDigest: digests,
  maxConnections: fc.integer({ min: 1, max: 65_535 }),
  initialR2T: fc.boolean(),
  immediateData: fc.boolean(),
  maxRecvDataSegmentLength: length,
  maxBurstLength: length,
  firstBurstLength: length,
  defaultTime2Wait: seconds,
  defaultTime2Retain: seconds,
  maxOutstandingR2T: fc.integer({ min: 1, max: 65_535 }),
  dataPduInOrder: fc.boolean(),
  dataSequenceInOrder: fc.boolean(),
  errorRecoveryLevel: fc.constantFrom(0 as const, 1 as const, 2 as const),
  taskReporting: fc.constantFrom(
    ["RFC3720"] as const,
    ["ResponseFence", "RFC3720"] as const,
    ["FastAbort", "ResponseFence", "RFC3720"] as const,
  ),
  iscsiProtocolLevel: fc.integer({ min: 0, max: 31 }),
});

const sessionType = fc.constantFrom<SessionType>("Normal", "Discovery");

const value = fc.oneof(
  fc.constantFrom("Yes", "No", "None", "CRC32C", "Reject", "Irrelevant", "NotUnderstood", "0", "512", "65536", "1~2"),
  fc.constantFrom("CRC32C,None", "RFC3720,FastAbort", "0x200", "16777216", "-1", "", "CHAP", "Normal", "Discovery"),
  fc.integer({ min: -1, max: 0x1_0000_0000 }).map(String),
  fc.string({ maxLength: 300 }),
);
const name = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...KEYS.map((key) => key.name)) },
  { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 63 }) },
  { weight: 1, arbitrary: fc.constantFrom("X-com.example.a", "__proto__", "constructor", "toString") },
);
const garbage = fc.array(fc.tuple(name, value), { maxLength: 12 });

/** Do the answers of one end, then of the other, until nobody has anything more to say. */
function converse(initiator: Negotiator, target: Negotiator, offers: TextPairs, declarations: TextPairs): void {
  let toTarget: TextPairs = offers;
  let toInitiator: TextPairs = declarations;
  for (let exchange = 0; toTarget.length + toInitiator.length > 0; exchange += 1) {
    if (exchange > 3) throw new Error("the negotiation does not end");
    toInitiator = [...toInitiator, ...target.receive(toTarget, "operational").answers];
    toTarget = initiator.receive(toInitiator, "operational").answers;
    toInitiator = [];
  }
}

it("brings any two ends to one result, which keeps every rule", () => {
  fc.assert(
    fc.property(preferences, preferences, sessionType, fc.boolean(), (ours, theirs, type, isShuffled) => {
      const initiator = new Negotiator({ role: "initiator", sessionType: type, isLeading: true, preferences: ours });
      const target = new Negotiator({ role: "target", sessionType: type, isLeading: true, preferences: theirs });
      const offers = initiator.offers();
      converse(initiator, target, isShuffled ? [...offers].reverse() : offers, target.offers());
      const result = initiator.result();
      expect(target.result()).toEqual(result);
      expect(result.firstBurstLength).toBeLessThanOrEqual(result.maxBurstLength);
      if (result.errorRecoveryLevel !== 0 && result.dataSequenceInOrder) expect(result.maxOutstandingR2T).toBe(1);
      expect(result.initiatorMaxRecvDataSegmentLength).toBe(ours.maxRecvDataSegmentLength);
      expect(result.targetMaxRecvDataSegmentLength).toBe(theirs.maxRecvDataSegmentLength);
      if (type === "Discovery") return;
      expect(result.maxBurstLength).toBe(Math.min(ours.maxBurstLength, theirs.maxBurstLength));
      expect(result.defaultTime2Wait).toBe(Math.max(ours.defaultTime2Wait, theirs.defaultTime2Wait));
      expect(result.defaultTime2Retain).toBe(Math.min(ours.defaultTime2Retain, theirs.defaultTime2Retain));
      expect(result.errorRecoveryLevel).toBe(Math.min(ours.errorRecoveryLevel, theirs.errorRecoveryLevel));
      expect(result.initialR2T).toBe(ours.initialR2T || theirs.initialR2T);
      expect(result.immediateData).toBe(ours.immediateData && theirs.immediateData);
    }),
    { numRuns: 2000 },
  );
});

it("meets anything with an answer or a NegotiationError, in either role", () => {
  fc.assert(
    fc.property(
      fc.constantFrom("initiator" as const, "target" as const),
      sessionType,
      fc.boolean(),
      fc.boolean(),
      fc.array(fc.tuple(garbage, fc.constantFrom<NegotiationStage>("security", "operational", "full-feature")), {
        maxLength: 4,
      }),
      (role, type, isLeading, hasOffered, texts) => {
        const negotiator = new Negotiator({ role, sessionType: type, isLeading, preferences: DEFAULT_PREFERENCES });
        if (hasOffered) negotiator.offers();
        try {
          for (const [pairs, stage] of texts) {
            const { answers } = negotiator.receive(pairs, stage);
            expect(answers.length).toBeLessThanOrEqual(pairs.length);
            for (const [key] of answers) expect(pairs.some(([sent]) => sent === key)).toBe(true);
          }
          const result = negotiator.result();
          expect(result.firstBurstLength).toBeLessThanOrEqual(result.maxBurstLength);
          for (const field of Object.values(result)) expect(field).not.toBeNaN();
        } catch (error) {
          if (!(error instanceof NegotiationError)) throw error;
        }
      },
    ),
    { numRuns: 5000 },
  );
});

it("logs in, redirects, asks on or fails with a typed error, whatever a target sends", () => {
  const small = fc.integer({ min: 0, max: 3 });
  const response = fc.record({
    isTransit: fc.boolean(),
    isContinued: fc.boolean(),
    currentStage: fc.constantFrom(0 as const, 1 as const),
    nextStage: fc.constantFrom(0 as const, 1 as const, 3 as const),
    tsih: fc.constantFrom(0, 0, 7),
    statusClass: fc.constantFrom(0, 0, 0, 0, 1, 2, 3, 9),
    statusDetail: small,
    data: fc.oneof(
      garbage.map((pairs) => Buffer.from(pairs.map(([key, text]) => `${key}=${text}\0`).join(""))),
      fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
    ),
  });
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(response, { minLength: 1, maxLength: 6 }),
      (isSecurityStageSkipped, responses) => {
        const options = loginOptions({ isSecurityStageSkipped });
        const login = new InitiatorLogin(options, { random: new SeededRandom(1) });
        login.start();
        try {
          for (const [index, pdu] of responses.entries()) {
            const step = login.receive({
              type: "login-response",
              versionMax: 0,
              versionActive: 0,
              isid: options.isid,
              initiatorTaskTag: options.initiatorTaskTag,
              statSn: index,
              expCmdSn: 5,
              maxCmdSn: 5,
              ...pdu,
            });
            if (step.kind !== "send") break;
            expect(step.pdu.data.length).toBeLessThanOrEqual(8192);
          }
        } catch (error) {
          if (!(error instanceof AppError)) throw error;
        }
      },
    ),
    { numRuns: 3000 },
  );
});
