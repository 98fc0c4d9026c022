import type { PortalAddress } from "../base/access.js";
import { formatPortal } from "../base/portal.js";
import type { TargetRedirect } from "./api.js";
import { TargetError } from "./errors.js";
import { LoginRefusal, LoginStatus } from "./login/login-refusal.js";
import { unmappedHost } from "./send-targets.js";

/** Where one login is sent, and when it is told. */
export interface Redirection {
  readonly refusal: LoginRefusal;
  readonly isAfterAuthentication: boolean;
}

/** The redirect of one target: sends new sessions to one portal, or to several in turn (RFC 7143 §11.13.5). */
export class Redirects {
  readonly #targetName: string;
  #redirect: TargetRedirect | undefined;
  #turn = 0;

  constructor(options: { readonly targetName: string; readonly redirect?: TargetRedirect | undefined }) {
    this.#targetName = options.targetName;
    this.set(options.redirect);
  }

  /** Turns begin anew with every redirect. Throws TARGET_INVALID for one that leads nowhere. */
  set(redirect: TargetRedirect | undefined): void {
    if (redirect?.portals?.length === 0) {
      const message = `the redirect of ${this.#targetName} names no portal; name at least one, or lift the redirect`;
      throw new TargetError("TARGET_INVALID", message);
    }
    this.#redirect = redirect;
    this.#turn = 0;
  }

  /**
   * What becomes of the next new session, which came to `localAddress` (`host:port`): undefined takes it here. One that
   * arrives where a redirect in turn has sent it stays: its destinations are interfaces of this very target.
   */
  next(localAddress: string): Redirection | undefined {
    const redirect = this.#redirect;
    if (redirect === undefined) return undefined;
    const portal = redirect.portals === undefined ? redirect.portal : this.#inTurn(redirect.portals, localAddress);
    if (portal === undefined) return undefined;
    // §13.8: an address in a redirect has no portal group tag.
    const address = formatPortal(portal);
    const status = redirect.kind === "temporary" ? LoginStatus.movedTemporarily : LoginStatus.movedPermanently;
    const refusal = new LoginRefusal(status, `${this.#targetName} has moved to ${address}`, [
      ["TargetAddress", address],
    ]);
    return { refusal, isAfterAuthentication: redirect.isAfterAuthentication ?? false };
  }

  #inTurn(portals: readonly PortalAddress[], localAddress: string): PortalAddress | undefined {
    const reached = canonical(localAddress);
    if (portals.some((portal) => canonical(formatPortal(portal)) === reached)) return undefined;
    const portal = portals[this.#turn % portals.length];
    this.#turn = (this.#turn + 1) % portals.length;
    return portal;
  }
}

/** `host:port` so that two spellings of one address are one text: IPv6 shortened, IPv4 seen by both families plain. */
function canonical(address: string): string {
  const match = /^\[(.*)\]:(\d+)$/.exec(address);
  const plain =
    match?.[1] === undefined ? address : formatPortal({ host: unmappedHost(match[1]), port: Number(match[2]) });
  const url = `http://${plain}`;
  return URL.canParse(url) ? new URL(url).host : plain.toLowerCase();
}
