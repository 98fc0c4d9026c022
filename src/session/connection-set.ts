import type { AppError } from "../base/errors.js";
import type { Connection } from "./connection.js";
import { type ConnectionPolicy, ConnectionSelector } from "./connection-policy.js";
import type { ConnectionSnapshot } from "./session-events.js";

/** The connections of a session that are in full feature phase, in the order of its plan. */
export class ConnectionSet {
  readonly #selector: ConnectionSelector;
  #all: Connection[] = [];
  /** Those that take new commands. */
  #usable: Connection[] = [];

  constructor(policy: ConnectionPolicy) {
    this.#selector = new ConnectionSelector(policy);
  }

  get size(): number {
    return this.#all.length;
  }

  get policy(): ConnectionPolicy {
    return this.#selector.policy;
  }

  set policy(policy: ConnectionPolicy) {
    this.#selector.policy = policy;
  }

  /** For requests that may go over any of them: the first. */
  get first(): Connection | undefined {
    return this.#usable[0];
  }

  all(): readonly Connection[] {
    return this.#all;
  }

  /** The connection of the next command. */
  choose(): Connection | undefined {
    return this.#usable.length === 1 ? this.#usable[0] : this.#selector.choose(this.#usable);
  }

  find(connectionId: number): Connection | undefined {
    return this.#all.find((connection) => connection.connectionId === connectionId);
  }

  has(connection: Connection): boolean {
    return this.#all.includes(connection);
  }

  add(connection: Connection): void {
    this.#replace([...this.#all, connection].sort((a, b) => a.rank - b.rank));
  }

  /** False when it was not there. */
  remove(connection: Connection): boolean {
    if (!this.has(connection)) return false;
    this.#replace(this.#all.filter((other) => other !== connection));
    return true;
  }

  /** Whether it takes new commands from now on; a connection that is the last one takes them all the same. */
  setDraining(connection: Connection, isDraining: boolean): void {
    connection.isDraining = isDraining;
    this.#replace(this.#all);
  }

  /** Takes all of them out and ends them. */
  dropAll(reason: AppError): void {
    const connections = this.#all;
    this.#replace([]);
    for (const connection of connections) connection.drop(reason);
  }

  snapshot(): ConnectionSnapshot[] {
    return this.#all.map((connection) => ({
      cid: connection.connectionId,
      portal: connection.portal,
      localAddress: connection.channel.localAddress,
      isStandby: connection.isStandby,
      weight: connection.weight,
      commandsInFlight: connection.inFlight,
      receivedBytes: connection.channel.receivedBytes,
    }));
  }

  #replace(all: Connection[]): void {
    this.#all = all;
    const staying = all.filter((connection) => !connection.isDraining);
    // The last one is used even when it was to be closed: that is not done then.
    this.#usable = staying.length > 0 ? staying : all;
  }
}
