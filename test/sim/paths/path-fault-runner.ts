import type { AluaState } from "../../../src/scsi/alua.js";
import type { SimClock } from "../sim-clock.js";
import type { SimDisk } from "../sim-disk.js";
import { LUN_NUMBER, TARGET_NAME } from "../sim-target.js";
import type { Wire } from "../wire.js";
import type { CapacityLie } from "./capacity-lie.js";
import type { PathFault, PathFaultKind } from "./path-faults.js";
import type { PathNetwork, Route, WayState } from "./path-network.js";
import { type PathPlan, type PlannedPortal, SOURCES } from "./path-plan.js";
import { impostorHost, type PathTarget } from "./path-target.js";

export interface PathFaultWorld {
  readonly plan: PathPlan;
  readonly clock: SimClock;
  readonly network: PathNetwork;
  readonly target: PathTarget;
  readonly disk: SimDisk;
  readonly lie: CapacityLie;
  readonly onFired: (kind: PathFaultKind) => void;
  /** Paths that a fault may have disturbed: those that fit what is given, or all. */
  readonly onTouched: (what: Partial<Pick<Route, "source" | "portal">>) => void;
  /** The unit has so many blocks more. */
  readonly grow: () => void;
  readonly crashProcess: (restartAfterMs: number) => void;
  readonly rivalWrites: () => void;
  readonly rivalPreempts: () => void;
}

/** Fixed format, unit attention, CAPACITY DATA HAS CHANGED. */
const CAPACITY_CHANGED = Buffer.from("700006000000000a000000002a0900000000", "hex");
/** Bytes that were under way come in before anybody can log in again. */
const REOPEN_AFTER_MS = 200;

const LAGGING_WRITES = 4;
/** So long a way is dead before the process is killed as well: what was sent meanwhile is still under way then. */
const DEAD_BEFORE_CRASH_MS = 300;

export function nameOf({ host, port }: PlannedPortal): string {
  return `${host}:${port}`;
}

/** Makes a world's faults happen at their time, and ends them all when it is told to. */
export class PathFaultRunner {
  readonly #world: PathFaultWorld;
  readonly #stalled = new Set<Wire>();
  #isOver = false;

  constructor(world: PathFaultWorld) {
    this.#world = world;
  }

