import type { Fault, FaultKind } from "./fault-plan.js";
import type { SimClock } from "./sim-clock.js";
import type { SimDisk } from "./sim-disk.js";
import type { SimNetwork } from "./network.js";
import { LUN_NUMBER, type SimTarget, TARGET_NAME } from "./sim-target.js";
import type { Tampering } from "./tampering.js";
import type { Wire } from "./wire.js";

export interface FaultWorld {
  readonly clock: SimClock;
  readonly network: SimNetwork;
  readonly tampering: Tampering;
  readonly target: SimTarget;
  readonly disk: SimDisk;
  readonly portals: readonly string[];
  readonly onFired: (kind: FaultKind) => void;
}

/** Fixed format, unit attention, CAPACITY DATA HAS CHANGED. */
const CAPACITY_CHANGED = Buffer.from("700006000000000a000000002a0900000000", "hex");
const DROP_ONE = 2;
const DROP_ALL = 3;
const RENEGOTIATE = 4;
const LOGOUT = 1;
const VENDOR = 255;

/** Makes a world's faults happen at their time, and ends them all when it is told to. */
export class FaultRunner {
  readonly #world: FaultWorld;
  readonly #stalled = new Set<Wire>();
  #isOver = false;

  constructor(world: FaultWorld) {
    this.#world = world;
  }

