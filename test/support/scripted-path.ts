import type { Clock, Timer } from "../../src/base/clock.js";
import { Emitter } from "../../src/base/emitter.js";
import type { AppError } from "../../src/base/errors.js";
import type { BlockDevice, BlockDeviceInfo } from "../../src/block/device.js";
import { BlockError } from "../../src/block/errors.js";
import type { MemoryDevice } from "../../src/block/memory-device.js";
import type { PathPort, PathPortEvent } from "../../src/multipath/path-port.js";
import type { AluaState, TargetPortGroup, TargetPortGroupChange, TargetPortGroups } from "../../src/scsi/alua.js";

/** The access states of a scripted unit, the same over all of its paths. */
export class ScriptedAccess {
  #groups: readonly TargetPortGroup[];

  constructor(states: Readonly<Record<number, AluaState>>) {
    this.#groups = Object.entries(states).map(([group, state]) => ({
      ...{ group: Number(group), state, isPreferred: false, statusCode: 0, ports: [] },
      supportedStates: ["active-optimized", "active-non-optimized", "standby", "transitioning"],
    }));
  }

  get groups(): TargetPortGroups {
    return { groups: this.#groups, implicitTransitionSeconds: 0 };
  }

  change(portGroup: number, change: Partial<TargetPortGroup>): void {
    this.#groups = this.#groups.map((group) => (group.group === portGroup ? { ...group, ...change } : group));
  }
}

export interface ScriptedPathOptions {
  readonly id: string;
  readonly clock: Clock;
  readonly disk: MemoryDevice;
  /** From the sending of a request to its answer; default 0: at once. */
  readonly latencyMs?: number;
  readonly portGroup?: number;
  readonly access?: ScriptedAccess;
  readonly canSetPortGroups?: boolean;
}

export type ScriptedOperation = "read" | "write" | "flush" | "unmap" | "writeZeroes" | "blockStatus";

/** A request that was sent and not answered. */
interface Sent {
  readonly operation: ScriptedOperation;
  /** Has the disk carry it out. */
  readonly work: () => Promise<unknown>;
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: unknown) => void;
  timer?: Timer;
}

const changing: ReadonlySet<ScriptedOperation> = new Set<ScriptedOperation>(["write", "unmap", "writeZeroes"]);

/**
 * A path whose ups, downs, answers and times a test decides. It keeps the promise of PathPort as a real one does: when it
 * goes down, what changes nothing is given back; what may have been carried out is kept, and is sent again when the path is
 * up, or given back when another path is (`handOver`): never both.
 */
export class ScriptedPath implements PathPort {
  readonly id: string;
  readonly device: BlockDevice;
  readonly canSetPortGroups: boolean;
  /** Every request that was given to it, in order. */
  readonly requests: ScriptedOperation[] = [];
  /** What SET TARGET PORT GROUPS asked for. */
  readonly changesAsked: TargetPortGroupChange[] = [];
  portGroup: number | undefined;
  latencyMs: number;
  probes = 0;
  recognitions = 0;
  groupReadings = 0;
  handOvers = 0;
  isClosed = false;
  /** What the unit answers a request with instead of carrying it out; undefined: it carries it out. */
  answer: (operation: ScriptedOperation) => AppError | undefined = () => undefined;
  probeError: AppError | undefined;
  recogniseError: AppError | undefined;
  refreshError: AppError | undefined;
  readGroupsError: AppError | undefined;
  setGroupsError: AppError | undefined;
  /** What the unit would say of itself when asked now, where it differs from what the disk says. */
  unit: Partial<BlockDeviceInfo> = {};
  readonly #options: ScriptedPathOptions;
  readonly #events = new Emitter<PathPortEvent>();
  readonly #sent = new Set<Sent>();
  /** Their fate is unknown since the path went down. */
  readonly #kept = new Set<Sent>();
  #isUp = false;
  #info: BlockDeviceInfo | undefined;

  constructor(options: ScriptedPathOptions) {
    this.#options = options;
    this.id = options.id;
    this.latencyMs = options.latencyMs ?? 0;
    this.portGroup = options.portGroup;
    this.canSetPortGroups = options.canSetPortGroups ?? false;
    this.device = this.#createDevice();
  }