  schedule(faults: readonly PathFault[]): void {
    for (const fault of faults) {
      this.#world.clock.setTimer(fault.atMs, () => {
        if (!this.#isOver) this.#begin(fault);
      });
    }
  }

  /** From now on nothing goes wrong any more; what was broken is mended. */
  heal(): void {
    const isFirst = !this.#isOver;
    this.#isOver = true;
    const { network, disk, target, lie, plan } = this.#world;
    network.healWays();
    for (const wire of network.wires) if (wire.portal.startsWith("impostor-")) wire.link?.cut();
    for (const wire of this.#stalled) wire.link?.heal();
    this.#stalled.clear();
    disk.hangUntilMs = 0;
    if (!isFirst) return;
    this.#endLie(lie);
    target.setState(1, "active-optimized");
    if (target.groups.length > 1) target.setState(2, plan.secondGroupState);
    void target.ensureRunning();
  }

  #begin(fault: PathFault): void {
    switch (fault.kind) {
      case "path-cut":
      case "paths-cut":
      case "path-stall-to-target":
      case "path-stall-to-initiator":
      case "path-stall-both":
        this.#onLinks(fault);
        return;
      case "path-black-hole":
      case "source-dead":
      case "portal-refused":
      case "portal-silent":
        this.#onWay(fault);
        return;
      case "portal-replaced":
      case "target-crash":
      case "target-restart":
      case "target-freeze":
      case "disk-hang":
      case "writes-lag":
        this.#onTarget(fault);
        return;
      case "states-swapped":
      case "states-transitioning":
      case "group-unavailable":
      case "all-standby":
        this.#onStates(fault);
        return;
      case "identity-swapped":
        this.#swapIdentity(fault);
        return;
      case "unit-grown":
      case "unit-grown-unevenly":
        this.#growUnit(fault);
        return;
      default:
        this.#onNodes(fault);
    }
  }

  #later(delayMs: number, act: () => void): void {
    this.#world.clock.setTimer(delayMs, () => {
      if (!this.#isOver) act();
    });
  }

  #onLinks(fault: PathFault): void {
    const { network, onFired, onTouched } = this.#world;
    const { wires } = network;
    const chosen = wires[fault.salt % Math.max(1, wires.length)];
    if (chosen === undefined) return;
    onFired(fault.kind);
    if (fault.kind === "paths-cut") {
      onTouched({});
      for (const wire of wires) wire.link?.cut();
      return;
    }
    const { source, portal } = network.routeOf(chosen);
    onTouched({ source, portal });
    if (fault.kind === "path-cut") {
      chosen.link?.cut();
      return;
    }
    if (fault.kind !== "path-stall-to-initiator") chosen.link?.stall("to-listener");
    if (fault.kind !== "path-stall-to-target") chosen.link?.stall("to-dialer");
    this.#stalled.add(chosen);
    this.#later(fault.durationMs, () => this.#unstall([chosen]));
  }

  /** What a portal, a source or one way between them does with connections, and with those that are made meanwhile. */
  #onWay(fault: PathFault): void {
    const { network, target, onFired, onTouched, plan } = this.#world;
    const portal = nameOf(pick(target.portals, fault.salt));
    const source = plan.settings.pathInterfaces === undefined ? "" : pick(SOURCES, fault.salt >>> 8).address;
    const isWholeSource = fault.kind === "source-dead";
    const isOneWay = fault.kind === "path-black-hole";
    const way = { ...(isOneWay || isWholeSource ? { source } : {}), ...(isWholeSource ? {} : { portal }) };
    const state: WayState = fault.kind === "portal-refused" ? "refused" : "silent";
    const wires = network.wires.filter((wire) => fits(network.routeOf(wire), way));
    onFired(fault.kind);
    onTouched(way);
    network.setWay(way.source ?? "*", way.portal ?? "*", state);
    if (fault.kind === "portal-refused") for (const wire of wires) wire.link?.cut();
    else this.#stall(wires);
    this.#later(fault.durationMs, () => this.#unstall(wires));
    this.#later(fault.durationMs + REOPEN_AFTER_MS, () => network.setWay(way.source ?? "*", way.portal ?? "*", "up"));
  }

  #onTarget(fault: PathFault): void {
    const { target, disk, clock, network, onFired, onTouched, plan } = this.#world;
    onFired(fault.kind);
    onTouched({});
    if (fault.kind === "disk-hang") {
      disk.hangUntilMs = clock.nowMs() + fault.durationMs;
    } else if (fault.kind === "writes-lag") {
      disk.lagWrites(1 + (fault.salt % LAGGING_WRITES), fault.durationMs);
      const group = pick(target.groups, fault.salt >>> 8);
      const names = target.portals.filter(({ portalGroupTag }) => portalGroupTag === group).map(nameOf);
      const wires = network.wires.filter((wire) => names.includes(network.routeOf(wire).portal));
      for (const wire of wires) {
        wire.link?.stall("to-dialer");
        this.#stalled.add(wire);
      }
      this.#later(fault.durationMs, () => this.#unstall(wires));
    } else if (fault.kind === "target-freeze") {
      const { wires } = network;
      for (const portal of target.portals) network.setWay("*", nameOf(portal), "silent");
      this.#stall(wires);
      this.#later(fault.durationMs, () => {
        for (const portal of target.portals) network.setWay("*", nameOf(portal), "up");
        this.#unstall(wires);
      });
    } else {
      if (fault.kind === "portal-replaced" && plan.sparePortal !== undefined) {
        const { portalGroupTag } = plan.sparePortal;
        const alike = target.portals.filter((portal) => portal.portalGroupTag === portalGroupTag);
        target.replacePortal(pick(alike, fault.salt), plan.sparePortal);
      }
      if (fault.kind === "target-crash") target.crash();
      else void target.stop();
      this.#later(fault.durationMs, () => void target.ensureRunning());
    }
  }

  #onStates(fault: PathFault): void {
    const { target, onFired, onTouched, plan } = this.#world;
    const { groups } = target;
    const group = pick(groups, fault.salt);
    const changed = fault.kind === "all-standby" || fault.kind === "states-swapped" ? groups : [group];
    onFired(fault.kind);
    onTouched({});
    const setAll = (stateOf: (index: number) => AluaState): void => {
      changed.forEach((each, index) => target.setState(each, stateOf(index)));
    };
    const back = (): void => changed.forEach((each) => target.setState(each, homeState(plan, each)));
    if (fault.kind === "states-swapped") {
      const other = pick(["active-non-optimized", "standby", "unavailable"] as const, fault.salt >>> 4);
      const isFirst = fault.salt % 2 === 0;
      setAll((index) => ((index === 0) === isFirst ? other : "active-optimized"));
    } else if (fault.kind === "states-transitioning") {
      setAll(() => "transitioning");
    } else if (fault.kind === "group-unavailable") {
      setAll(() => pick(["unavailable", "offline"] as const, fault.salt >>> 4));
    } else setAll(() => "standby");
    this.#later(fault.durationMs, back);
  }

  #swapIdentity(fault: PathFault): void {
    const { network, target, onFired, onTouched } = this.#world;
    const portal = pick(target.portals, fault.salt);
    const name = nameOf(portal);
    onFired(fault.kind);
    onTouched({ portal: name });
    network.setDetour(name, impostorHost(portal.host));
    const cut = (): void => {
      for (const wire of network.wires) if (network.routeOf(wire).portal === name) wire.link?.cut();
    };
    cut();
    this.#later(fault.durationMs, () => {
      network.setDetour(name, undefined);
      cut();
    });
  }

  #growUnit(fault: PathFault): void {
    const { lie, target, onFired, grow } = this.#world;
    onFired(fault.kind);
    if (fault.kind === "unit-grown-unevenly") {
      lie.begin(nameOf(pick(target.portals, fault.salt)));
      this.#later(fault.durationMs, () => this.#endLie(lie));
    }
    grow();
  }

  #endLie(lie: CapacityLie): void {
    if (!lie.isTold) return;
    lie.end();
    this.#world.target.server?.reportScsiEvent(TARGET_NAME, { lun: LUN_NUMBER, sense: CAPACITY_CHANGED });
  }

  /** What happens to the nodes themselves. */
  #onNodes(fault: PathFault): void {
    const { plan, clock, onFired, onTouched, crashProcess, rivalWrites, rivalPreempts } = this.#world;
    if (fault.kind !== "rival-writes" && fault.kind !== "rival-preempts") onFired(fault.kind);
    switch (fault.kind) {
      case "process-crash":
        onTouched({});
        if (plan.keepsBytes && fault.salt % 4 !== 0) this.#onWay({ ...fault, kind: "path-black-hole" });
        this.#later(DEAD_BEFORE_CRASH_MS, () => crashProcess(fault.durationMs / 10));
        return;
      case "process-pause":
        onTouched({});
        clock.pause(fault.durationMs);
        return;
      case "wall-clock-jump":
        clock.jumpWallTime((fault.salt % 2 === 0 ? 1 : -1) * fault.durationMs * 1_000);
        return;
      case "rival-writes":
        rivalWrites();
        return;
      default:
        rivalPreempts();
    }
  }

  #stall(wires: readonly Wire[]): void {
    for (const wire of wires) {
      wire.link?.stall();
      this.#stalled.add(wire);
    }
  }

  #unstall(wires: readonly Wire[]): void {
    for (const wire of wires) {
      wire.link?.heal();
      this.#stalled.delete(wire);
    }
  }
}

/** The state a port group has while nothing is wrong. */
export function homeState(plan: PathPlan, group: number): AluaState {
  return group === 1 ? "active-optimized" : plan.secondGroupState;
}

export function fits(route: Route, way: Partial<Pick<Route, "source" | "portal">>): boolean {
  const isSource = way.source === undefined || way.source === route.source;
  return isSource && (way.portal === undefined || way.portal === route.portal);
}

function pick<T>(list: readonly T[], salt: number): T {
  const choice = list[salt % list.length];
  if (choice === undefined) throw new RangeError("nothing to pick from");
  return choice;
}
