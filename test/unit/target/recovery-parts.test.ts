import fc from "fast-check";
import { CommandWindow } from "../../../src/target/command-window.js";
import { continuedPlan, nextDataSnOf, offsetOf, piecesOf, type DataInPlan } from "../../../src/target/data-in-plan.js";
import { ResponseLog } from "../../../src/target/response-log.js";
import { NO_DATA } from "../../../src/wire/header.js";
import type { TargetPdu } from "../../../src/wire/pdu.js";

function response(statSn: number): TargetPdu {
  return { type: "reject", reason: 4, dataSnOrR2tSn: 0, statSn, expCmdSn: 0, maxCmdSn: 0, data: NO_DATA };
}

describe("ResponseLog (RFC 7143 §4.2.2.2)", () => {
  function log(capacity = 8): { readonly log: ResponseLog<string>; readonly released: string[] } {
    const released: string[] = [];
    return { log: new ResponseLog<string>({ capacity, onReleased: (task) => released.push(task) }), released };
  }

  test("keeps responses over the wrap of StatSN until they are acknowledged", () => {
    const { log: kept, released } = log();
    for (const statSn of [0xffff_fffe, 0xffff_ffff, 0, 1]) kept.keep(statSn, response(statSn), `task ${statSn}`);
    expect(kept.run(0xffff_ffff, 2, 2).map((entry) => entry?.pdu)).toEqual([response(0xffff_ffff), response(0)]);
    kept.acknowledge(0);
    expect([released, kept.size]).toEqual([["task 4294967294", "task 4294967295"], 2]);
    expect(kept.run(0xffff_ffff, 0, 2).map((entry) => entry?.task)).toEqual([undefined, "task 0", "task 1"]);
  });

  test("gives no more than was sent, and loses the oldest when it is full", () => {
    const { log: kept, released } = log(2);
    for (const statSn of [5, 6, 7]) kept.keep(statSn, response(statSn), `task ${statSn}`);
    expect([released, kept.at(5), kept.at(7)]).toEqual([["task 5"], undefined, response(7)]);
    expect(kept.run(6, 0xffff_ffff, 8)).toHaveLength(2);
    expect(kept.run(9, 1, 8)).toEqual([]);
  });

  test("a later response with the same number takes the place of the earlier", () => {
    const { log: kept, released } = log();
    kept.keep(5, response(5), "task");
    kept.keep(5, { ...response(5), type: "nop-in" } as TargetPdu, "task");
    kept.acknowledge(6);
    expect([released, kept.size]).toEqual([["task"], 0]);
  });
});

const plans = fc
  .record({
    firstDataSn: fc.integer({ min: 0, max: 100 }),
    firstOffset: fc.integer({ min: 0, max: 10_000 }),
    bytes: fc.integer({ min: 1, max: 20_000 }),
    segmentBytes: fc.integer({ min: 512, max: 8_192 }),
    burstBytes: fc.integer({ min: 512, max: 8_192 }),
  })
  .map(({ bytes, ...rest }): DataInPlan => ({ ...rest, endOffset: rest.firstOffset + bytes }));

describe("the plan of Data-In (RFC 7143 §11.7)", () => {
  test("covers all bytes once, in order, within segments and bursts, and its numbers agree with its pieces", () => {
    fc.assert(
      fc.property(plans, (plan) => {
        const pieces = [...piecesOf(plan, 0, Infinity)];
        let offset = plan.firstOffset;
        let burst = 0;
        for (const [index, piece] of pieces.entries()) {
          burst += piece.length;
          expect([piece.dataSn, piece.offset]).toEqual([plan.firstDataSn + index, offset]);
          expect(piece.length <= plan.segmentBytes && burst <= plan.burstBytes).toBe(true);
          expect(offsetOf(plan, piece.dataSn)).toBe(offset);
          expect(piece.isBurstEnd).toBe(burst === plan.burstBytes);
          if (piece.isFinal) burst = 0;
          offset += piece.length;
        }
        expect([offset, nextDataSnOf(plan)]).toEqual([plan.endOffset, plan.firstDataSn + pieces.length]);
        expect(offsetOf(plan, nextDataSnOf(plan))).toBe(plan.endOffset);
      }),
    );
  });

  test("can be repeated from any number, and continued with other segments", () => {
    fc.assert(
      fc.property(plans, fc.nat(), fc.integer({ min: 512, max: 8_192 }), (plan, seed, segmentBytes) => {
        const pieces = [...piecesOf(plan, 0, Infinity)];
        const from = seed % pieces.length;
        expect([...piecesOf(plan, plan.firstDataSn + from, Infinity)]).toEqual(pieces.slice(from));
        const rest = [...piecesOf(continuedPlan(plan, plan.firstDataSn + from, segmentBytes), 0, Infinity)];
        expect(rest[0]).toMatchObject({ dataSn: plan.firstDataSn + from, offset: pieces[from]?.offset });
        expect(rest.at(-1)).toMatchObject({ isLast: true, isFinal: true });
      }),
    );
  });
});

describe("CommandWindow with gaps that are plugged (RFC 7143 §11.6.1)", () => {
  test("a plugged number ahead is passed over when its turn comes", () => {
    const window = new CommandWindow<string>({ depth: 4, expCmdSn: 0xffff_ffff });
    window.hold(0, "zero");
    window.plug(0);
    window.plug(1);
    expect([window.place(0), window.place(1), window.place(2)]).toEqual(["outside", "outside", "early"]);
    window.advance();
    expect([window.expCmdSn, window.takeNext()]).toEqual([2, undefined]);
  });

  test("plugging the next number opens the window", async () => {
    const window = new CommandWindow<string>({ depth: 2, expCmdSn: 5 });
    const received = window.whenReceived(6);
    window.plug(5);
    await received;
    expect([window.expCmdSn, window.maxCmdSn]).toEqual([6, 7]);
    window.plug(90);
    expect(window.place(90)).toBe("outside");
  });
});
