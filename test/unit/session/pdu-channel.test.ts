import { AppError } from "../../../src/base/errors.js";
import { MAX_HELD_PDUS } from "../../../src/base/limits.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { type Logger, silentLogger } from "../../../src/base/logger.js";
import { type ChannelUser, PduChannel } from "../../../src/session/pdu-channel.js";
import { RESERVED_TAG } from "../../../src/wire/constants.js";
import { encodePdu } from "../../../src/wire/encode.js";
import type { NopInPdu, Pdu } from "../../../src/wire/pdu.js";
import { RecordingStream } from "../../support/recording-stream.js";
import { VirtualTime } from "../../support/virtual-time.js";

const WITH_DIGESTS = { header: true, data: true };

function nopIn(statSn: number, data = Buffer.alloc(0)): NopInPdu {
  return {
    type: "nop-in",
    lun: LUN_ZERO,
    initiatorTaskTag: 5,
    targetTransferTag: RESERVED_TAG,
    statSn,
    expCmdSn: 1,
    maxCmdSn: 9,
    data,
  };
}

function bytesOf(pdu: Pdu, digests = { header: false, data: false }): Buffer {
  return Buffer.concat(encodePdu(pdu, digests).map((chunk) => Buffer.from(chunk)));
}

class User implements ChannelUser {
  readonly statSns: number[] = [];
  readonly ends: (string | undefined)[] = [];
  placed = 0;
  headerErrors = 0;
  failure: Error | undefined;

  placeData(): undefined {
    this.placed += 1;
  }

  onPdu(pdu: Pdu): void {
    if (this.failure !== undefined) throw this.failure;
    if (pdu.type === "nop-in") this.statSns.push(pdu.statSn);
  }

  onHeaderDigestError(): void {
    this.headerErrors += 1;
  }

  onClosed(error: AppError | undefined): void {
    this.ends.push(error?.code);
  }
}

function open(logger: Logger = silentLogger) {
  const stream = new RecordingStream();
  const user = new User();
  const clock = new VirtualTime();
  const channel = new PduChannel({ stream, maxDataSegmentLength: 8192, user }, { clock, logger });
  return { stream, user, channel, clock };
}

describe("between two users", () => {
  test("PDUs are kept, with their data, and heard by the next one in order", () => {
    const { stream, user, channel } = open();
    channel.hold();
    stream.deliver(Buffer.concat([bytesOf(nopIn(1)), bytesOf(nopIn(2, Buffer.from("ping")))]));
    expect(user).toMatchObject({ statSns: [], placed: 0 });
    const next = new User();
    channel.setUser(next);
    expect(next.statSns).toEqual([1, 2]);
    stream.deliver(bytesOf(nopIn(3)));
    expect(next.statSns).toEqual([1, 2, 3]);
  });

  test("the end is kept as well, and heard after the PDUs, once", () => {
    const { stream, user, channel } = open();
    channel.hold();
    stream.deliver(bytesOf(nopIn(1)));
    stream.hangUp();
    const next = new User();
    channel.setUser(next);
    expect(next).toMatchObject({ statSns: [1], ends: [undefined] });
    expect(user.ends).toEqual([]);
    channel.destroy(new AppError("session", "LATE", "after the end"));
    expect(next.ends).toHaveLength(1);
  });

  test("a flood ends the channel", () => {
    const { stream, channel } = open();
    channel.hold();
    stream.deliver(Buffer.concat(Array.from({ length: MAX_HELD_PDUS + 1 }, (_, index) => bytesOf(nopIn(index)))));
    expect(stream.isDestroyed).toBe(true);
    const next = new User();
    channel.setUser(next);
    expect(next.ends).toEqual(["SESSION_PROTOCOL"]);
    expect(next.statSns).toHaveLength(MAX_HELD_PDUS);
  });

  test("what the next one cannot accept ends the channel; a mistake of ours is thrown on", () => {
    for (const [failure, isThrown] of [
      [new AppError("session", "REFUSED", "no"), false],
      [new TypeError("x is undefined"), true],
    ] as const) {
      const { stream, channel } = open();
      channel.hold();
      stream.deliver(bytesOf(nopIn(1)));
      const next = new User();
      next.failure = failure;
      const hand = (): void => channel.setUser(next);
      if (isThrown) expect(hand).toThrow(failure);
      else expect(hand).not.toThrow();
      expect(next.ends).toEqual(isThrown ? [] : ["REFUSED"]);
    }
  });

  test("a damaged header while nobody listens is left out in silence", () => {
    const { stream, user, channel } = open();
    channel.setDigests(WITH_DIGESTS);
    channel.setResynchronise(true);
    const damaged = bytesOf(nopIn(1), WITH_DIGESTS);
    damaged[47] = (damaged[47] ?? 0) ^ 1;
    stream.deliver(Buffer.concat([damaged, bytesOf(nopIn(2), WITH_DIGESTS)]));
    expect(user).toMatchObject({ headerErrors: 1, statSns: [2] });
    channel.hold();
    stream.deliver(Buffer.concat([damaged, bytesOf(nopIn(3), WITH_DIGESTS)]));
    expect(user).toMatchObject({ headerErrors: 1, statSns: [2] });
    const next = new User();
    channel.setUser(next);
    expect(next).toMatchObject({ headerErrors: 0, statSns: [3] });
  });

  test("one user may follow another without a pause", () => {
    const { stream, user, channel } = open();
    const next = new User();
    channel.setUser(next);
    stream.deliver(bytesOf(nopIn(1)));
    expect([user.statSns, next.statSns]).toEqual([[], [1]]);
  });
});

