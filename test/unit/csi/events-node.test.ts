import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "../../../src/base/errors.js";
import { silentLogger } from "../../../src/base/logger.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { withEvents } from "../../../src/csi/events-node.js";
import { EventReporter } from "../../../src/csi/events-reporter.js";
import { EventSubjects } from "../../../src/csi/events-subjects.js";
import { ConditionEvents } from "../../../src/csi/events-watch.js";
import type { KubernetesEvent } from "../../../src/csi/events.js";
import type { CsiService } from "../../../src/csi/service.js";
import type { ConditionUpdate, VolumeCondition } from "../../../src/dataplane/api.js";
import { ConditionBoard } from "../../../src/dataplane/condition-board.js";
import { DataplaneError } from "../../../src/dataplane/errors.js";
import { VirtualTime } from "../../support/virtual-time.js";

const claimUid = "0b9c7a52-7c0b-4d5f-8a1e-6f1f6c1d2e3f";
const volumeContext = {
  "csi.storage.k8s.io/pvc/name": "data-web-0",
  "csi.storage.k8s.io/pvc/namespace": "apps",
  "csi.storage.k8s.io/pv/name": `pvc-${claimUid}`,
};
const podContext = {
  ...volumeContext,
  "csi.storage.k8s.io/pod.name": "web-0",
  "csi.storage.k8s.io/pod.namespace": "apps",
  "csi.storage.k8s.io/pod.uid": "u-1",
};
const claim = { kind: "PersistentVolumeClaim", namespace: "apps", name: "data-web-0", uid: claimUid };
const pod = { kind: "Pod", namespace: "apps", name: "web-0", uid: "u-1" };
const node = { kind: "Node", namespace: "", name: "worker-1", uid: "worker-1" };

const condition = (changes: Partial<VolumeCondition> = {}): VolumeCondition => ({
  ...{ volumeHandle: "vol-1", state: "attached", code: "", reason: "", targetName: "iqn.t", backend: "nbd" },
  ...{ deviceBytes: 1024, lunBytes: 1024, pathsUp: 0, pathsTotal: 0, pathsMissing: [] },
  ...changes,
});

let directory: string;
let events: KubernetesEvent[];
let subjects: EventSubjects;
let reporter: EventReporter;
let failure: Error | undefined;
let service: CsiService;

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const told = (): readonly string[] => events.map(({ reason, regarding }) => `${reason} ${regarding.kind}`);

async function call(method: string, request: object): Promise<void> {
  const context = { signal: new AbortController().signal, logger: silentLogger };
  await service.methods[method]?.(request, context).catch((error: unknown) => {
    if (error !== failure) throw error;
  });
  await settled();
}

function open(): void {
  subjects = new EventSubjects({ stateDirectory: directory }, { logger: silentLogger });
  reporter = new EventReporter({ nodeName: "worker-1" }, { sink: { report: (event) => events.push(event) }, subjects });
  const answer = (): Promise<object> => (failure === undefined ? Promise.resolve({}) : Promise.reject(failure));
  const names = ["NodeStageVolume", "NodeUnstageVolume", "NodePublishVolume", "NodeUnpublishVolume"];
  const methods = Object.fromEntries(names.map((name) => [name, answer]));
  const dataplane = { get: () => Promise.resolve(undefined) };
  service = withEvents({ name: "Node", methods }, { reporter, subjects, dataplane, logger: silentLogger });
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "hawser-events-"));
  events = [];
  failure = undefined;
  open();
});
afterEach(async () => {
  await subjects.idle();
  await rm(directory, { recursive: true });
});

describe("the users of a volume", () => {
  it("are known after a restart, until they leave", async () => {
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext });
    await call("NodePublishVolume", { volumeId: "vol-1", targetPath: "/t", volumeContext: podContext });
    await subjects.idle();
    open();
    await subjects.load();
    expect([subjects.claim("vol-1"), ...subjects.pods("vol-1")]).toEqual([claim, pod]);
    await call("NodeUnpublishVolume", { volumeId: "vol-1", targetPath: "/t" });
    expect(subjects.pods("vol-1")).toEqual([]);
    await call("NodeUnstageVolume", { volumeId: "vol-1" });
    await subjects.idle();
    open();
    await subjects.load();
    expect(subjects.claim("vol-1")).toBeUndefined();
  });
});

