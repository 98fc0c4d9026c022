import type { ChapCredentials, PortalAddress } from "../base/access.js";
import type { Timer } from "../base/clock.js";
import { AppError, errorMessage } from "../base/errors.js";
import { PATH_PLAN_INTERVAL_MS } from "../base/limits.js";
import { lunFromNumber } from "../base/lun.js";
import { Mutex } from "../base/mutex.js";
import { formatPortal } from "../base/portal.js";
import type { IscsiLun } from "../block/iscsi-lun.js";
import { LunReservation } from "../block/lun-reservation.js";
import { MultipathDevice } from "../multipath/multipath-device.js";
import { followAdvertisedPortals } from "./advertised-portals.js";
import type { CloseOptions, ConnectVolumeDependencies, ConnectVolumeRequest } from "./connect-volume.js";
import { IscsiPath } from "./iscsi-path.js";
import type { PathCompany } from "./path-company.js";
import { fencePath, type FenceWay } from "./path-fence.js";
import { actAsNexus, type NexusAct } from "./path-nexus.js";
import { type PathPlan, pathIsid, planPaths } from "./path-plan.js";
import { multipathOptions } from "./path-settings.js";
import type { VolumeSessionStatus } from "./session-status.js";
import { guardedDevice, VolumeAdmission } from "./volume-admission.js";
import { volumeSessionOptions } from "./volume-session.js";

/** The paths of one volume: which there are, what they must agree on, and how one is fenced over another. */
export class PathVolume {
  readonly multipath: MultipathDevice;
  readonly admission: VolumeAdmission | undefined;
  readonly #request: ConnectVolumeRequest;
  readonly #dependencies: ConnectVolumeDependencies;
  readonly #paths = new Map<string, IscsiPath>();
  readonly #plans = new Map<string, PathPlan>();
  /** Only one path at a time may find out what the unit is, while nobody knows. */
  readonly #opening = new Mutex();
  readonly #planning = new Mutex();
  readonly #stop = new AbortController();
  #portals: readonly PortalAddress[];
  #expectedId: string;
  #chap: ChapCredentials | undefined;
  #planTimer: Timer | undefined;
  /** The path over which the target is asked for its portals, and what ends that. */
  #followed: { readonly path: IscsiPath; readonly stop: () => Promise<void> } | undefined;
  #stopping: Promise<void> = Promise.resolve();

  constructor(request: ConnectVolumeRequest, dependencies: ConnectVolumeDependencies) {
    this.#request = request;
    this.#dependencies = dependencies;
    this.#portals = request.portals;
    this.#expectedId = request.expectedId;
    this.#chap = request.chap;
    this.multipath = new MultipathDevice(multipathOptions(request.settings ?? {}), dependencies);
    this.admission =
      request.reservation === undefined
        ? undefined
        : new VolumeAdmission(request.reservation, dependencies, {
            isAlone: (pathId) => this.#ways(pathId).length === 0,
            overOthers: (pathId, act) => this.#overOthers(pathId, act),
          });
    this.admission?.onLost((reason) => this.multipath.refuse(reason));
  }

  /** Plans the paths and begins to connect them. Rejects with PATH_NONE_POSSIBLE, and when they cannot be remembered. */
  async start(): Promise<void> {
    const plans = this.#plan();
    if (plans.length === 0) throw this.#noneThere();
    await this.#begin(plans);
    this.#armPlanning();
  }

