import { NodeFixture, volumeId } from "./node-fixture.js";

describe("Node service", () => {
  let fixture: NodeFixture;
  beforeEach(async () => {
    fixture = await NodeFixture.open();
  });
  afterEach(() => fixture.close());

  describe.each([
    ["before", false],
    ["after", true],
  ])("killed %s any step", (_when, isAfter) => {
    /** Runs `work` once per step with a kill at that step, then again to the end in a new process. */
    async function sweep(prepare: () => Promise<unknown>, work: () => Promise<unknown>, check: () => Promise<void>) {
      let at = 0;
      for (;;) {
        at += 1;
        await fixture.startOver();
        await prepare();
        fixture.world.trap.arm(at, isAfter);
        await work().catch(() => undefined);
        const hasFired = fixture.world.trap.hasFired;
        fixture.world.trap.disarm();
        fixture.world.restart();
        await work();
        await check();
        if (!hasFired) return at;
      }
    }

    it("staging is finished by the next call, formatted but once mounted", async () => {
      const steps = await sweep(
        () => Promise.resolve(),
        () => fixture.stage(),
        async () => {
          expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath]);
          expect(fixture.world.filesystems.isWhole).toBe(true);
          const steps = fixture.world.trap.steps;
          expect(steps.lastIndexOf("mkfs")).toBeLessThan(steps.indexOf("mount"));
          expect((await fixture.world.records.get(volumeId))?.isFormatting).toBe(false);
        },
      );
      expect(steps).toBeGreaterThan(6);
    });

    it("publishing is finished by the next call", async () => {
      const check = async (): Promise<void> => {
        expect(fixture.mountPoints()).toEqual([fixture.world.stagingPath, fixture.world.targetPath()]);
        await fixture.unpublish();
        await fixture.unstage();
      };
      expect(
        await sweep(
          () => fixture.stage(),
          () => fixture.publish(),
          check,
        ),
      ).toBeGreaterThan(1);
    });

    it("unstaging is finished by the next call", async () => {
      const check = async (): Promise<void> => {
        expect(fixture.mountPoints()).toEqual([]);
        expect(await fixture.world.dataplane.get(volumeId)).toBeUndefined();
        expect(await fixture.world.records.list()).toEqual([]);
        await fixture.stage();
      };
      expect(
        await sweep(
          () => fixture.stage(),
          () => fixture.unstage(),
          check,
        ),
      ).toBeGreaterThan(3);
    });
  });
});
