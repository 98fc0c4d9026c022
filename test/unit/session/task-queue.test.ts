import { TaskQueue } from "../../../src/session/task-queue.js";
import { TaskRecord } from "../../../src/session/task-record.js";
import { LUN_ONE } from "../../support/session-fixture.js";

function records(count: number): TaskRecord[] {
  return Array.from(
    { length: count },
    (_, sequence) => new TaskRecord({ lun: LUN_ONE, cdb: Buffer.alloc(6), onDone: () => undefined }, sequence),
  );
}

function drain(queue: TaskQueue): number[] {
  const order: number[] = [];
  for (let record = queue.peek(); record !== undefined; record = queue.peek()) {
    expect(queue.shift()).toBe(record);
    order.push(record.sequence);
  }
  return order;
}

describe("the queue of waiting tasks", () => {
  test("keeps the order over many, though it lets go of what has left it", () => {
    const queue = new TaskQueue();
    for (const record of records(300)) queue.push(record);
    for (let taken = 0; taken < 200; taken += 1) expect(queue.shift()?.sequence).toBe(taken);
    expect(queue.length).toBe(100);
    for (const record of records(5)) queue.push(record);
    expect(drain(queue)).toEqual([...Array.from({ length: 100 }, (_, index) => 200 + index), 0, 1, 2, 3, 4]);
    expect(queue.length).toBe(0);
    expect(queue.shift()).toBeUndefined();
  });

  test("gives up what is picked after some have left, and keeps the rest in order", () => {
    const queue = new TaskQueue();
    for (const record of records(10)) queue.push(record);
    queue.shift();
    queue.shift();
    const picked = queue.takeWhere(({ sequence }) => sequence % 3 === 0);
    expect(picked.map(({ sequence }) => sequence)).toEqual([3, 6, 9]);
    expect(drain(queue)).toEqual([2, 4, 5, 7, 8]);
  });

  test("puts back before all others", () => {
    const queue = new TaskQueue();
    const [first, second, third] = records(3);
    queue.push(first!);
    queue.push(third!);
    queue.shift();
    queue.unshift([first!, second!]);
    expect(drain(queue)).toEqual([0, 1, 2]);
  });
});
