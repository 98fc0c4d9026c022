import { FlapDamper } from "../../../src/multipath/flap-damper.js";

/** Falls at these times, and is up again a second later each time; the pauses after each. */
function pauses(damper: FlapDamper, ...fallsMs: number[]): number[] {
  return fallsMs.map((fallMs) => {
    damper.fell(fallMs);
    return damper.cameUp(fallMs + 1_000);
  });
}

describe("FlapDamper", () => {
  it("leaves a path alone after the third fall within a minute", () => {
    expect(pauses(new FlapDamper(), 0, 30_000, 60_000)).toEqual([0, 0, 10_000]);
  });

  it("does not mind falls that are further apart", () => {
    expect(pauses(new FlapDamper(), 0, 30_000, 60_001, 120_000)).toEqual([0, 0, 0, 0]);
  });

  it("doubles the time with each further fall, up to five minutes", () => {
    const damper = new FlapDamper();
    pauses(damper, 0, 1_000);
    expect(pauses(damper, 2_000, 15_000, 40_000, 85_000, 170_000, 335_000, 640_000)).toEqual([
      10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000,
    ]);
  });

  it("starts anew when the path was quiet after it was left alone", () => {
    const damper = new FlapDamper();
    expect(pauses(damper, 0, 1_000, 2_000, 73_001)).toEqual([0, 0, 10_000, 0]);
    expect(pauses(damper, 74_000, 75_000)).toEqual([0, 10_000]);
  });
});
