import { Secret } from "../../src/base/secret.js";
import type { Initiator, StorageBackend, VolumeSpec } from "../../src/storage/backend.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** A backend under test. */
export interface BackendUnderTest {
  readonly backend: StorageBackend;
  /** Closes the backend and opens another over the same storage, as a restart would. */
  reopen(): Promise<StorageBackend>;
  cleanup(): Promise<void>;
}

export function volumeSpec(name: string, changes: Partial<VolumeSpec> = {}): VolumeSpec {
  return { name, requiredBytes: 8 * MIB, limitBytes: 0, parameters: {}, context: {}, ...changes };
}

export function initiator(name: string, changes: Partial<Initiator> = {}): Initiator {
  const iqn = `iqn.2026-11.test:${name}`;
  return { iqn, holder: `${iqn};key`, isReadOnly: false, isExclusive: true, ...changes };
}

function chapPair(text: string): NonNullable<Initiator["chap"]> {
  return { user: `user-${text}`, secret: Secret.from(`secret-of-${text}-long`) };
}

/** What every StorageBackend that creates volumes and keeps state must do. */
export function describeStorageBackend(title: string, open: () => Promise<BackendUnderTest>): void {
  describe(`${title} as a StorageBackend`, () => {
    let underTest: BackendUnderTest;
    let backend: StorageBackend;

    beforeEach(async () => {
      underTest = await open();
      backend = underTest.backend;
    });
    afterEach(() => underTest.cleanup());

    describe("create", () => {
      it("gives exactly the size asked for", async () => {
        const volume = await backend.create(volumeSpec("exact", { requiredBytes: GIB, limitBytes: GIB }));
        expect(volume.sizeBytes).toBe(GIB);
        expect(await backend.get(volume.id)).toEqual(volume);
      });

      it("gives the same volume for the same name", async () => {
        const first = await backend.create(volumeSpec("twice"));
        const second = await backend.create(volumeSpec("twice"));
        expect(second).toEqual(first);
        expect((await backend.list(0, "")).volumes).toHaveLength(1);
      });

      it("refuses the same name with another size, context or parameters", async () => {
        await backend.create(volumeSpec("taken", { requiredBytes: 8 * MIB, limitBytes: 8 * MIB }));
        const larger = backend.create(volumeSpec("taken", { requiredBytes: 16 * MIB }));
        await expect(larger).rejects.toMatchObject({ code: "STORAGE_ALREADY_EXISTS" });
        const other = backend.create(volumeSpec("taken", { context: { headerDigest: "crc32c" } }));
        await expect(other).rejects.toMatchObject({ code: "STORAGE_ALREADY_EXISTS" });
      });

      it("makes one volume of two calls at once", async () => {
        const [first, second] = await Promise.all([
          backend.create(volumeSpec("race")),
          backend.create(volumeSpec("race")),
        ]);
        expect(second.id).toBe(first.id);
      });

      it("gives different volumes different ids", async () => {
        const first = await backend.create(volumeSpec("a"));
        const second = await backend.create(volumeSpec("b"));
        expect(second.id).not.toBe(first.id);
        expect(Buffer.byteLength(first.id)).toBeLessThanOrEqual(128);
      });

      it("refuses parameters it does not know", async () => {
        const created = backend.create(volumeSpec("odd", { parameters: { flavour: "vanilla" } }));
        await expect(created).rejects.toMatchObject({ code: "STORAGE_INVALID" });
        await expect(created).rejects.toThrow("flavour");
      });

      it("keeps the context", async () => {
        const volume = await backend.create(volumeSpec("ctx", { context: { dataDigest: "crc32c" } }));
        const reopened = await underTest.reopen();
        expect((await reopened.get(volume.id))?.context).toEqual({ dataDigest: "crc32c" });
      });

      it("refuses a volume larger than all there is", async () => {
        const freeBytes = await backend.capacityBytes({});
        const created = backend.create(volumeSpec("huge", { requiredBytes: freeBytes + GIB }));
        await expect(created).rejects.toMatchObject({ code: "STORAGE_NO_SPACE" });
      });
    });

    describe("delete", () => {
      it("can be repeated and forgets the name", async () => {
        const volume = await backend.create(volumeSpec("gone"));
        await backend.delete(volume.id);
        await backend.delete(volume.id);
        expect(await backend.get(volume.id)).toBeUndefined();
        expect((await backend.create(volumeSpec("gone"))).id).not.toBe(volume.id);
      });

      it("does not mind a volume that never was", async () => {
        await backend.delete("no-such-volume");
        await backend.delete("../../etc");
      });

      it("refuses a volume that is granted", async () => {
        const volume = await backend.create(volumeSpec("held"));
        await backend.grant(volume.id, initiator("a"), {});
        await expect(backend.delete(volume.id)).rejects.toMatchObject({ code: "STORAGE_BUSY" });
        await backend.revoke(volume.id, initiator("a").iqn);
        await backend.delete(volume.id);
      });
    });

    describe("list", () => {
      it("pages through every volume once", async () => {
        const ids = [];
        for (const name of ["a", "b", "c", "d", "e"]) ids.push((await backend.create(volumeSpec(name))).id);
        const seen: string[] = [];
        let token = "";
        do {
          const page = await backend.list(2, token);
          expect(page.volumes.length).toBeLessThanOrEqual(2);
          seen.push(...page.volumes.map((volume) => volume.id));
          token = page.nextToken;
        } while (token !== "");
        expect([...seen].sort()).toEqual(ids.sort());
      });

      it("goes on where it was though the last volume of a page is gone", async () => {
        for (const name of ["a", "b", "c"]) await backend.create(volumeSpec(name));
        const first = await backend.list(2, "");
        await backend.delete(first.volumes[1]!.id);
        const second = await backend.list(2, first.nextToken);
        expect(second.volumes).toHaveLength(1);
        expect(first.volumes.map((volume) => volume.id)).not.toContain(second.volumes[0]!.id);
      });

      it("has no token after a page that takes the last", async () => {
        for (const name of ["a", "b"]) await backend.create(volumeSpec(name));
        expect((await backend.list(2, "")).nextToken).toBe("");
      });

      it.each(["invalid-token", "after.", "after.!!", "after.YQ=="])("refuses the token %j", async (token) => {
        const listed = Promise.resolve().then(() => backend.list(0, token));
        await expect(listed).rejects.toMatchObject({ code: "STORAGE_TOKEN_INVALID" });
      });
    });

    describe("expand", () => {
      it("grows to exactly what is asked, again and again", async () => {
        const volume = await backend.create(volumeSpec("grow"));
        expect(await backend.expand(volume.id, 12 * MIB, 0)).toBe(12 * MIB);
        expect(await backend.expand(volume.id, 12 * MIB, 0)).toBe(12 * MIB);
        expect((await backend.get(volume.id))?.sizeBytes).toBe(12 * MIB);
      });

      it("never shrinks", async () => {
        const volume = await backend.create(volumeSpec("grow"));
        expect(await backend.expand(volume.id, 4 * MIB, 0)).toBe(8 * MIB);
        const limited = backend.expand(volume.id, 4 * MIB, 6 * MIB);
        await expect(limited).rejects.toMatchObject({ code: "STORAGE_OUT_OF_RANGE" });
      });

      it("does not know a volume that never was", async () => {
        await expect(backend.expand("vol-none", GIB, 0)).rejects.toMatchObject({ code: "STORAGE_NOT_FOUND" });
      });

      it("keeps the size over a restart", async () => {
        const volume = await backend.create(volumeSpec("grow"));
        await backend.expand(volume.id, 12 * MIB, 0);
        const reopened = await underTest.reopen();
        expect((await reopened.get(volume.id))?.sizeBytes).toBe(12 * MIB);
      });
    });

    describe("grant and revoke", () => {
      it("says how to reach the volume, and keeps the first CHAP pair", async () => {
        const volume = await backend.create(volumeSpec("v"));
        const first = await backend.grant(volume.id, initiator("a", { chap: chapPair("one") }), {});
        const second = await backend.grant(volume.id, initiator("a", { chap: chapPair("two") }), {});
        expect(first.portals.length).toBeGreaterThan(0);
        expect(second.targetName).toBe(first.targetName);
        expect(second.chap?.user).toBe("user-one");
        expect(second.chap?.secret.reveal().toString()).toBe("secret-of-one-long");
        expect(first.deviceId).not.toBe("");
      });

      it("keeps grants and their secrets over a restart", async () => {
        const volume = await backend.create(volumeSpec("v"));
        await backend.grant(volume.id, initiator("a", { chap: chapPair("one") }), {});
        const reopened = await underTest.reopen();
        expect((await reopened.get(volume.id))?.grants).toEqual([initiator("a")]);
        const again = await reopened.grant(volume.id, initiator("a", { chap: chapPair("two") }), {});
        expect(again.chap?.secret.reveal().toString()).toBe("secret-of-one-long");
      });

      it("gives a new pair after a revoke", async () => {
        const volume = await backend.create(volumeSpec("v"));
        await backend.grant(volume.id, initiator("a", { chap: chapPair("one") }), {});
        await backend.revoke(volume.id, initiator("a").iqn);
        await backend.revoke(volume.id, initiator("a").iqn);
        const again = await backend.grant(volume.id, initiator("a", { chap: chapPair("two") }), {});
        expect(again.chap?.user).toBe("user-two");
      });

      it("refuses another kind of access for the same initiator", async () => {
        const volume = await backend.create(volumeSpec("v"));
        await backend.grant(volume.id, initiator("a"), {});
        const readOnly = backend.grant(volume.id, initiator("a", { isReadOnly: true }), {});
        await expect(readOnly).rejects.toMatchObject({ code: "STORAGE_ALREADY_EXISTS" });
      });

      it("gives an exclusive volume to one initiator only", async () => {
        const volume = await backend.create(volumeSpec("v"));
        await backend.grant(volume.id, initiator("a"), {});
        const other = backend.grant(volume.id, initiator("b", { isExclusive: false }), {});
        await expect(other).rejects.toMatchObject({ code: "STORAGE_BUSY" });
        await backend.revoke(volume.id, initiator("a").iqn);
        await backend.grant(volume.id, initiator("b"), {});
      });

      it("gives a shared volume to several", async () => {
        const volume = await backend.create(volumeSpec("v"));
        await backend.grant(volume.id, initiator("a", { isExclusive: false }), {});
        await backend.grant(volume.id, initiator("b", { isExclusive: false }), {});
        const alone = backend.grant(volume.id, initiator("c"), {});
        await expect(alone).rejects.toMatchObject({ code: "STORAGE_BUSY" });
        expect((await backend.get(volume.id))?.grants).toHaveLength(2);
      });

      it("follows an initiator that has a new key", async () => {
        const volume = await backend.create(volumeSpec("v"));
        await backend.grant(volume.id, initiator("a"), {});
        await backend.grant(volume.id, initiator("a", { holder: "another" }), {});
        expect((await backend.get(volume.id))?.grants).toEqual([initiator("a", { holder: "another" })]);
      });

      it("grants nothing of a volume that never was, and has nothing to revoke", async () => {
        const granted = backend.grant("vol-none", initiator("a"), {});
        await expect(granted).rejects.toMatchObject({ code: "STORAGE_NOT_FOUND" });
        await backend.revoke("vol-none", initiator("a").iqn);
      });
    });

    it("is ready", async () => {
      await backend.probe();
    });
  });
}
