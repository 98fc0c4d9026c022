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

/** One login over TCP, from the connection to its close. */
export async function loginOverTcp(
  portal: PortalAddress,
  options: InitiatorLoginOptions,
  dependencies: Partial<InitiatorLoginDependencies> = {},
): Promise<{ readonly login: InitiatorLogin; readonly end: LoginEnd | Error }> {
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
  stream.destroy();
  return { login, end };
}
