import type { PortalAddress } from "../../src/base/access.js";
import { SystemClock } from "../../src/base/system-clock.js";
import { SystemRandom } from "../../src/base/system-random.js";
import type { InitiatorLoginDependencies, InitiatorLoginOptions, LoginStep } from "../../src/login/initiator-login.js";
import { InitiatorLogin } from "../../src/login/initiator-login.js";
import { TcpDialer } from "../../src/transport/tcp.js";
import { TransportError } from "../../src/transport/transport.js";
import { decodePdu } from "../../src/wire/decode.js";
import { encodePdu, NO_DIGESTS } from "../../src/wire/encode.js";
import { Framer } from "../../src/wire/framer.js";

export type LoginEnd = Exclude<LoginStep, { kind: "send" }>;

/** Options with everything that a test does not care about filled in. */
export function loginOptions(changes: Partial<InitiatorLoginOptions> = {}): InitiatorLoginOptions {
  return {
    initiatorName: "iqn.2026-01.dev.hawser:test",
    targetName: "iqn.2026-01.dev.hawser:target",
    sessionType: "Normal",
    isid: Buffer.from("80a1b2c30001", "hex"),
    tsih: 0,
    cid: 1,
    cmdSn: 5,
    initiatorTaskTag: 0x1234,
    headerDigest: "none",
    dataDigest: "none",
    ...changes,
  };
}

/** A login over TCP whose connection is still open. */
export interface HeldLogin {
  readonly login: InitiatorLogin;
  readonly end: LoginEnd | Error;
  close(): void;
}

/** One login over TCP; the connection stays open after it until `close`. */
export async function holdLoginOverTcp(
  portal: PortalAddress,
  options: InitiatorLoginOptions,
  dependencies: Partial<InitiatorLoginDependencies> = {},
): Promise<HeldLogin> {
  const login = new InitiatorLogin(options, { random: new SystemRandom(), ...dependencies });
  const clock = new SystemClock({ unref: true });
  const stream = await new TcpDialer({ clock }).dial({ kind: "tcp", ...portal }, { timeoutMs: 5_000 });
  const end = await new Promise<LoginEnd | Error>((resolve) => {
    const framer = new Framer(
      { maxDataSegmentLength: 8192, digests: NO_DIGESTS },
      {
        placeData: () => undefined,
        onPdu: (raw) => {
          const pdu = decodePdu(raw.header, raw.ahs, raw.data);
          if (pdu.type !== "login-response") throw new Error(`not a login response: ${pdu.type}`);
          const step = login.receive(pdu);
          if (step.kind === "send") stream.write(encodePdu(step.pdu, NO_DIGESTS));
          else resolve(step);
        },
      },
    );
    stream.start({
      onData: (chunk) => {
        try {
          framer.push(chunk);
        } catch (error) {
          resolve(error instanceof Error ? error : new Error(String(error)));
        }
      },
      onClose: (error) => resolve(error ?? new TransportError("transport", "TRANSPORT_CLOSED", "the target closed")),
    });
    stream.write(encodePdu(login.start(), NO_DIGESTS));
  });
  return { login, end, close: () => stream.destroy() };
}

/** One login over TCP, from the connection to its close. */
export async function loginOverTcp(
  portal: PortalAddress,
  options: InitiatorLoginOptions,
  dependencies: Partial<InitiatorLoginDependencies> = {},
): Promise<{ readonly login: InitiatorLogin; readonly end: LoginEnd | Error }> {
  const { login, end, close } = await holdLoginOverTcp(portal, options, dependencies);
  close();
  return { login, end };
}

/** What came of a leading login with keys younger than most targets, and of connections that joined its session. */
export interface JoinReport {
  readonly leading: object;
  readonly joins: readonly object[];
}

/**
 * Logs in with TaskReporting, iSCSIProtocolLevel and an extension key offered, then joins the session over
 * `joinPortals` in turn, over the last one once more with a TSIH that no session has.
 */
export async function logInAndJoin(
  portal: PortalAddress,
  joinPortals: readonly PortalAddress[],
  options: InitiatorLoginOptions,
): Promise<JoinReport> {
  const leading = await holdLoginOverTcp(portal, {
    ...options,
    tsih: 0,
    cid: 0,
    offers: { taskReporting: ["ResponseFence", "RFC3720"], iscsiProtocolLevel: 2, ...options.offers },
    extensionKeys: [["X-dev.hawser.test", "1"]],
  });
  const held = [leading];
  try {
    if (leading.end instanceof Error || leading.end.kind !== "done")
      return { leading: summary(leading.end), joins: [] };
    const { parameters, tsih, targetPortalGroupTag } = leading.end.result;
    const joining = {
      ...options,
      tsih,
      sessionParameters: parameters,
      ...(targetPortalGroupTag === undefined ? {} : { expectedPortalGroupTag: targetPortalGroupTag }),
    };
    for (const [index, joinPortal] of joinPortals.entries()) {
      held.push(await holdLoginOverTcp(joinPortal, { ...joining, cid: index + 1 }));
    }
    const stranger = { ...joining, cid: 99, tsih: tsih ^ 0x5555 };
    held.push(await holdLoginOverTcp(joinPortals.at(-1) ?? portal, stranger));
    return { leading: summary(leading.end), joins: held.slice(1).map(({ end }) => summary(end)) };
  } finally {
    for (const { close } of held) close();
  }
}

function summary(end: LoginEnd | Error): object {
  if (end instanceof Error) return { code: "code" in end ? end.code : end.message };
  if (end.kind !== "done") return end;
  const { parameters, tsih, extensionAnswers } = end.result;
  return { parameters, hasTsih: tsih !== 0, extensionAnswers };
}
