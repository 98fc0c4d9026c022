import {
  DEFAULT_PREFERENCES,
  Negotiator,
  type NegotiationRole,
  type OperationalPreferences,
  type TextPairs,
} from "../../../src/login/negotiate.js";
import type { NegotiatedParameters } from "../../../src/login/parameters.js";

/** Traps 37 to 39: which of two values holds, and which go together (RFC 7143 §13.14 to §13.19). */

function negotiator(role: NegotiationRole, preferences: Partial<OperationalPreferences>): Negotiator {
  const all = { ...DEFAULT_PREFERENCES, ...preferences };
  return new Negotiator({ role, sessionType: "Normal", isLeading: true, preferences: all });
}

/** What both ends of a login come to; fails when they differ. */
function agree(ours: Partial<OperationalPreferences>, theirs: Partial<OperationalPreferences>): NegotiatedParameters {
  const initiator = negotiator("initiator", ours);
  const target = negotiator("target", theirs);
  let toInitiator: TextPairs = target.receive(initiator.offers(), "operational").answers;
  toInitiator = [...toInitiator, ...target.offers()];
  initiator.receive(toInitiator, "operational");
  expect(initiator.result()).toEqual(target.result());
  return initiator.result();
}

test.each([
  [0, 5, 5],
  [5, 0, 5],
  [3600, 2, 3600],
])("trap 37: DefaultTime2Wait of %i and %i is %i: the longer wait", (ours, theirs, expected) => {
  expect(agree({ defaultTime2Wait: ours }, { defaultTime2Wait: theirs }).defaultTime2Wait).toBe(expected);
});

test.each([
  [0, 20, 0],
  [20, 0, 0],
  [60, 20, 20],
])("trap 37: DefaultTime2Retain of %i and %i is %i: the shorter time", (ours, theirs, expected) => {
  expect(agree({ defaultTime2Retain: ours }, { defaultTime2Retain: theirs }).defaultTime2Retain).toBe(expected);
});

test.each([
  [1, true, 1],
  [2, true, 1],
  [2, false, 8],
  [0, true, 8],
] as const)(
  "trap 38: at level %i with DataSequenceInOrder=%p MaxOutstandingR2T of 8 becomes %i",
  (errorRecoveryLevel, dataSequenceInOrder, expected) => {
    const both = { errorRecoveryLevel, dataSequenceInOrder, maxOutstandingR2T: 8 };
    expect(agree(both, both).maxOutstandingR2T).toBe(expected);
  },
);

test("trap 38: the rule holds on our side even when the target answers another number", () => {
  const initiator = negotiator("initiator", { errorRecoveryLevel: 2 });
  const answers = initiator.offers().filter(([name]) => name !== "MaxRecvDataSegmentLength");
  initiator.receive(answers, "operational");
  expect(initiator.result()).toMatchObject({ errorRecoveryLevel: 2, maxOutstandingR2T: 1 });
});

test.each([
  [262_144, 65_536],
  [512, 512],
  [4096, 16_384],
])("trap 39: FirstBurstLength %i is at most MaxBurstLength %i afterwards, whoever set the limit", (first, max) => {
  const theirs = { firstBurstLength: 262_144, maxBurstLength: max };
  const result = agree({ firstBurstLength: first, maxBurstLength: 262_144 }, theirs);
  expect(result).toMatchObject({ firstBurstLength: Math.min(first, max), maxBurstLength: max });
});

test("trap 39: FirstBurstLength is Irrelevant where nothing goes unsolicited", () => {
  const target = negotiator("target", { initialR2T: true, immediateData: false });
  const { answers } = target.receive(
    [
      ["FirstBurstLength", "65536"],
      ["InitialR2T", "Yes"],
      ["ImmediateData", "No"],
    ],
    "operational",
  );
  expect(Object.fromEntries(answers)["FirstBurstLength"]).toBe("Irrelevant");
  const initiator = negotiator("initiator", { initialR2T: true, immediateData: false });
  const replies = initiator.offers().map(([name, value]) => [name, value] as const);
  const irrelevant = replies.map(
    ([name, value]) => [name, name === "FirstBurstLength" ? "Irrelevant" : value] as const,
  );
  initiator.receive(
    irrelevant.filter(([name]) => name !== "MaxRecvDataSegmentLength"),
    "operational",
  );
  expect(initiator.result()).toMatchObject({ initialR2T: true, immediateData: false });
});
