import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type {
  AttachedVolume,
  AttachRequest,
  DataplaneApi,
  VolumeState,
  VolumeStatus,
} from "../../../src/dataplane/api.js";
import { DataplaneError } from "../../../src/dataplane/errors.js";
import { createNodeService } from "../../../src/csi/node.js";
import type { NodeDependencies } from "../../../src/csi/node-dependencies.js";
import { InFlight } from "../../../src/csi/in-flight.js";
import type { CsiService, UnaryMethod } from "../../../src/csi/service.js";
import { StageRecords } from "../../../src/csi/stage-record.js";
import type { CsiSpecLevel } from "../../../src/csi/capabilities.js";
import { HostError } from "../../../src/host/errors.js";
import type { Filesystems } from "../../../src/host/filesystem.js";
import type { DeviceSignature } from "../../../src/host/format-decision.js";
import { isSameDevice, type DeviceNumbers, type MountEntry } from "../../../src/host/mountinfo.js";
import type { BindMountRequest, MountHealth, Mounter, MountRequest } from "../../../src/host/mounter.js";
import { collectingLogger, newNode } from "./controller-fixture.js";
import { StepTrap } from "./step-trap.js";

export { Crash, StepTrap } from "./step-trap.js";

/** The dataplane's memory of a volume: it survives the node process. */
interface FakeVolume {
  attached: AttachedVolume | undefined;
  state: VolumeState;
  reason: string;
  generation: number;
  wasFormatted: boolean;
  request: AttachRequest | undefined;
}

export class FakeDataplane implements DataplaneApi {
  readonly volumes = new Map<string, FakeVolume>();
  readonly #world: FakeNodeWorld;
  /** Device numbers are used again at once, which is the hard case. */
  nextMinor = 1;
  lunBytes = 2 ** 30;
  backend: AttachedVolume["backend"] = "nbd";
  deviceId = "naa.3000000000000001";

  constructor(world: FakeNodeWorld) {
    this.#world = world;
  }

  attach(request: AttachRequest): Promise<AttachedVolume> {
    return this.#world.trap.step("attach", () => {
      const volume = this.#volume(request.volumeHandle);
      if (volume.attached !== undefined && volume.attached.isReadOnly !== request.isReadOnly) {
        throw new DataplaneError("VOLUME_MISMATCH", "attached with other parameters");
      }
      volume.request = request;
      if (volume.attached === undefined) {
        volume.generation += 1;
        const minor = this.nextMinor;
        volume.state = "attached";
        volume.attached = {
          volumeHandle: request.volumeHandle,
          devicePath: `/dev/fake${minor}`,
          deviceMajor: 240,
          deviceMinor: minor,
          backend: this.backend,
          sizeBytes: this.lunBytes,
          logicalBlockBytes: 512,
          isReadOnly: request.isReadOnly,
          deviceId: this.deviceId,
          generation: volume.generation,
          wasFormatted: volume.wasFormatted,
        };
      }
      return { ...volume.attached, wasFormatted: volume.wasFormatted };
    });
  }

  detach(volumeHandle: string): Promise<void> {
    return this.#world.trap.step("detach", () => {
      const volume = this.#volume(volumeHandle);
      if (volume.attached === undefined) return;
      const device = { major: volume.attached.deviceMajor, minor: volume.attached.deviceMinor };
      const holders = this.#world.mounter.entries.filter((entry) => isSameDevice(entry.device, device));
      if (holders.length > 0) throw new DataplaneError("DEVICE_BUSY", `held at ${holders[0]!.mountPoint}`);
      volume.attached = undefined;
    });
  }

  /** NodeStage and its like touch no connections. */
  setConnectionPolicy(): Promise<void> {
    return Promise.reject(new Error("nobody asked for another policy"));
  }

  addConnection(): Promise<number> {
    return Promise.reject(new Error("nobody asked for a connection"));
  }

  removeConnection(): Promise<void> {
    return Promise.reject(new Error("nobody asked to take a connection away"));
  }

  setPathPolicy(): Promise<void> {
    return Promise.reject(new Error("nobody asked for another policy of paths"));
  }

  changePath(): Promise<void> {
    return Promise.reject(new Error("nobody asked to change a path"));
  }

  resize(volumeHandle: string): Promise<AttachedVolume> {
    return this.#world.trap.step("resize", () => {
      const volume = this.#volume(volumeHandle);
      if (volume.attached === undefined) throw new DataplaneError("VOLUME_NOT_FOUND", "not attached");
      volume.attached = { ...volume.attached, sizeBytes: this.lunBytes };
      return volume.attached;
    });
  }

  markFormatted(volumeHandle: string): Promise<void> {
    return this.#world.trap.step("markFormatted", () => {
      this.#volume(volumeHandle).wasFormatted = true;
    });
  }

  get(volumeHandle: string): Promise<VolumeStatus | undefined> {
    const volume = this.volumes.get(volumeHandle);
    if (volume?.attached === undefined) return Promise.resolve(undefined);
    const { attached, state, reason } = volume;
    return Promise.resolve({ volume: attached, volumeHandle, state, reason, sessions: [] });
  }

  list(): Promise<readonly VolumeStatus[]> {
    return Promise.resolve([]);
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async *watch(): AsyncGenerator<never> {
    return;
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async *watchVolumes(): AsyncGenerator<never> {
    return;
  }

  /** The kernel lost the device; the next attach makes another, here with the same numbers. */
  loseDevice(volumeHandle: string): void {
    this.#volume(volumeHandle).attached = undefined;
  }

  #volume(volumeHandle: string): FakeVolume {
    const known = this.volumes.get(volumeHandle);
    if (known !== undefined) return known;
    const fresh: FakeVolume = {
      attached: undefined,
      state: "attached",
      reason: "",
      generation: 0,
      wasFormatted: false,
      request: undefined,
    };
    this.volumes.set(volumeHandle, fresh);
    return fresh;
  }
}

