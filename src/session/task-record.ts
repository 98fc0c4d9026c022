import type { ScsiTask } from "./task.js";

/** What the session knows of one task while it has it. Mutable and private to the session. */
export class TaskRecord {
  readonly task: ScsiTask;
  /** Order in which tasks were given to the session: the order in which they are sent again. */
  readonly sequence: number;
  readonly expectedBytes: number;
  /** Valid while the task is in the table. */
  initiatorTaskTag = 0;
  cmdSn = 0;
  /** Data-In bytes received, all of them from offset 0 without a gap. */
  receivedBytes = 0;
  nextDataSn = 0;
  /** Data-Out bytes handed to the connection, immediate ones included. */
  sentBytes = 0;
  nextR2tSn = 0;
  /** On the coarse clock of the sweep. */
  deadlineMs = 0;
  /** Times it was put on a connection. */
  attempts = 0;
  /** A task management function that shall end it is under way. */
  isAborting = false;

  constructor(task: ScsiTask, sequence: number) {
    this.task = task;
    this.sequence = sequence;
    this.expectedBytes = task.dataIn?.length ?? task.dataOut?.length ?? 0;
  }

  /** Forgets the progress made on a connection that is gone. */
  reset(): void {
    this.receivedBytes = 0;
    this.nextDataSn = 0;
    this.sentBytes = 0;
    this.nextR2tSn = 0;
    this.isAborting = false;
  }
}