  /** Requests that were not answered. */
  get outstanding(): number {
    return this.#sent.size + this.#kept.size;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  up(): void {
    this.#isUp = true;
    this.#info = this.#ask();
    for (const sent of this.#kept) this.#send(sent);
    this.#kept.clear();
    this.#events.emit({ kind: "up" });
  }

  /** `hasLanded`: changes under way were carried out, only their answers are lost. */
  down(options: { readonly hasLanded?: boolean; readonly isRefused?: boolean; readonly reason?: AppError } = {}): void {
    const { hasLanded = false, isRefused = false, reason = pathGone(this.id) } = options;
    this.#isUp = false;
    for (const sent of this.#sent) {
      sent.timer?.cancel();
      if (!changing.has(sent.operation)) {
        sent.reject(reason);
        continue;
      }
      if (hasLanded) void sent.work();
      this.#kept.add(sent);
    }
    this.#sent.clear();
    this.#events.emit({ kind: isRefused ? "refused" : "down", reason });
  }

  /** The unit tells by itself what it is now. */
  tellInfo(): void {
    this.#info = this.#ask();
    this.#events.emit({ kind: "info-changed", info: this.#info });
  }

  /** It was heard that access states changed, and they were read. */
  tellGroups(): void {
    const { access } = this.#options;
    if (access !== undefined) this.#events.emit({ kind: "port-groups", groups: access.groups });
  }

  readPortGroups(): Promise<TargetPortGroups | undefined> {
    this.groupReadings += 1;
    return this.#question(this.readGroupsError, () => this.#options.access?.groups);
  }

  /** The group becomes active at once, and the others go on standby. */
  setPortGroups(changes: readonly TargetPortGroupChange[]): Promise<void> {
    this.changesAsked.push(...changes);
    return this.#question(this.setGroupsError, () => {
      const { access } = this.#options;
      for (const { group } of access?.groups.groups ?? []) access?.change(group, { state: "standby" });
      for (const { group, state } of changes) access?.change(group, { state });
    });
  }

  probe(): Promise<void> {
    this.probes += 1;
    return this.#question(this.probeError, () => undefined);
  }

  recognise(): Promise<void> {
    this.recognitions += 1;
    return this.#question(this.recogniseError, () => undefined);
  }

  refresh(): Promise<BlockDeviceInfo> {
    return this.#question(this.refreshError, () => {
      const info = this.#ask();
      if (JSON.stringify(info) !== JSON.stringify(this.#info)) this.tellInfo();
      return info;
    });
  }

  handOver(): void {
    this.handOvers += 1;
    if (this.#isUp) return;
    for (const sent of this.#kept) sent.reject(pathGone(this.id));
    this.#kept.clear();
  }

  onEvent(listener: (event: PathPortEvent) => void): () => void {
    return this.#events.on(listener);
  }

  /** The disk is not closed: other paths lead to it. */
  close(): Promise<void> {
    this.isClosed = true;
    this.#isUp = false;
    const closed = new BlockError("BLOCK_CLOSED", `path ${this.id} is closed`);
    for (const sent of [...this.#sent, ...this.#kept]) {
      sent.timer?.cancel();
      sent.reject(closed);
    }
    this.#sent.clear();
    this.#kept.clear();
    return Promise.resolve();
  }

  #ask(): BlockDeviceInfo {
    return Object.freeze({ ...this.#options.disk.info, ...this.unit });
  }

  #question<T>(failure: AppError | undefined, answer: () => T): Promise<T> {
    if (!this.#isUp) return Promise.reject(pathGone(this.id));
    return failure === undefined ? Promise.resolve(answer()) : Promise.reject(failure);
  }

  #createDevice(): BlockDevice {
    const { disk } = this.#options;
    const information = (): BlockDeviceInfo => {
      if (this.#info === undefined) throw new Error(`path ${this.id} was asked before it was up`);
      return this.#info;
    };
    return {
      get info() {
        return information();
      },
      read: (offsetBytes, target) => this.#request("read", () => disk.read(offsetBytes, target)),
      write: (offsetBytes, source) => this.#request("write", () => disk.write(offsetBytes, source)),
      flush: () => this.#request("flush", () => disk.flush()),
      unmap: (ranges) => this.#request("unmap", () => disk.unmap(ranges)),
      writeZeroes: (range) => this.#request("writeZeroes", () => disk.writeZeroes(range)),
      blockStatus: (range) => this.#request("blockStatus", () => disk.blockStatus(range)),
      onEvent: () => () => undefined,
      close: () => Promise.resolve(),
    };
  }

  #request<T>(operation: ScriptedOperation, work: () => Promise<T>): Promise<T> {
    this.requests.push(operation);
    if (!this.#isUp) return Promise.reject(pathGone(this.id));
    return new Promise<T>((resolve, reject) => {
      // What `work` resolves with is what `resolve` takes.
      const sent: Sent = { operation, work, resolve: (result) => resolve(result as T), reject };
      if (this.latencyMs === 0) this.#answer(sent);
      else this.#send(sent);
    });
  }

  #send(sent: Sent): void {
    this.#sent.add(sent);
    sent.timer = this.#options.clock.setTimer(this.latencyMs, () => {
      this.#sent.delete(sent);
      this.#answer(sent);
    });
  }

  #answer(sent: Sent): void {
    const failure = this.answer(sent.operation);
    if (failure === undefined) sent.work().then(sent.resolve, sent.reject);
    else sent.reject(failure);
  }
}

/** The connection is gone. */
export function pathGone(id: string): BlockError {
  return new BlockError("BLOCK_UNAVAILABLE", `path ${id} is gone`, { retry: "other-path" });
}

/** The unit failed the request, and may do better over another port: HARDWARE ERROR. */
export function hardwareError(): BlockError {
  return new BlockError("BLOCK_IO", "HARDWARE ERROR: internal target failure (4/44/00)", { retry: "other-path" });
}

/** The unit failed the request, as it would over any port: MEDIUM ERROR. */
export function mediumError(): BlockError {
  return new BlockError("BLOCK_IO", "MEDIUM ERROR: unrecovered read error (3/11/00)");
}
