import type { NegotiatedParameters } from "../login/parameters.js";
import { LogoutReason, RejectReason, RESERVED_TAG } from "../wire/constants.js";
import type { InitiatorPdu } from "../wire/pdu.js";
import { CommandWindow } from "./command-window.js";
import type { ConnectionUser, TargetConnection } from "./connection.js";
import { TargetError } from "./errors.js";
import type { LoginGrant } from "./login/target-login.js";
import { TextExchange, type TextAnswers } from "./text-exchange.js";

/** A discovery session (RFC 7143 §4.3): SendTargets and the logout of the session, nothing else. */
export class DiscoverySession implements ConnectionUser {
  readonly #connection: TargetConnection;
  readonly #parameters: NegotiatedParameters;
  readonly #window: CommandWindow<never>;
  readonly #text: TextExchange;
  readonly #onClosed: () => void;

  constructor(
    options: { readonly grant: LoginGrant; readonly queueDepth: number },
    dependencies: {
      readonly connection: TargetConnection;
      readonly sendTargets: (value: string) => TextAnswers;
      readonly onClosed: () => void;
    },
  ) {
    this.#connection = dependencies.connection;
    this.#parameters = options.grant.parameters;
    this.#onClosed = dependencies.onClosed;
    this.#window = new CommandWindow({ depth: options.queueDepth, expCmdSn: options.grant.expCmdSn });
    this.#text = new TextExchange((pairs) =>
      pairs.flatMap(([key, value]): TextAnswers =>
        key === "SendTargets" ? dependencies.sendTargets(value) : [[key, "NotUnderstood"]],
      ),
    );
  }

  placeData(): undefined {
    return undefined;
  }

  onPdu(pdu: InitiatorPdu, isDataDigestGood: boolean, header: Buffer): void {
    if (pdu.type === "login-request")
      throw new TargetError("TARGET_PEER_PROTOCOL", "a Login Request came after the login");
    if (pdu.type === "scsi-data-out" || pdu.type === "snack-request") {
      this.#reject(RejectReason.protocolError, header);
      return;
    }
    if (!pdu.isImmediate) {
      if (this.#window.place(pdu.cmdSn) !== "next") return;
      this.#window.begin();
      this.#window.advance();
      this.#window.end();
    }
    if (!isDataDigestGood) {
      this.#reject(RejectReason.dataDigestError, header);
      return;
    }
    this.#handle(pdu, header);
  }

  onMalformed(header: Buffer, reason: number): boolean {
    this.#reject(reason, header);
    return reason === RejectReason.commandNotSupported;
  }

  /** Discovery is level 0 (§7.4): a damaged header closes the connection. */
  onHeaderLost(): void {
    this.#connection.destroy();
  }

  onClosed(): void {
    this.#onClosed();
  }

  #handle(pdu: InitiatorPdu, header: Buffer): void {
    const connection = this.#connection;
    switch (pdu.type) {
      case "text-request": {
        const reply = this.#text.receive(pdu, this.#parameters.initiatorMaxRecvDataSegmentLength);
        if (reply === undefined) this.#reject(RejectReason.protocolError, header);
        else connection.send({ ...reply, statSn: connection.takeStatSn(), ...this.#numbers() });
        return;
      }
      case "logout-request":
        if (pdu.reason !== LogoutReason.closeSession) {
          this.#reject(RejectReason.protocolError, header);
          return;
        }
        connection.send({
          type: "logout-response",
          response: 0,
          initiatorTaskTag: pdu.initiatorTaskTag,
          statSn: connection.takeStatSn(),
          ...this.#numbers(),
          time2Wait: 0,
          time2Retain: 0,
        });
        connection.end();
        return;
      case "nop-out":
        // One that answers a ping of ours, or says what has arrived, asks for nothing.
        if (pdu.initiatorTaskTag !== RESERVED_TAG) this.#reject(RejectReason.protocolError, header);
        return;
      default:
        this.#reject(RejectReason.commandNotSupported, header);
    }
  }

  #numbers(): { readonly expCmdSn: number; readonly maxCmdSn: number } {
    return { expCmdSn: this.#window.expCmdSn, maxCmdSn: this.#window.maxCmdSn };
  }

  #reject(reason: number, header: Buffer): void {
    const connection = this.#connection;
    connection.send({
      type: "reject",
      reason,
      dataSnOrR2tSn: 0,
      statSn: connection.takeStatSn(),
      ...this.#numbers(),
      data: Buffer.from(header),
    });
  }
}