  /** The errors of all paths once each has failed its first attempt; empty as soon as one is up. */
  async firstOutcomes(): Promise<readonly AppError[]> {
    const outcomes = await Promise.all([...this.#paths.values()].map((path) => path.firstOutcome));
    const failures = outcomes.filter((outcome) => outcome !== undefined);
    return failures.length === outcomes.length ? failures : [];
  }

  /** Why no path carries requests although the target was reached. */
  notUsable(): AppError {
    const states = this.multipath
      .status()
      .paths.map(
        ({ id, state, accessState, reason }) => `${id}: ${accessState ?? state}${reason === "" ? "" : ` (${reason})`}`,
      );
    return new AppError(
      "initiator",
      "PATH_NONE_USABLE",
      `${this.#request.targetName} was reached, but no path takes requests: ${states.join(", ")}`,
      { retry: "other-path" },
    );
  }

  /**
   * Makes certain that nothing of the sessions of an earlier process is carried out any more, over the paths that are up:
   * those of the plan that have not replaced theirs yet, and those that are not planned any more. Rejects with
   * PATH_FENCE_FAILED.
   */
  async fenceFormerSessions(): Promise<void> {
    const former = (this.#request.formerPathIds ?? []).filter((id) => !this.#paths.has(id));
    const results = await Promise.all([
      ...[...this.#paths.values()].map(async (path) => ({ id: path.id, isFenced: await path.fenceFormer() })),
      ...former.map(async (id) => ({ id, isFenced: await this.#fenceUnplanned(id) })),
    ]);
    const open = results.filter(({ isFenced }) => !isFenced).map(({ id }) => id);
    if (open.length === 0) return;
    throw new AppError(
      "initiator",
      "PATH_FENCE_FAILED",
      `it is not certain that commands which an earlier process sent over ${open.join(", ")} are over; nothing is ` +
        "written before that",
      { retry: "other-path", details: { paths: open } },
    );
  }

  sessions(): readonly VolumeSessionStatus[] {
    return [...this.#paths.values()].flatMap((path) => path.status() ?? []);
  }

  renewChap(chap: ChapCredentials): void {
    this.#chap = chap;
    for (const path of this.#paths.values()) path.renewChap(chap);
  }

  /** Lets requests settle, gives reservations back if the volume is given up, and logs out. Does not fail. */
  async close({ isGivenUp = false }: CloseOptions = {}): Promise<void> {
    this.#stop.abort();
    this.#planTimer?.cancel();
    await this.#followed?.stop();
    await this.#stopping;
    if (isGivenUp) {
      const up = [...this.#paths.values()].filter((path) => path.isUp);
      await this.admission?.leave(up.map((path) => ({ pathId: path.id, commander: path.commander })));
    }
    await this.multipath.close();
  }

  #plan(): readonly PathPlan[] {
    const { settings } = this.#request;
    const sources = settings?.pathInterfaces ?? [];
    const interfaces = sources.length === 0 ? [] : (this.#dependencies.interfaces?.list() ?? []);
    return planPaths({ portals: this.#portals, sources, interfaces });
  }

  /** Adds the paths that are not there yet. What an earlier process must find again is written down before any login. */
  async #begin(plans: readonly PathPlan[]): Promise<void> {
    await this.#planning.run(async () => {
      const added = plans.filter(({ id }) => !this.#paths.has(id));
      if (added.length === 0 || this.#isOver()) return;
      await this.#request.rememberPaths?.([...this.#paths.keys(), ...added.map(({ id }) => id)]);
      if (this.#isOver()) return;
      const { standbyPaths = 0, pathWeights = [] } = this.#request.settings ?? {};
      const total = this.#paths.size + added.length;
      for (const plan of added) {
        const rank = this.#paths.size;
        const path = this.#createPath(plan);
        this.#paths.set(plan.id, path);
        this.#plans.set(plan.id, plan);
        this.multipath.addPath(path, { rank, weight: pathWeights[rank] ?? 0, isStandby: rank >= total - standbyPaths });
        path.start();
      }
    });
  }

  #isOver(): boolean {
    return this.#stop.signal.aborted;
  }

  #createPath(plan: PathPlan): IscsiPath {
    const { settings, lun } = this.#request;
    const path = new IscsiPath(
      {
        id: plan.id,
        lun: lunFromNumber(lun),
        session: this.#sessionOptions(plan.id, plan),
        linkDownTimeMs: (settings?.linkDownTimeSeconds ?? 0) * 1_000,
        networkReadyRetryCount: settings?.networkReadyRetryCount ?? 0,
      },
      this.#companyOf(),
      this.#dependencies,
    );
    path.onEvent(({ kind }) => {
      if (kind === "up" || kind === "down") this.#followAdvertised();
    });
    return path;
  }

  #sessionOptions(id: string, plan: Omit<PathPlan, "id">): ReturnType<typeof volumeSessionOptions> {
    const request = { ...this.#request, ...(this.#chap === undefined ? {} : { chap: this.#chap }) };
    const { portal, localAddress, localInterface } = plan;
    return {
      ...volumeSessionOptions({ ...request, isid: pathIsid(request.isid, id) }, [portal]),
      isPortalPinned: true,
      ...(localAddress === undefined ? {} : { localAddress }),
      ...(localInterface === undefined ? {} : { localInterface }),
    };
  }

  #companyOf(): PathCompany {
    const { admission } = this;
    return {
      openUnit: (open) => this.#openUnit(open),
      admit: admission === undefined ? undefined : (commander, pathId) => admission.admit(commander, pathId),
      expectedSizeBytes: this.#request.expectedSizeBytes ?? 0,
      reference: (pathId) => {
        const others = [...this.#paths.values()].filter(({ id, profile }) => id !== pathId && profile !== undefined);
        return (others.find(({ isUp }) => isUp) ?? others[0])?.profile;
      },
      guard: (unit, pathId) => (admission === undefined ? unit : guardedDevice(unit, admission, pathId)),
      waysBeside: (pathId) => this.#ways(pathId),
      afterUnitReset: async (pathId) => {
        const others = [...this.#paths.values()].filter((path) => path.id !== pathId && path.isUp);
        await Promise.all(others.map((path) => path.clearTasks()));
      },
    };
  }

  /** What the first path finds is what the others must find. */
  async #openUnit(open: (expectedId: string) => Promise<IscsiLun>): Promise<IscsiLun> {
    if (this.#expectedId !== "") return open(this.#expectedId);
    return this.#opening.run(async () => {
      const unit = await open(this.#expectedId);
      this.#expectedId = unit.info.identity.id;
      return unit;
    });
  }

  #ways(pathId: string): readonly FenceWay[] {
    return [...this.#paths.values()].flatMap((path) => (path.id === pathId ? [] : (path.way ?? [])));
  }

  /** See AdmissionCompany. */
  async #overOthers(pathId: string, act: NexusAct): Promise<boolean> {
    const plan = this.#plans.get(pathId);
    if (plan === undefined) return false;
    const lun = lunFromNumber(this.#request.lun);
    const ids = new Set([...this.#paths.keys(), ...(this.#request.formerPathIds ?? [])]);
    ids.delete(pathId);
    for (const id of ids) {
      const path = this.#paths.get(id);
      const isDone =
        path?.isUp === true
          ? await act(new LunReservation(path.commander)).catch(() => false)
          : await actAsNexus(
              { session: this.#sessionOptions(id, plan), lun },
              act,
              this.#dependencies,
              this.#stop.signal,
            );
      if (isDone) return true;
    }
    return false;
  }

  #fenceUnplanned(id: string): Promise<boolean> {
    const [portal] = this.#portals;
    if (portal === undefined) return Promise.resolve(false);
    return fencePath(
      {
        session: this.#sessionOptions(id, { portal }),
        lun: lunFromNumber(this.#request.lun),
        portalGroupTag: undefined,
        ways: this.#ways(id),
        onUnitReset: () => Promise.resolve(),
      },
      this.#dependencies,
      this.#stop.signal,
    );
  }

  /**
   * Asks the target for the portals it has, over a path that is up, and over another when that one is lost: its portal may
   * be gone for good, and what has come in its place is known only at the others.
   */
  #followAdvertised(): void {
    const { settings, targetName, initiatorName } = this.#request;
    if (settings?.portalHopping !== "advertised" || this.#stop.signal.aborted || this.#followed?.path.isUp === true)
      return;
    const path = [...this.#paths.values()].find((each) => each.isUp);
    const session = path?.session;
    if (path === undefined || session === undefined || path === this.#followed?.path) return;
    const former = this.#followed;
    if (former !== undefined) this.#stopping = Promise.all([this.#stopping, former.stop()]).then(() => undefined);
    const stop = followAdvertisedPortals(
      {
        events: session.events,
        status: () => session.status(),
        setAdvertisedPortals: (portals) => this.#addPortals(portals),
      },
      { targetName, initiatorName, chap: () => this.#chap },
      this.#dependencies,
    );
    this.#followed = { path, stop };
  }

  #addPortals(portals: readonly PortalAddress[]): void {
    const known = new Set(this.#portals.map(formatPortal));
    this.#portals = [...this.#portals, ...portals.filter((portal) => !known.has(formatPortal(portal)))];
    this.#extend();
  }

  /** Interfaces come and go: a path that was not possible before may be now. */
  #armPlanning(): void {
    if ((this.#request.settings?.pathInterfaces ?? []).length === 0) return;
    this.#planTimer = this.#dependencies.clock.setTimer(PATH_PLAN_INTERVAL_MS, () => {
      this.#extend();
      this.#armPlanning();
    });
  }

  #extend(): void {
    this.#begin(this.#plan()).catch((error: unknown) => {
      this.#dependencies.logger.warn("paths could not be added; it is tried again", { reason: errorMessage(error) });
    });
  }

  #noneThere(): AppError {
    const { settings, portals } = this.#request;
    return new AppError(
      "initiator",
      "PATH_NONE_POSSIBLE",
      `no path to ${portals.map(formatPortal).join(", ")}: this node has none of the interfaces or addresses that ` +
        `pathInterfaces names (${(settings?.pathInterfaces ?? []).join(", ")}) for them now`,
    );
  }
}
