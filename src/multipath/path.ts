import type { BlockDeviceInfo } from "../block/device.js";
import type { TargetPortGroup } from "../scsi/alua.js";
import { accessTier, NO_TIER } from "./access-states.js";
import { FlapDamper } from "./flap-damper.js";
import type { PathPort } from "./path-port.js";
import type { PolicyCandidate } from "./path-selector.js";
import type { PathState, PathStatus } from "./status.js";
import { ThroughputMeter } from "./throughput-meter.js";

/** What is decided about a path before it exists. */
export interface PathPlan {
  /** 0 is preferred; each path has its own. */
  readonly rank: number;
  readonly weight: number;
  readonly isStandby: boolean;
}

/** Why a path is looked at before it is used again. */
export interface Doubt {
  readonly reason: string;
  /** It has another size than the device: not an answer of its own, but only one like that of the others, ends it. */
  readonly isAboutCapacity: boolean;
}

/** What a path's connection to the unit is, whatever else is thought of the path. */
export type PathConnection = Extract<PathState, "connecting" | "up" | "down" | "refused">;

/** What the bytes of a request are counted as. */
export type RequestKind = "read" | "write" | "other";

/**
 * One path: what is known of it, and what it has done. Its state follows from four facts that change independently: what
 * the port told last, whether there is a doubt, whether it is left alone for flapping, and whether an operator took it out.
 */
export class Path implements PolicyCandidate {
  readonly port: PathPort;
  readonly rank: number;
  readonly damper = new FlapDamper();
  readonly #meter = new ThroughputMeter();
  weight: number;
  isStandby: boolean;
  /** What the unit said of itself over this path last; undefined until that was judged to be the right unit. */
  info: BlockDeviceInfo | undefined;
  /** The group it leads to, as reported last. */
  access: TargetPortGroup | undefined;
  /** It is being removed: nothing is sent over it any more. */
  isLeaving = false;
  /** Goes up with everything its port tells: what was begun before that must not be acted upon. */
  generation = 0;
  /** Did the port call itself up last? Then it can be asked, whatever we think of the path. */
  isReachable = false;
  /** Was it ever? Before that the port knows nothing of the unit. */
  wasReachable = false;
  lastEvent = "";
  lastEventTimeMs = 0;
  upSinceMs = 0;
  requestsInFlight = 0;
  bytesInFlight = 0;
  errors = 0;
  failures = 0;
  #connection: PathConnection = "connecting";
  /** Why there is no connection; empty when there is one. */
  #lossReason = "";
  #doubt: Doubt | undefined;
  #isDamped = false;
  #isFailed = false;
  #readOperations = 0;
  #writeOperations = 0;
  #readBytes = 0;
  #writtenBytes = 0;
  #onIdle: (() => void)[] = [];

  constructor(port: PathPort, { rank, weight, isStandby }: PathPlan) {
    this.port = port;
    this.rank = rank;
    this.weight = weight;
    this.isStandby = isStandby;
  }

  get id(): string {
    return this.port.id;
  }

  get state(): PathState {
    if (this.#isFailed) return "failed";
    if (this.#connection !== "up") return this.#connection;
    if (this.#doubt !== undefined) return "suspect";
    return this.#isDamped ? "damped" : "up";
  }

  /** Why its state is not "up"; empty when it is. */
  get reason(): string {
    switch (this.state) {
      case "up":
        return "";
      case "failed":
        return "an operator took it out of service";
      case "suspect":
        return this.#doubt?.reason ?? "";
      case "damped":
        return "it came and went too often";
      case "connecting":
      case "down":
      case "refused":
        return this.#lossReason;
    }
  }

  get connection(): PathConnection {
    return this.#connection;
  }

  get doubt(): Doubt | undefined {
    return this.#doubt;
  }

  /** Undefined where the unit has no access states, or the path was never up. */
  get portGroup(): number | undefined {
    return this.wasReachable ? this.port.portGroup : undefined;
  }

  get tier(): number {
    return accessTier(this.access?.state);
  }

  get isPreferred(): boolean {
    return this.access?.isPreferred ?? false;
  }

  /** Does its access state let it take requests? */
  get isAccessible(): boolean {
    return this.tier !== NO_TIER;
  }

  /** Is it in service, and connected to the unit? Then its state is one of up, damped and suspect. */
  get isConnected(): boolean {
    return this.#connection === "up" && !this.#isFailed && !this.isLeaving;
  }

  bytesPerMs(nowMs: number): number {
    return this.#meter.bytesPerMs(nowMs);
  }

  connected(nowMs: number): void {
    this.#connection = "up";
    this.#lossReason = "";
    this.#doubt = undefined;
    this.#isDamped = false;
    this.upSinceMs = nowMs;
  }

  /** A path that was never up stays "connecting" until it is, or is refused. */
  lost(isRefused: boolean, reason: string, nowMs: number): void {
    if (this.#connection === "up") {
      this.failures += 1;
      this.damper.fell(nowMs);
    }
    if (isRefused) this.#connection = "refused";
    else if (this.#connection !== "connecting") this.#connection = "down";
    this.#lossReason = reason;
  }

  doubted(doubt: Doubt): void {
    this.#doubt = doubt;
  }

  trusted(nowMs: number): void {
    this.#doubt = undefined;
    this.upSinceMs = nowMs;
  }

  damped(): void {
    this.#isDamped = true;
  }

  undamped(nowMs: number): void {
    this.#isDamped = false;
    this.upSinceMs = nowMs;
  }

  takenOut(): void {
    this.#isFailed = true;
  }

  putBack(): void {
    this.#isFailed = false;
  }

  /** A request is given to it. */
  begin(lengthBytes: number, nowMs: number): void {
    this.requestsInFlight += 1;
    this.bytesInFlight += lengthBytes;
    if (lengthBytes > 0) this.#meter.begin(nowMs);
  }

  /** The request is done. */
  done(kind: RequestKind, lengthBytes: number, nowMs: number): void {
    if (kind === "read") {
      this.#readOperations += 1;
      this.#readBytes += lengthBytes;
    } else if (kind === "write") {
      this.#writeOperations += 1;
      this.#writtenBytes += lengthBytes;
    }
    this.#ended(lengthBytes, lengthBytes, nowMs);
  }

  /** The request has failed. */
  undone(lengthBytes: number, nowMs: number): void {
    this.#ended(lengthBytes, 0, nowMs);
  }

  /** Resolves when no request is under way over it. */
  idle(): Promise<void> {
    if (this.requestsInFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  status(isChosen: boolean, nowMs: number): PathStatus {
    const { id, state, reason, isStandby, weight, rank, requestsInFlight, bytesInFlight } = this;
    return {
      ...{ id, state, reason, isChosen, isStandby, weight, rank, requestsInFlight, bytesInFlight },
      accessState: this.access?.state,
      portGroup: this.portGroup,
      readOperations: this.#readOperations,
      writeOperations: this.#writeOperations,
      readBytes: this.#readBytes,
      writtenBytes: this.#writtenBytes,
      bytesPerSecond: this.#meter.shownBytesPerSecond(nowMs),
      errors: this.errors,
      failures: this.failures,
      lastEvent: this.lastEvent,
      lastEventTimeMs: this.lastEventTimeMs,
    };
  }

  #ended(lengthBytes: number, doneBytes: number, nowMs: number): void {
    this.requestsInFlight -= 1;
    this.bytesInFlight -= lengthBytes;
    if (lengthBytes > 0) this.#meter.end(nowMs, doneBytes);
    if (this.requestsInFlight > 0) return;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }
}