describe("after the end", () => {
  test("nothing is sent and nothing heard, not even what came in the same chunk", async () => {
    const { stream, user, channel, clock } = open();
    user.failure = new AppError("session", "ENOUGH", "the first was enough");
    stream.deliver(Buffer.concat([bytesOf(nopIn(1)), bytesOf(nopIn(2, Buffer.from("more")))]));
    expect(user.ends).toEqual(["ENOUGH"]);
    user.failure = undefined;
    stream.deliver(bytesOf(nopIn(3)));
    stream.hangUp();
    channel.send({
      type: "nop-out",
      isImmediate: true,
      lun: LUN_ZERO,
      initiatorTaskTag: RESERVED_TAG,
      targetTransferTag: 1,
      cmdSn: 1,
      expStatSn: 1,
      data: Buffer.alloc(0),
    });
    channel.flush();
    await clock.advance(1);
    expect(stream.writes).toEqual([]);
    expect(user).toMatchObject({ statSns: [], ends: ["ENOUGH"] });
  });

  test("a mistake of ours in the middle of a chunk is thrown on, and does not end the channel as the peer's", () => {
    const { stream, user } = open();
    user.failure = new TypeError("x is undefined");
    expect(() => stream.deliver(bytesOf(nopIn(1)))).toThrow(user.failure);
    expect(user.ends).toEqual([]);
  });
});

test("every PDU is traced when traces are wanted", async () => {
  const lines: [string, unknown][] = [];
  const logger: Logger = {
    ...silentLogger,
    child: (bindings) => {
      expect(bindings).toEqual({ remoteAddress: "remote", localAddress: "local" });
      return logger;
    },
    isEnabled: (level) => level === "trace",
    trace: (message, fields) => lines.push([message, fields?.["pdu"]]),
  };
  const { stream, channel, clock } = open(logger);
  stream.deliver(bytesOf(nopIn(1)));
  channel.send({
    type: "nop-out",
    isImmediate: true,
    lun: LUN_ZERO,
    initiatorTaskTag: 5,
    targetTransferTag: RESERVED_TAG,
    cmdSn: 1,
    expStatSn: 2,
    data: Buffer.alloc(0),
  });
  await clock.advance(1);
  expect(lines.map(([message]) => message)).toEqual(["PDU received", "PDU sent"]);
  expect(lines.every(([, pdu]) => pdu !== undefined)).toBe(true);
  expect(stream.writes).toHaveLength(1);
});
