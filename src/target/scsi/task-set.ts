import { TaskAttribute } from "../../wire/constants.js";

/** A task's place in the set; `leave` it once, when the task has ended in whatever way. */
export interface TaskPlace {
  readonly attribute: TaskAttribute;
  isEnabled: boolean;
  readonly enable: () => void;
}

/**
 * The task set of one logical unit (SAM-5 §8): SIMPLE tasks run side by side, an ORDERED one waits for all older
 * ones and holds off all younger ones, HEAD OF QUEUE runs at once and holds off those that are not yet enabled.
 */
export class TaskSet {
  readonly #places = new Set<TaskPlace>();
  #orderingCount = 0;

  get size(): number {
    return this.#places.size;
  }

  /** Enters a task; `enable` is called once, at once or later, when it may run. */
  enter(attribute: TaskAttribute, enable: () => void): TaskPlace {
    const isOrdering = attribute === TaskAttribute.ordered || attribute === TaskAttribute.headOfQueue;
    const place: TaskPlace = { attribute, isEnabled: false, enable };
    const mayRun =
      attribute === TaskAttribute.headOfQueue || (isOrdering ? this.#places.size === 0 : this.#orderingCount === 0);
    this.#places.add(place);
    if (isOrdering) this.#orderingCount += 1;
    if (mayRun) {
      place.isEnabled = true;
      enable();
    }
    return place;
  }

  leave(place: TaskPlace): void {
    if (!this.#places.delete(place)) return;
    const isOrdering = place.attribute === TaskAttribute.ordered || place.attribute === TaskAttribute.headOfQueue;
    if (isOrdering) this.#orderingCount -= 1;
    if (isOrdering || this.#orderingCount > 0) this.#enableReady();
  }

  /** Enables from the oldest on: SIMPLE until an ordering task stands in front, ORDERED only when it is first. */
  #enableReady(): void {
    const ready: TaskPlace[] = [];
    let isFirst = true;
    for (const place of this.#places) {
      const isOrdered = place.attribute === TaskAttribute.ordered;
      if (!place.isEnabled && (!isOrdered || isFirst)) {
        place.isEnabled = true;
        ready.push(place);
      }
      if (isOrdered || place.attribute === TaskAttribute.headOfQueue) break;
      isFirst = false;
    }
    for (const place of ready) place.enable();
  }
}
