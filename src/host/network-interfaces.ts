import { networkInterfaces } from "node:os";
import { errorMessage } from "../base/errors.js";
import { HostError } from "./errors.js";

/** An address of an interface of this machine. */
export interface NetworkInterfaceAddress {
  /** The interface: `eth0`. */
  readonly name: string;
  /** Dotted decimal, or IPv6 without a zone. */
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
  /** Leading bits of `address` that every machine on this link shares: 0 to 32, or 0 to 128. */
  readonly prefixLength: number;
  /** Of the loopback interface: nothing outside this machine is reached through it. */
  readonly isInternal: boolean;
}

/** The addresses that connections of this machine may come from. */
export interface NetworkInterfaces {
  /**
   * As they are now, in the order of the system: an interface has one entry for each address, and none while it is down or
   * has no address. HostError HOST_INTERFACES_UNKNOWN when the system does not tell.
   */
  list(): readonly NetworkInterfaceAddress[];
}

type ReadInterfaces = typeof networkInterfaces;

/** The interfaces of the system, of the network namespace that the process is in. Only here are they asked for. */
export class SystemNetworkInterfaces implements NetworkInterfaces {
  readonly #read: ReadInterfaces;

  constructor(read: ReadInterfaces = networkInterfaces) {
    this.#read = read;
  }

  list(): readonly NetworkInterfaceAddress[] {
    return Object.entries(this.#readAll()).flatMap(([name, entries]) =>
      (entries ?? []).flatMap(({ address, family, cidr, internal }): NetworkInterfaceAddress[] => {
        const prefixLength = prefixOf(cidr);
        // A netmask with holes has no prefix: no subnet can be told from it.
        if (prefixLength === undefined) return [];
        return [{ name, address, family: family === "IPv4" ? "ipv4" : "ipv6", prefixLength, isInternal: internal }];
      }),
    );
  }

  #readAll(): ReturnType<ReadInterfaces> {
    try {
      return this.#read();
    } catch (error) {
      const reason = errorMessage(error);
      throw new HostError("HOST_INTERFACES_UNKNOWN", `the system does not list its network interfaces: ${reason}`, {
        retry: "same-path",
        cause: error,
      });
    }
  }
}

function prefixOf(cidr: string | null): number | undefined {
  const digits = /\/(\d{1,3})$/.exec(cidr ?? "")?.[1];
  return digits === undefined ? undefined : Number(digits);
}