describe("failed calls", () => {
  it.each([
    ["LOGIN_AUTHENTICATION_FAILED", "VolumeLoginRefused"],
    ["BLOCK_IDENTITY_MISMATCH", "VolumeIdentityMismatch"],
    ["BLOCK_NO_SUCH_LUN", "VolumeTargetMissing"],
    ["VOLUME_SUPERSEDED", "VolumeSuperseded"],
    ["RESERVATION_HELD", "VolumeReservationHeld"],
    ["RESERVATION_KEY_SHARED", "VolumeReservationHeld"],
    ["RESERVATION_UNSUPPORTED", "VolumeReservationHeld"],
    ["RESERVATION_LOST", "VolumeReservationLost"],
    ["HOST_FILESYSTEM_DAMAGED", "FileSystemDamaged"],
  ])("with %s say %s on the claim", async (code, reason) => {
    failure = new AppError("login", code, "target iqn.t refused it");
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext });
    const note = "volume vol-1: target iqn.t refused it";
    expect(events).toMatchObject([{ regarding: claim, reason, subject: "vol-1", note }]);
  });

  it("reach the pod that they are for, and the node when nobody is known", async () => {
    failure = new AppError("dataplane", "VOLUME_DEVICE_LOST", "gone");
    await call("NodePublishVolume", { volumeId: "vol-1", targetPath: "/t", volumeContext: podContext });
    await call("NodeStageVolume", { volumeId: "vol-2" });
    expect(events.map(({ regarding }) => regarding)).toEqual([pod, node]);
    // The node has many volumes: each is told on its own.
    expect(events.map(({ subject }) => subject)).toEqual(["vol-1", "vol-2"]);
  });

  it("that are no operator's matter say nothing, nor what is not meant to be read", async () => {
    failure = new AppError("csi", "CSI_ABORTED", "another call is under way");
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext });
    failure = new TypeError("canary-of-an-unknown-error");
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext });
    expect(events).toEqual([]);
  });

  it("tell no secret of the request", async () => {
    failure = new AppError("login", "LOGIN_AUTHENTICATION_FAILED", "the target refused the CHAP login");
    const secrets = { chapUser: "user", chapSecret: "canary-secret-01" };
    const publishContext = { chap: "canary-sealed-01" };
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext, secrets, publishContext });
    expect(events).toHaveLength(1);
    expect(JSON.stringify(events)).not.toContain("canary");
  });
});

describe("files about the users of volumes", () => {
  const files = async (): Promise<readonly string[]> => {
    await subjects.idle();
    return existsSync(join(directory, "users")) ? readdir(join(directory, "users")) : [];
  };

  it("begin with the first stage that works, and end with the last unstage", async () => {
    failure = new Error("the target refuses the login");
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext });
    // No unstage follows a stage that failed, so nobody would remove it.
    expect(await files()).toEqual([]);
    failure = undefined;
    await call("NodeStageVolume", { volumeId: "vol-1", volumeContext });
    expect(await files()).toHaveLength(1);
    await call("NodeUnstageVolume", { volumeId: "vol-1" });
    expect(await files()).toEqual([]);
  });
});

