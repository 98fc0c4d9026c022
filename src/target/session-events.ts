import type { Clock } from "../base/clock.js";
import { lunFromNumber } from "../base/lun.js";
import { AsyncEvent } from "../wire/constants.js";
import type { ConnectionSelector, VendorEvent } from "./api.js";
import type { AsyncFields, ConnectionSlot } from "./connection-slot.js";
import { TargetError } from "./errors.js";
import type { TargetSession } from "./session.js";

interface Selected {
  readonly session: TargetSession;
  readonly slots: readonly ConnectionSlot[];
}

/** What a target tells its initiators of its own accord (RFC 7143 §11.9). */
export class SessionEvents {
  readonly #sessions: () => Iterable<TargetSession>;
  readonly #clock: Clock;

  constructor(dependencies: { readonly sessions: () => Iterable<TargetSession>; readonly clock: Clock }) {
    this.#sessions = dependencies.sessions;
    this.#clock = dependencies.clock;
  }

  /** Event 1. Resolves when the connections are gone, which they are at the latest when the time is over. */
  async requestLogout(request: ConnectionSelector & { readonly timeLimitSeconds: number }): Promise<void> {
    const { timeLimitSeconds } = request;
    checkField("timeLimitSeconds", timeLimitSeconds);
    await Promise.all(
      this.#select(request).map(async ({ session, slots }) => {
        for (const slot of slots)
          slot.sendAsync({ asyncEvent: AsyncEvent.logoutRequested, parameter3: timeLimitSeconds });
        const timer = this.#clock.setTimer(timeLimitSeconds * 1000, () => {
          for (const slot of slots) if (slot.canSend) session.dropConnection(slot);
        });
        await Promise.all(slots.map((slot) => slot.closed));
        timer.cancel();
      }),
    );
  }

  /** Event 2 for a connection named by its CID, event 3 for all of a session. */
  drop(selector: ConnectionSelector): void {
    for (const { session, slots } of this.#select(selector)) {
      if (selector.cid === undefined) session.dropConnections();
      else for (const slot of slots) session.dropConnection(slot);
    }
  }

  /** Event 4. */
  requestNegotiation(request: ConnectionSelector & { readonly timeLimitSeconds: number }): void {
    checkField("timeLimitSeconds", request.timeLimitSeconds);
    this.#send(request, { asyncEvent: AsyncEvent.renegotiate, parameter3: request.timeLimitSeconds });
  }

  /** Event 0, to every session on one connection; SenseLength goes before the sense (§11.9.4). */
  reportScsiEvent(event: { readonly lun: number; readonly sense: Buffer }): void {
    const data = Buffer.alloc(2 + event.sense.length);
    data.writeUInt16BE(event.sense.length, 0);
    event.sense.copy(data, 2);
    const fields = { asyncEvent: AsyncEvent.scsiAsync, lun: lunFromNumber(event.lun), data };
    for (const { slots } of this.#select({})) slots[0]?.sendAsync(fields);
  }

  /** Events 248 to 255. */
  sendVendorEvent(event: VendorEvent, selector: ConnectionSelector): void {
    const {
      asyncEvent = AsyncEvent.vendorSpecific,
      asyncVCode,
      parameter1 = 0,
      parameter2 = 0,
      parameter3 = 0,
    } = event;
    if (asyncEvent < 248 || asyncEvent > 255 || !Number.isInteger(asyncEvent)) {
      throw new TargetError("TARGET_INVALID", `${asyncEvent} is not a vendor's event (248 to 255)`);
    }
    checkField("parameter1", parameter1);
    checkField("parameter2", parameter2);
    checkField("parameter3", parameter3);
    const data = Buffer.from(event.data ?? []);
    this.#send(selector, { asyncEvent, asyncVCode: asyncVCode & 0xff, parameter1, parameter2, parameter3, data });
  }

  #send(selector: ConnectionSelector, fields: AsyncFields): void {
    for (const { slots } of this.#select(selector)) for (const slot of slots) slot.sendAsync(fields);
  }

  #select(selector: ConnectionSelector): Selected[] {
    const { initiatorName, tsih, cid } = selector;
    return [...this.#sessions()]
      .filter((session) => tsih === undefined || session.tsih === tsih)
      .filter((session) => initiatorName === undefined || session.initiatorName === initiatorName.toLowerCase())
      .map((session) => ({
        session,
        slots: session.slots.filter((slot) => slot.canSend && (cid === undefined || slot.cid === cid)),
      }));
  }
}

/** A field of 16 bits, such as a time in seconds. */
function checkField(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff) return;
  throw new TargetError("TARGET_INVALID", `${name} is a whole number from 0 to 65535, not ${value}`);
}
