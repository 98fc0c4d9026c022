import { AppError } from "../../../src/base/errors.js";
import { MAX_PORTALS_PER_VOLUME } from "../../../src/base/limits.js";
import { PortalHopping, type PortalHoppingOptions } from "../../../src/session/portal-hopping.js";

const at = (host: string): { host: string; port: number } => ({ host, port: 3260 });
const refused = new AppError("transport", "TRANSPORT_REFUSED", "nothing listens there");
const timedOut = new AppError("transport", "TRANSPORT_TIMEOUT", "it does not answer");
const denied = new AppError("login", "LOGIN_SERVICE_UNAVAILABLE", "the target is not in operation now");
const reset = new AppError("transport", "TRANSPORT_RESET", "the peer broke the connection");
const silence = new AppError("session", "SESSION_TIMEOUT", "no answer to a ping");

function hopping(options: Partial<PortalHoppingOptions> = {}): PortalHopping {
  return new PortalHopping({ portal: at("a"), alternatePortals: [at("b"), at("c")], ...options });
}

/** The portals of the next `count` attempts, each of which fails with `reason`. */
function attempts(portals: PortalHopping, count: number, reason: AppError): string[] {
  return Array.from({ length: count }, () => {
    const { host } = portals.current.begin();
    portals.onFailed(reason);
    return host;
  });
}

describe("portal hopping", () => {
  test("tries the original, then the others, then the original again, for ever", () => {
    const portals = hopping();
    portals.onLost(reset);
    expect(attempts(portals, 8, denied).join("")).toBe("abcabcab");
  });

  test("begins with the original again although another portal served since", () => {
    const portals = hopping();
    portals.onLost(reset);
    attempts(portals, 1, denied);
    portals.onSucceeded();
    expect(portals.current.portal).toEqual(at("b"));
    portals.onLost(reset);
    expect(attempts(portals, 3, denied).join("")).toBe("abc");
  });

  test("tries a portal that is down again as often as PortalRetryCount says, each in its turn", () => {
    const portals = hopping({ portalRetryCount: 2 });
    portals.onLost(reset);
    expect(attempts(portals, 10, refused).join("")).toBe("aaabbbccca");
    expect(attempts(hopping(), 6, refused).join("")).toBe("aabbcc");
    expect(attempts(hopping({ portalRetryCount: 0 }), 4, refused).join("")).toBe("abca");
  });

  test("waits out no silent portal twice, and stays with none that refuses the login", () => {
    const portals = hopping({ portalRetryCount: 5 });
    portals.onLost(reset);
    expect(attempts(portals, 3, timedOut).join("")).toBe("abc");
    expect(attempts(portals, 3, denied).join("")).toBe("abc");
  });

  test("a pinned session never hops, whatever is named or advertised", () => {
    const portals = hopping({ isPinned: true });
    portals.setAdvertised([at("x")]);
    portals.onLost(silence);
    expect(attempts(portals, 4, denied).join("")).toBe("aaaa");
    expect(portals.portals).toEqual([at("a")]);
    expect(portals.connectTimeoutMs(10_000)).toBe(10_000);
  });

  test("after silence every portal of the first round has one short chance, later ones their full time", () => {
    const portals = hopping({ portalRetryCount: 3 });
    portals.onLost(silence);
    const times: number[] = [];
    const hosts = Array.from({ length: 5 }, () => {
      times.push(portals.connectTimeoutMs(10_000));
      return attempts(portals, 1, refused)[0];
    });
    expect(hosts.join("")).toBe("abcaa");
    expect(times).toEqual([3_000, 3_000, 3_000, 10_000, 10_000]);
    expect(portals.connectTimeoutMs(2_000)).toBe(2_000);
  });

  test("a shorter configured time stays, and a portal without others has its full time", () => {
    const portals = hopping();
    portals.onLost(silence);
    expect(portals.connectTimeoutMs(500)).toBe(500);
    const alone = new PortalHopping({ portal: at("a") });
    alone.onLost(silence);
    expect(alone.connectTimeoutMs(10_000)).toBe(10_000);
    portals.onLost(reset);
    expect(portals.connectTimeoutMs(10_000)).toBe(10_000);
  });

  test("a pause is due before each round and before a second try, not before the next portal", () => {
    const portals = hopping();
    portals.onLost(reset);
    const pauses = Array.from({ length: 4 }, () => {
      const isDue = portals.isRoundStart;
      portals.onFailed(denied);
      return isDue;
    });
    expect(pauses).toEqual([true, false, false, true]);
    portals.onLost(reset);
    portals.onFailed(refused);
    expect(portals.isRoundStart).toBe(true);
  });

  test("advertised portals come after the named ones, each once", () => {
    const portals = hopping({ alternatePortals: [at("b")] });
    portals.setAdvertised([at("c"), at("a"), at("b"), at("d"), at("c")]);
    portals.onLost(reset);
    expect(attempts(portals, 5, denied).join("")).toBe("abcda");
  });

  test("a portal that is not advertised any more is left, one that stays keeps its redirect", () => {
    const portals = hopping({ alternatePortals: [] });
    portals.setAdvertised([at("b"), at("c")]);
    attempts(portals, 1, denied);
    portals.current.begin();
    portals.current.follow({ kind: "permanent", host: "moved", port: 3260 });
    portals.setAdvertised([at("c"), at("b")]);
    expect(portals.current.portal).toEqual(at("moved"));
    expect(portals.portals).toEqual([at("a"), at("c"), at("moved")]);
    portals.setAdvertised([at("c")]);
    expect(portals.current.portal).toEqual(at("a"));
  });

  test("a target that advertises without end is heard up to a bound", () => {
    const portals = hopping({ alternatePortals: [] });
    portals.setAdvertised(Array.from({ length: 1000 }, (_, index) => at(`p${index}`)));
    expect(portals.portals).toHaveLength(MAX_PORTALS_PER_VOLUME);
  });
});
