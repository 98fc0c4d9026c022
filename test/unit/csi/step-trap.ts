export class Crash extends Error {}

/**
 * Kills the process at the Nth step that changes something: before the step, or after it took effect. Counting starts
 * over with `arm`.
 */
export class StepTrap {
  #at = 0;
  #isAfter = false;
  #count = 0;
  readonly steps: string[] = [];

  arm(at: number, isAfter: boolean): void {
    this.#at = at;
    this.#isAfter = isAfter;
    this.#count = 0;
  }

  disarm(): void {
    this.#at = 0;
  }

  get hasFired(): boolean {
    return this.#at !== 0 && this.#count >= this.#at;
  }

  async step<T>(name: string, effect: () => T): Promise<T> {
    await Promise.resolve();
    this.#count += 1;
    const isHere = this.#at !== 0 && this.#count === this.#at;
    if (isHere && !this.#isAfter) throw new Crash(`killed before ${name}`);
    this.steps.push(name);
    const result = effect();
    if (isHere) throw new Crash(`killed after ${name}`);
    return result;
  }
}