export class FakeMounter implements Mounter {
  readonly entries: MountEntry[] = [];
  readonly stale = new Set<string>();
  readonly #world: FakeNodeWorld;
  #nextId = 100;

  constructor(world: FakeNodeWorld) {
    this.#world = world;
  }

  list(): Promise<readonly MountEntry[]> {
    return Promise.resolve([...this.entries]);
  }

  find(target: string): Promise<MountEntry | undefined> {
    return Promise.resolve(this.entries.findLast((entry) => entry.mountPoint === target));
  }

  async isMountPoint(target: string): Promise<boolean> {
    return (await this.find(target)) !== undefined;
  }

  mountsOfDevice(device: DeviceNumbers): Promise<readonly MountEntry[]> {
    return Promise.resolve(this.entries.filter((entry) => isSameDevice(entry.device, device)));
  }

  async health(target: string): Promise<MountHealth> {
    const entry = await this.find(target);
    if (entry === undefined) return { kind: "absent" };
    if (this.stale.has(target)) return { kind: "stale", entry, reason: "its device is gone" };
    return { kind: "healthy", entry };
  }

  mount({ source, target, fsType, options = [] }: MountRequest): Promise<MountEntry> {
    return this.#world.trap.step("mount", () => {
      this.#refuseStacking(target);
      if (!this.#world.filesystems.isWhole) throw new HostError("HOST_MOUNT_FAILED", "bad superblock");
      const minor = Number(source.replace("/dev/fake", ""));
      return this.#add({ target, device: { major: 240, minor }, fsType, source, root: "/", options });
    });
  }

  bindMount({ source, target, isReadOnly, options = [] }: BindMountRequest): Promise<MountEntry> {
    return this.#world.trap.step("bindMount", () => {
      const from = this.entries.find((entry) => entry.mountPoint === source);
      const existing = this.entries.find((entry) => entry.mountPoint === target);
      if (from === undefined) throw new HostError("HOST_MOUNT_FAILED", `${source} is not mounted`);
      if (existing !== undefined && isSameDevice(existing.device, from.device)) return existing;
      this.#refuseStacking(target);
      const flags = isReadOnly === true ? [...options, "ro"] : options;
      return this.#add({ ...from, target, options: flags });
    });
  }

  remountReadOnly(): Promise<void> {
    return Promise.resolve();
  }

  unmount(target: string): Promise<void> {
    return this.#world.trap.step("unmount", () => {
      const kept = this.entries.filter((entry) => entry.mountPoint !== target);
      this.entries.splice(0, this.entries.length, ...kept);
      this.stale.delete(target);
    });
  }

  #add(entry: Pick<MountEntry, "device" | "fsType" | "source" | "root" | "options"> & { target: string }): MountEntry {
    const { target, options, ...rest } = entry;
    this.#nextId += 1;
    const added: MountEntry = {
      ...rest,
      id: this.#nextId,
      parentId: 1,
      mountPoint: target,
      options: options.includes("ro") ? options : ["rw", ...options.filter((option) => option !== "rw")],
      propagation: [],
      superOptions: ["rw"],
    };
    this.entries.push(added);
    return added;
  }

  #refuseStacking(target: string): void {
    if (!this.entries.some((entry) => entry.mountPoint === target)) return;
    throw new HostError("HOST_MOUNT_OCCUPIED", `nothing is mounted on top of ${target}`);
  }
}

