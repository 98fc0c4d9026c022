import { setMaxListeners } from "node:events";
import { sealChap } from "../../../src/base/sealed-chap.js";
import { generateSealingKeyPair } from "../../../src/base/sealing.js";
import { Secret } from "../../../src/base/secret.js";
import { SystemRandom } from "../../../src/base/system-random.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import type { DeviceEvent } from "../../../src/block/device.js";
import { formatBackendId, parseBackendId } from "../../../src/dataplane/backend-id.js";
import { ChapVault } from "../../../src/dataplane/chap-vault.js";
import { EventLog } from "../../../src/dataplane/event-log.js";
import { Gate } from "../../../src/dataplane/gate.js";
import { ReadOnlyDevice } from "../../../src/dataplane/read-only-device.js";
import { nextVolumeState } from "../../../src/dataplane/volume-state.js";
import { codeOf } from "../../support/dataplane-world.js";
import { VirtualTime } from "../../support/virtual-time.js";

describe("backend id", () => {
  it("reads well and comes back, whatever the handle holds", () => {
    const id = { clusterId: "prod", volumeHandle: "a/b %ü", deviceId: "t10.ACME disk 1" };
    expect(formatBackendId({ ...id, volumeHandle: "pvc-1", deviceId: "naa.6001" })).toBe("prod/pvc-1/naa.6001");
    expect(formatBackendId(id)).toBe("prod/a%2Fb%20%25%C3%BC/t10.ACME%20disk%201");
    expect(parseBackendId(formatBackendId(id))).toEqual(id);
    expect(parseBackendId(formatBackendId({ ...id, deviceId: "" }))).toEqual({ ...id, deviceId: "" });
  });

  it.each(["", "cookie", "a/b", "a/b/c/d", "//x", "%/b/c", "a//c"])("is not found in %s", (text) => {
    expect(parseBackendId(text)).toBeUndefined();
  });
});

describe("event log", () => {
  it("keeps the last 1024 and lets a slow watcher lose its oldest", async () => {
    const log = new EventLog({ clock: new VirtualTime() });
    const controller = new AbortController();
    const watching = log.watch(controller.signal);
    for (let index = 0; index < 1_500; index += 1) log.add("v", `event-${index}`, "");
    expect(log.recent()).toHaveLength(1_024);
    expect(log.recent()[0]?.kind).toBe("event-476");
    controller.abort();
    const seen: string[] = [];
    for await (const event of watching) seen.push(event.kind);
    expect(seen).toHaveLength(1_024);
    expect(seen[0]).toBe("event-476");
  });

  it("gives an aborted watcher nothing, and refuses too many", () => {
    const log = new EventLog({ clock: new VirtualTime() });
    const controller = new AbortController();
    setMaxListeners(0, controller.signal);
    for (let index = 0; index < 64; index += 1) log.watch(controller.signal);
    expect(() => log.watch(controller.signal)).toThrow(/64 watchers/);
    controller.abort();
    expect(() => log.watch(new AbortController().signal)).not.toThrow();
  });

  it("forgets a watcher that leaves in the middle", async () => {
    const log = new EventLog({ clock: new VirtualTime() });
    for (let index = 0; index < 100; index += 1) {
      const watching = log.watch(new AbortController().signal);
      log.add("v", "x", "");
      for await (const event of watching) {
        expect(event.kind).toBe("x");
        break;
      }
    }
  });
});

