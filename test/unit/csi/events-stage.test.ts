import { join } from "node:path";
import { silentLogger } from "../../../src/base/logger.js";
import { withEvents } from "../../../src/csi/events-node.js";
import { EventReporter } from "../../../src/csi/events-reporter.js";
import { EventSubjects } from "../../../src/csi/events-subjects.js";
import type { KubernetesEvent } from "../../../src/csi/events.js";
import { NodeFixture, staticContext, volumeId } from "./node-fixture.js";

const volumeContext = {
  ...staticContext,
  "csi.storage.k8s.io/pvc/name": "data-web-0",
  "csi.storage.k8s.io/pvc/namespace": "apps",
};
const contextOf = (pod: string): object => ({
  ...volumeContext,
  "csi.storage.k8s.io/pod.name": pod,
  "csi.storage.k8s.io/pod.namespace": "apps",
  "csi.storage.k8s.io/pod.uid": `uid-of-${pod}`,
});

let fixture: NodeFixture;
let subjects: EventSubjects;
let events: KubernetesEvent[];

/** What was told since the last look: reason, and whom. */
async function told(): Promise<readonly string[]> {
  await new Promise((resolve) => setImmediate(resolve));
  return events.splice(0).map(({ reason, regarding }) => `${reason} ${regarding.kind} ${regarding.name}`);
}

beforeEach(async () => {
  fixture = await NodeFixture.open();
  events = [];
  const { world } = fixture;
  const logger = silentLogger;
  subjects = new EventSubjects({ stateDirectory: join(world.directory, "state") }, { logger });
  const sink = { report: (event: KubernetesEvent) => void events.push(event) };
  const reporter = new EventReporter({ nodeName: "worker-1" }, { sink, subjects });
  // As src/cli/node-events.ts puts them together.
  world.notice = (volumeHandle, finding) => reporter.tellVolume(volumeHandle, finding);
  world.wrap = (service) => withEvents(service, { reporter, subjects, dataplane: world.dataplane, logger });
  world.restart();
});
afterEach(async () => {
  await subjects.idle();
  await fixture.close();
});

describe("staging a volume", () => {
  it("tells that a file system was made, once", async () => {
    await fixture.stage({ volumeContext });
    expect(events).toMatchObject([
      { type: "Normal", action: "Format", note: "volume vol-1 was empty, and a new ext4 was made on it" },
    ]);
    expect(await told()).toEqual(["FileSystemCreated PersistentVolumeClaim data-web-0"]);
    await fixture.stage({ volumeContext });
    await fixture.unstage();
    await fixture.stage({ volumeContext });
    expect(await told()).toEqual([]);
  });

  it("tells that errors of a file system were repaired", async () => {
    Object.assign(fixture.world.filesystems, {
      ...{ signature: { kind: "filesystem", fsType: "ext4" }, isZero: false, isWhole: true, hasErrors: true },
      sizeBytes: fixture.world.dataplane.lunBytes,
    });
    await fixture.stage({ volumeContext });
    expect(events[0]?.note).toBe("the ext4 of volume vol-1 had errors, and the check before mounting repaired them");
    expect(await told()).toEqual(["FileSystemRepaired PersistentVolumeClaim data-web-0"]);
    await fixture.unstage();
    fixture.world.filesystems.hasErrors = false;
    await fixture.stage({ volumeContext });
    expect(await told()).toEqual([]);
  });

  it.each([
    ["another file system", { kind: "filesystem", fsType: "xfs" }, "the volume carries xfs, not ext4"],
    ["a partition table", { kind: "partition-table", tableType: "gpt" }, "the volume carries a gpt partition table"],
    ["contradictions", { kind: "ambivalent" }, "the volume carries several signatures"],
    ["data of nobody knows whom", { kind: "empty" }, "the volume has no known signature but is not empty"],
  ])("tells that a volume with %s is refused", async (_, signature, why) => {
    Object.assign(fixture.world.filesystems, { signature, isZero: false });
    await expect(fixture.stage({ volumeContext })).rejects.toThrow(why);
    expect(events[0]?.note).toContain(`volume vol-1 is not mounted: ${why}`);
    expect(await told()).toEqual(["FileSystemRefused PersistentVolumeClaim data-web-0"]);
  });

  it("tells that a volume does not survive a restart, once, also to the node, and to every pod that comes", async () => {
    fixture.world.dataplane.backend = "fuse";
    await fixture.stage({ volumeContext });
    const reason = "VolumeNotRestartSafe";
    const first = [`${reason} PersistentVolumeClaim data-web-0`, `${reason} Node worker-1`];
    // The node is one event for all its volumes; a claim or pod may have several volumes.
    expect(events.map(({ subject }) => subject)).toEqual([volumeId, volumeId, ""]);
    expect(await told()).toEqual(["FileSystemCreated PersistentVolumeClaim data-web-0", ...first]);
    // The kubelet repeats its calls, and a pod may run already when the node service starts anew.
    await fixture.stage({ volumeContext });
    await fixture.publish({ volumeContext: contextOf("web-0") });
    await fixture.publish({ volumeContext: contextOf("web-0") });
    const targetPath = fixture.world.targetPath("other");
    await fixture.publish({ volumeContext: contextOf("web-1"), targetPath });
    expect(await told()).toEqual([`${reason} Pod web-0`, `${reason} Pod web-1`]);
  });

  it("tells that the device has no identity", async () => {
    fixture.world.dataplane.deviceId = "";
    await fixture.stage({ volumeContext });
    await fixture.publish({ volumeContext: contextOf("web-0") });
    expect(events[1]).toMatchObject({ type: "Warning", action: "Verify" });
    const reason = "VolumeWithoutIdentity";
    const created = "FileSystemCreated PersistentVolumeClaim data-web-0";
    expect(await told()).toEqual([created, `${reason} PersistentVolumeClaim data-web-0`, `${reason} Pod web-0`]);
  });

  it("tells of a volume again when it comes back to this node", async () => {
    fixture.world.dataplane.backend = "fuse";
    await fixture.stage({ volumeContext });
    await fixture.unstage();
    await told();
    await fixture.stage({ volumeContext });
    expect(await told()).toHaveLength(2);
    expect(subjects.claim(volumeId)).toMatchObject({ name: "data-web-0" });
  });
});