  schedule(faults: readonly Fault[]): void {
    for (const fault of faults) {
      this.#world.clock.setTimer(fault.atMs, () => {
        if (!this.#isOver) this.#begin(fault);
      });
    }
  }

  /** From now on nothing goes wrong any more; what was broken is mended. */
  heal(): void {
    this.#isOver = true;
    const { network, tampering, portals, disk } = this.#world;
    for (const portal of portals) network.setPortal(portal, "up");
    for (const wire of this.#stalled) wire.link?.heal();
    this.#stalled.clear();
    disk.hangUntilMs = 0;
    tampering.disarm();
    this.#world.target.server?.setRedirect(TARGET_NAME, undefined);
    void this.#world.target.ensureRunning();
  }

  #begin(fault: Fault): void {
    const { tampering, onFired } = this.#world;
    switch (fault.kind) {
      case "cut-one":
      case "cut-all":
      case "stall-to-target":
      case "stall-to-initiator":
      case "stall-both":
        this.#onLinks(fault);
        return;
      case "portal-down":
      case "portal-silent":
        this.#onPortal(fault);
        return;
      case "target-crash":
      case "target-restart":
      case "target-freeze":
      case "disk-hang":
        this.#onTarget(fault);
        return;
      case "withhold-r2t":
        tampering.withholdR2ts(this.#world.clock.nowMs() + fault.durationMs);
        return;
      case "close-window":
      case "window-lie":
      case "ping":
        this.#onWindow(fault);
        return;
      case "async-logout":
      case "async-drop-one":
      case "async-drop-all":
      case "async-renegotiate":
      case "async-vendor":
        this.#announce(fault);
        return;
      case "target-asks-for-logout":
      case "target-drops-one":
      case "target-drops-all":
      case "target-negotiates":
      case "target-reports-scsi-event":
      case "target-sends-vendor-event":
      case "target-redirects":
        this.#byTarget(fault);
        return;
      case "redirect-temporary":
      case "redirect-permanent":
      case "redirect-loop":
      case "login-refused":
        this.#onLogin(fault);
        return;
      case "wall-clock-jump":
        onFired(fault.kind);
        this.#world.clock.jumpWallTime((fault.salt % 2 === 0 ? 1 : -1) * fault.durationMs * 1_000);
        return;
      case "process-pause":
        onFired(fault.kind);
        this.#world.clock.pause(fault.durationMs);
        return;
      default:
        tampering.arm(fault);
    }
  }

  #later(fault: Fault, act: () => void): void {
    this.#world.clock.setTimer(fault.durationMs, () => {
      if (!this.#isOver) act();
    });
  }

  #pick(fault: Fault): Wire | undefined {
    const { wires } = this.#world.network;
    return wires[fault.salt % Math.max(1, wires.length)];
  }

  #onLinks(fault: Fault): void {
    const one = this.#pick(fault);
    if (one === undefined) return;
    this.#world.onFired(fault.kind);
    if (fault.kind === "cut-one") {
      one.link?.cut();
      return;
    }
    if (fault.kind === "cut-all") {
      for (const wire of this.#world.network.wires) wire.link?.cut();
      return;
    }
    const direction =
      fault.kind === "stall-to-target" ? "to-listener" : fault.kind === "stall-to-initiator" ? "to-dialer" : undefined;
    this.#stalled.add(one);
    one.link?.stall(direction);
    this.#later(fault, () => {
      one.link?.heal(direction);
      this.#stalled.delete(one);
    });
  }

  #onPortal(fault: Fault): void {
    const { network, portals, onFired } = this.#world;
    const portal = portals[fault.salt % portals.length];
    if (portal === undefined) return;
    onFired(fault.kind);
    const wires = network.wires.filter((wire) => wire.portal === portal);
    if (fault.kind === "portal-down") {
      network.setPortal(portal, "down");
      for (const wire of wires) wire.link?.cut();
    } else {
      network.setPortal(portal, "silent");
      this.#stall(wires);
    }
    this.#later(fault, () => {
      network.setPortal(portal, "up");
      this.#unstall(wires);
    });
  }

  #onTarget(fault: Fault): void {
    const { target, disk, clock, network, portals, onFired } = this.#world;
    onFired(fault.kind);
    if (fault.kind === "disk-hang") {
      disk.hangUntilMs = clock.nowMs() + fault.durationMs;
    } else if (fault.kind === "target-freeze") {
      const { wires } = network;
      for (const portal of portals) network.setPortal(portal, "silent");
      this.#stall(wires);
      this.#later(fault, () => {
        for (const portal of portals) network.setPortal(portal, "up");
        this.#unstall(wires);
      });
    } else {
      if (fault.kind === "target-crash") target.crash();
      else void target.stop();
      this.#later(fault, () => void target.ensureRunning());
    }
  }

  #onWindow(fault: Fault): void {
    const { network, tampering, onFired } = this.#world;
    const wire = this.#pick(fault);
    if (wire === undefined) return;
    if (fault.kind === "close-window") {
      onFired(fault.kind);
      tampering.closeWindow(network.wires);
      this.#later(fault, () => tampering.openWindow());
      return;
    }
    const window = tampering.renumbering.window(wire);
    if (window === undefined) return;
    // Either a pair that contradicts itself, or one that would shrink the window: both are to be ignored.
    const isContradiction = fault.salt % 2 === 0;
    const lie = isContradiction
      ? { expCmdSn: window.expCmdSn, maxCmdSn: (window.expCmdSn - 3) >>> 0 }
      : { expCmdSn: (window.expCmdSn - 1) >>> 0, maxCmdSn: (window.expCmdSn - 2) >>> 0 };
    const isSaid = tampering.say(wire, fault.kind === "ping" ? { tag: fault.salt & 0x7fff_ffff } : lie);
    if (isSaid) onFired(fault.kind);
  }

  #announce(fault: Fault): void {
    const { tampering, network, onFired } = this.#world;
    const wire = this.#pick(fault);
    if (wire === undefined) return;
    const cid = wire.cid ?? 0;
    const wait = fault.salt % 3;
    const said = {
      "async-logout": () => tampering.announce(wire, LOGOUT, [0, 0, 1 + wait]),
      "async-drop-one": () => tampering.announce(wire, DROP_ONE, [cid, wait, 20]),
      "async-drop-all": () => tampering.announce(wire, DROP_ALL, [0, wait, 20]),
      "async-renegotiate": () => tampering.announce(wire, RENEGOTIATE, [0, 0, 3]),
      "async-vendor": () => tampering.announce(wire, VENDOR, [1, 2, 3]),
    }[fault.kind as "async-logout"]();
    if (!said) return;
    onFired(fault.kind);
    // The target does what it has announced, a moment later.
    if (fault.kind === "async-drop-one") this.#world.clock.setTimer(10, () => wire.link?.cut());
    if (fault.kind === "async-drop-all") {
      const { wires } = network;
      this.#world.clock.setTimer(10, () => {
        for (const each of wires) each.link?.cut();
      });
    }
    if (fault.kind === "async-logout") this.#world.clock.setTimer((1 + wait) * 1_000, () => wire.link?.cut());
  }

  /** What the target does of its own accord. */
  #byTarget(fault: Fault): void {
    const { target, network, onFired, portals } = this.#world;
    const { server } = target;
    const cid = this.#pick(fault)?.cid;
    if (server === undefined || cid === undefined) return;
    onFired(fault.kind);
    const timeLimitSeconds = 1 + (fault.salt % 3);
    switch (fault.kind) {
      case "target-asks-for-logout":
        void server.requestLogout(TARGET_NAME, { ...(fault.salt % 2 === 0 ? { cid } : {}), timeLimitSeconds });
        return;
      case "target-drops-one":
        server.dropConnections(TARGET_NAME, { cid });
        return;
      case "target-drops-all":
        server.dropConnections(TARGET_NAME, {});
        return;
      case "target-negotiates":
        server.requestNegotiation(TARGET_NAME, { timeLimitSeconds });
        return;
      case "target-reports-scsi-event":
        server.reportScsiEvent(TARGET_NAME, { lun: LUN_NUMBER, sense: CAPACITY_CHANGED });
        return;
      case "target-sends-vendor-event":
        server.sendVendorEvent(TARGET_NAME, { asyncVCode: 1, data: Buffer.from("vendor") });
        return;
      default: {
        const [host = "", port = ""] = (portals[fault.salt % portals.length] ?? "").split(":");
        const kind = fault.salt % 2 === 0 ? "temporary" : "permanent";
        server.setRedirect(TARGET_NAME, { kind, portal: { host, port: Number(port) } });
        for (const wire of network.wires) wire.link?.cut();
        this.#later(fault, () => {
          if (target.server === server) server.setRedirect(TARGET_NAME, undefined);
        });
      }
    }
  }

  /** A trap for logins, and a reason to log in. */
  #onLogin(fault: Fault): void {
    const { tampering, network, portals } = this.#world;
    const other = portals[fault.salt % portals.length] ?? "";
    if (fault.kind === "login-refused") {
      tampering.setLoginTrap({ ...fault, count: fault.count }, { statusClass: 3, statusDetail: fault.salt % 3 });
    } else {
      const isPermanent = fault.kind === "redirect-permanent";
      const isLoop = fault.kind === "redirect-loop";
      const following = (portal: string): string => portals[(portals.indexOf(portal) + 1) % portals.length] ?? other;
      tampering.setLoginTrap(
        { ...fault, count: isLoop ? 40 : 1 },
        { statusClass: 1, statusDetail: isPermanent ? 2 : 1, addressOf: isLoop ? following : () => other },
      );
    }
    for (const wire of network.wires) wire.link?.cut();
    this.#later(fault, () => tampering.setLoginTrap(fault, undefined));
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