/** One device's content. `isWhole`: mkfs has come to its end. */
export class FakeFilesystems implements Filesystems {
  signature: DeviceSignature = { kind: "empty" };
  isZero = true;
  isWhole = false;
  sizeBytes = 0;
  /** That a check finds and repairs. */
  hasErrors = false;
  readonly #world: FakeNodeWorld;

  constructor(world: FakeNodeWorld) {
    this.#world = world;
  }

  probeSignature(): Promise<DeviceSignature> {
    return Promise.resolve(this.signature);
  }

  isZeroed(): Promise<boolean> {
    return Promise.resolve(this.isZero);
  }

  makeFilesystem({ fsType, options = [] }: Parameters<Filesystems["makeFilesystem"]>[0]): Promise<void> {
    if (!this.isZero && options.length === 0) return Promise.reject(new HostError("HOST_MKFS_FAILED", "not empty"));
    // A killed mkfs leaves something that is neither empty nor a file system.
    this.isZero = false;
    return this.#world.trap.step("mkfs", () => {
      this.signature = { kind: "filesystem", fsType };
      this.isWhole = true;
      this.sizeBytes = this.#world.dataplane.lunBytes;
    });
  }

  checkFilesystem(): Promise<"clean" | "repaired"> {
    return this.#world.trap.step("fsck", () => (this.hasErrors ? "repaired" : "clean"));
  }

  growFilesystem(): Promise<void> {
    return this.#world.trap.step("grow", () => {
      this.sizeBytes = this.#world.dataplane.lunBytes;
    });
  }

  async growUnmounted({ fsType }: { readonly fsType: string }): Promise<boolean> {
    if (fsType === "ext4") await this.growFilesystem();
    return fsType === "ext4";
  }

  needsGrow(): Promise<boolean> {
    return Promise.resolve(this.sizeBytes < this.#world.dataplane.lunBytes);
  }

  filesystemStats(): ReturnType<Filesystems["filesystemStats"]> {
    const bytes = { totalBytes: 1000, usedBytes: 400, availableBytes: 550 };
    return Promise.resolve({ ...bytes, totalInodes: 100, usedInodes: 10, freeInodes: 90 });
  }
}

class TrappedRecords extends StageRecords {
  readonly #trap: StepTrap;

  constructor(stateDirectory: string, trap: StepTrap) {
    super({ stateDirectory });
    this.#trap = trap;
  }

  override async put(record: Parameters<StageRecords["put"]>[0]): Promise<void> {
    await this.#trap.step("put record", () => undefined);
    await super.put(record);
  }

  override async remove(volumeHandle: string): Promise<void> {
    await super.remove(volumeHandle);
    await this.#trap.step("remove record", () => undefined);
  }
}

/** A node: kernel, dataplane and disk stay while node services come and go. */
export class FakeNodeWorld {
  readonly directory: string;
  readonly trap = new StepTrap();
  readonly lines: string[] = [];
  readonly node = newNode("a");
  readonly mounter = new FakeMounter(this);
  readonly filesystems = new FakeFilesystems(this);
  readonly dataplane = new FakeDataplane(this);
  readonly records: StageRecords;
  specLevel: CsiSpecLevel = "1.13";
  /** What `hawser node --events` puts around the service and gives to it, from the next restart on. */
  wrap: (service: CsiService) => CsiService = (service) => service;
  notice: NonNullable<NodeDependencies["notice"]> = () => undefined;
  #methods: Readonly<Record<string, UnaryMethod>> = {};

  private constructor(directory: string) {
    this.directory = directory;
    this.records = new TrappedRecords(join(directory, "state"), this.trap);
    this.restart();
  }

  static async open(): Promise<FakeNodeWorld> {
    return new FakeNodeWorld(await mkdtemp(join(tmpdir(), "hawser-node-")));
  }

  get stagingPath(): string {
    return join(this.directory, "staging");
  }

  targetPath(name = "target"): string {
    return join(this.directory, "pods", name);
  }

  /** Another node service over the same world, as after a kill. */
  restart(): void {
    const { dataplane, mounter, filesystems, records, notice, node } = this;
    const parts = { dataplane, mounter, filesystems, records, notice, ...node };
    const options = { specLevel: this.specLevel, maxVolumes: 7 };
    const own = { logger: collectingLogger(this.lines), inFlight: new InFlight() };
    this.#methods = this.wrap(createNodeService(options, { ...parts, ...own })).methods;
  }

  async call(method: string, request: object, signal: AbortSignal = new AbortController().signal): Promise<object> {
    const handler = this.#methods[method];
    if (handler === undefined) throw new Error(`no RPC ${method}`);
    return handler(request, { signal, logger: collectingLogger(this.lines) });
  }

  async close(): Promise<void> {
    await rm(this.directory, { recursive: true });
  }
}