describe("conditions", () => {
  let clock: VirtualTime;
  let board: ConditionBoard;
  let stop: AbortController;
  let isAway: boolean;
  /** Ends the first watch, as a dataplane does that goes away. */
  let end: AbortController;
  let running: Promise<void>;

  beforeEach(async () => {
    [clock, board, stop, isAway] = [new VirtualTime(), new ConditionBoard(), new AbortController(), false];
    end = new AbortController();
    let watches = 0;
    const isFirst = (): boolean => (watches += 1) === 1;
    const watchVolumes = (signal: AbortSignal): AsyncIterable<ConditionUpdate> => {
      if (isAway) throw new DataplaneError("DATAPLANE_UNREACHABLE", "nobody answers");
      return board.watch(isFirst() ? AbortSignal.any([signal, end.signal]) : signal);
    };
    subjects.begin("vol-1", { ...claim, kind: "PersistentVolumeClaim" });
    const ports = { clock, random: new SeededRandom(1), logger: silentLogger };
    running = new ConditionEvents({}, { dataplane: { watchVolumes }, reporter, ...ports }).run(stop.signal);
    await settled();
  });
  afterEach(async () => {
    stop.abort();
    await clock.advance(60_000);
    await running;
  });

  const show = async (changes: Partial<VolumeCondition>, forMs: number): Promise<void> => {
    board.put(condition(changes));
    await settled();
    await clock.advance(forMs);
  };

  it("that pass quickly are silent; longer ones are told, again, and their end", async () => {
    await show({ state: "reconnecting", reason: "reset" }, 14_000);
    await show({}, 60_000);
    expect(told()).toEqual([]);
    await show({ state: "reconnecting", reason: "reset" }, 16_000);
    expect(told()).toEqual(["VolumeUnreachable PersistentVolumeClaim"]);
    await clock.advance(1_800_000);
    await show({}, 0);
    const [again, end] = ["VolumeUnreachable PersistentVolumeClaim", "VolumeRestored PersistentVolumeClaim"];
    expect(told().slice(1)).toEqual([again, end]);
  });

  it("say the newer reason at once, and what failed without delay", async () => {
    await show({ state: "reconnecting", reason: "reset" }, 16_000);
    await show({ state: "reconnecting", code: "LOGIN_AUTHENTICATION_FAILED", reason: "refused" }, 0);
    await show({ state: "failed", code: "BLOCK_IDENTITY_MISMATCH", reason: "another disk" }, 0);
    const reasons = events.map(({ reason }) => reason);
    expect(reasons).toEqual(["VolumeUnreachable", "VolumeLoginRefused", "VolumeIdentityMismatch"]);
  });

  it("say at once that the reservation went to another node, and name it while its path is looked for", async () => {
    await show({ state: "failed", code: "RESERVATION_LOST", reason: "key 0xaa holds it" }, 0);
    expect(events).toMatchObject([{ reason: "VolumeReservationLost", note: expect.stringContaining("key 0xaa") }]);
    await show({ state: "reconnecting", code: "RESERVATION_HELD", reason: "key 0xbb holds it" }, 16_000);
    expect(events[1]).toMatchObject({ reason: "VolumeReservationHeld", note: expect.stringContaining("key 0xbb") });
  });

  describe("of paths", () => {
    const down = (id: string) => ({ id, reason: "no route", isRefused: false });
    const refused = { id: "p9", reason: "expected naa.1, found naa.2", isRefused: true };

    it("that come and go are silent, those that stay away are named, and their return is told once", async () => {
      for (let turn = 0; turn < 20; turn += 1) {
        await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [down("p1")] }, 14_000);
        await show({ pathsUp: 2, pathsTotal: 2 }, 1_000);
      }
      expect(told()).toEqual([]);
      await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [down("p1")] }, 16_000);
      await show({ pathsUp: 0, pathsTotal: 2, pathsMissing: [down("p1"), down("p2")] }, 1_000);
      await show({ pathsUp: 2, pathsTotal: 2 }, 0);
      await show({ pathsUp: 2, pathsTotal: 2, lunBytes: 1024 }, 0);
      expect(events).toMatchObject([
        {
          reason: "VolumePathLost",
          regarding: claim,
          note: "1 of the 2 paths of volume vol-1 are up, its I/O goes over the others; not up: p1 (no route)",
        },
        { reason: "VolumePathsRestored", note: "all 2 paths of volume vol-1 are up" },
      ]);
    });

    it("that lead elsewhere are told at once, with what was expected and found", async () => {
      await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [refused] }, 0);
      expect(events).toMatchObject([
        {
          reason: "VolumePathRefused",
          note: "nothing is sent to volume vol-1 over p9 (expected naa.1, found naa.2)",
        },
      ]);
      await clock.advance(1_800_000);
      expect(told()).toHaveLength(2);
      await show({ pathsUp: 2, pathsTotal: 2 }, 0);
      expect(events[2]).toMatchObject({ reason: "VolumePathsRestored" });
    });

    it("that are looked at again and refused again are told once", async () => {
      for (let turn = 0; turn < 20; turn += 1) {
        await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [refused] }, 1_000);
        await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [down("p9")] }, 20_000);
      }
      expect(events.map(({ reason }) => reason)).toEqual(["VolumePathRefused"]);
      await show({ pathsUp: 2, pathsTotal: 2 }, 0);
      await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [down("p9")] }, 16_000);
      expect(events.slice(1).map(({ reason }) => reason)).toEqual(["VolumePathsRestored", "VolumePathLost"]);
    });

    it("are not restored while one of them is refused, nor when the volume has one session again", async () => {
      await show({ pathsUp: 0, pathsTotal: 2, pathsMissing: [down("p1"), refused] }, 16_000);
      await show({ pathsUp: 1, pathsTotal: 2, pathsMissing: [refused] }, 16_000);
      await show({}, 0);
      expect(events.map(({ reason }) => reason)).toEqual(["VolumePathRefused", "VolumePathLost"]);
      expect(events[1]?.note).toContain("its I/O waits");
    });

    it("are named up to four, however many they are", async () => {
      const pathsMissing = Array.from({ length: 32 }, (_, index) => down(`p${index}`));
      await show({ pathsUp: 0, pathsTotal: 32, pathsMissing }, 16_000);
      expect(events[0]?.note).toMatch(/p3 \(no route\), and 28 more$/);
    });
  });

  it("tell of sizes: a smaller LUN at once, a larger one when it stays so, growth when it happens", async () => {
    await show({ lunBytes: 512 }, 0);
    await show({}, 0);
    await show({ lunBytes: 2048 }, 30_000);
    await show({ lunBytes: 2048, deviceBytes: 2048 }, 60_000);
    await show({ lunBytes: 4096, deviceBytes: 2048 }, 61_000);
    expect(events.map(({ reason }) => reason)).toEqual(["VolumeShrunk", "VolumeGrown", "VolumeCapacityChanged"]);
  });

  it("of the dataplane are told when it stays away, and when it is back", async () => {
    isAway = true;
    end.abort();
    await clock.advance(29_000);
    expect(told()).toEqual([]);
    await clock.advance(3_000);
    isAway = false;
    await clock.advance(20_000);
    expect(told()).toEqual(["DataplaneUnreachable Node", "DataplaneRestored Node"]);
  });

  it.each([
    ["protection-missing", "ProtectionMissing"],
    ["record-damaged", "VolumeRecordDamaged"],
    ["orphan-in-use", "OrphanDeviceInUse"],
  ] as const)("of the node are told once: %s", async (kind, reason) => {
    board.putNode(kind, "x", "as it is");
    await settled();
    await show({}, 0);
    expect(events).toMatchObject([{ regarding: node, type: "Warning", reason, subject: "x", note: "as it is" }]);
  });
});