describe("read-only device", () => {
  it("reads, refuses every change, and says so in its info and events", async () => {
    const inner = new MemoryDevice({ sizeBytes: 8192 });
    await inner.write(0, Buffer.alloc(512, 1));
    const device = new ReadOnlyDevice(inner);
    const target = Buffer.alloc(512);
    await device.read(0, target);
    expect(target).toEqual(Buffer.alloc(512, 1));
    expect(await codeOf(device.write())).toBe("BLOCK_READ_ONLY");
    expect(await codeOf(device.unmap())).toBe("BLOCK_READ_ONLY");
    expect(await codeOf(device.writeZeroes())).toBe("BLOCK_READ_ONLY");
    await device.flush();
    expect(device.info).toMatchObject({ isReadOnly: true, canUnmap: false, canWriteZeroes: false, sizeBytes: 8192 });
    expect(device.info).toBe(device.info);
    const events: DeviceEvent[] = [];
    device.onEvent((event) => events.push(event));
    inner.resize(16_384);
    expect(events).toEqual([{ kind: "info-changed", info: expect.objectContaining({ isReadOnly: true }) }]);
    expect(device.info.sizeBytes).toBe(16_384);
  });
});

describe("volume states", () => {
  it("go the way of a volume's life", () => {
    expect(nextVolumeState("detached", "attach-started")).toBe("attaching");
    expect(nextVolumeState("attaching", "attach-succeeded")).toBe("attached");
    expect(nextVolumeState("attached", "connection-lost")).toBe("reconnecting");
    expect(nextVolumeState("reconnecting", "connection-restored")).toBe("attached");
    expect(nextVolumeState("attached", "detach-started")).toBe("detaching");
    expect(nextVolumeState("detaching", "detach-refused")).toBe("attached");
    expect(nextVolumeState("detaching", "detach-succeeded")).toBe("detached");
  });

  it("refuse what cannot happen", () => {
    expect(() => nextVolumeState("detached", "detach-succeeded")).toThrow(/cannot take/);
    expect(() => nextVolumeState("attached", "attach-started")).toThrow(/cannot take/);
  });
});

describe("gate", () => {
  it("lets so many in and no more, also after failures", async () => {
    const gate = new Gate(2);
    let inside = 0;
    let most = 0;
    const visit = (fails: boolean): Promise<void> =>
      gate.run(async () => {
        inside += 1;
        most = Math.max(most, inside);
        await Promise.resolve();
        inside -= 1;
        if (fails) throw new Error("x");
      });
    const results = await Promise.allSettled([true, false, true, false, false, true].map(visit));
    expect(results.filter(({ status }) => status === "rejected")).toHaveLength(3);
    expect(most).toBe(2);
  });
});

describe("CHAP vault", () => {
  const random = new SystemRandom();
  const chap = { user: "u", secret: Secret.from("s3cret"), mutualUser: "m", mutualSecret: Secret.from("mutual") };

  it("knows the credentials it sealed from any others", () => {
    const vault = new ChapVault({ keyPair: generateSealingKeyPair(random) }, { random });
    const sealed = vault.seal("vol-1", chap);
    expect(vault.holds("vol-1", sealed, chap)).toBe(true);
    expect(vault.holds("vol-1", sealed, { ...chap, user: "other" })).toBe(false);
    expect(vault.holds("vol-1", sealed, { ...chap, secret: Secret.from("s3creT") })).toBe(false);
    expect(vault.holds("vol-1", sealed, { ...chap, mutualSecret: Secret.from("longer than before") })).toBe(false);
    expect(vault.holds("vol-1", sealed, { user: "u", secret: chap.secret })).toBe(false);
    expect(vault.holds("vol-2", sealed, chap)).toBe(false);
    expect(new ChapVault({ keyPair: generateSealingKeyPair(random) }, { random }).holds("vol-1", sealed, chap)).toBe(
      false,
    );
  });

  it("opens what it sealed, and nothing that was sealed for a publish context", () => {
    const keyPair = generateSealingKeyPair(random);
    const vault = new ChapVault({ keyPair }, { random });
    expect(vault.open("vol-1", vault.seal("vol-1", chap)).secret.reveal().toString()).toBe("s3cret");
    const published = sealChap(keyPair.publicKey, chap, { volumeHandle: "vol-1", nodeId: "iqn.x;key" }, { random });
    expect(() => vault.open("vol-1", published)).toThrow(/does not open/);
  });
});
