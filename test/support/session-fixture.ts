import { silentLogger } from "../../src/base/logger.js";
import { SeededRandom } from "../../src/base/seeded-random.js";
import { lunFromNumber } from "../../src/base/lun.js";
import type { SessionEvent } from "../../src/session/session-events.js";
import type { SessionDependencies, SessionOptions } from "../../src/session/session-options.js";
import { Session } from "../../src/session/session.js";
import type { ScsiResult, ScsiTask } from "../../src/session/task.js";
import { type LinkBehaviour, MemoryNetwork } from "../../src/transport/memory.js";
import type { Pdu, ScsiCommandPdu } from "../../src/wire/pdu.js";
import { ScriptedTarget, type ScriptedTargetOptions } from "./scripted-target.js";
import { VirtualTime } from "./virtual-time.js";

export const TARGET_NAME = "iqn.2026-11.test:disk";
export const INITIATOR_NAME = "iqn.2026-11.test:host";
export const LUN_ONE = lunFromNumber(1);

/** The cause of flakiness in timers is real time: here everything moves only when `clock` is told to. */
export interface Fixture {
  readonly clock: VirtualTime;
  readonly network: MemoryNetwork;
  readonly dependencies: SessionDependencies;
  readonly target: ScriptedTarget;
  readonly options: SessionOptions;
}

export async function createFixture(options: {
  readonly target?: Partial<ScriptedTargetOptions>;
  readonly session?: Partial<SessionOptions>;
  /** How links behave; default: at once and whole. */
  readonly behaviour?: (random: SeededRandom) => LinkBehaviour;
  readonly seed?: number;
}): Promise<Fixture> {
  const clock = new VirtualTime();
  const random = new SeededRandom(options.seed ?? 7);
  const { behaviour } = options;
  const network = new MemoryNetwork(behaviour === undefined ? {} : { behaviour: () => behaviour(random) }, {
    clock,
    random,
  });
  const target = await ScriptedTarget.listen(network, {
    endpoint: { kind: "tcp", host: "target", port: 3260 },
    ...options.target,
  });
  return {
    clock,
    network,
    target,
    dependencies: { clock, random, dialer: network, logger: silentLogger },
    options: {
      portal: { host: "target", port: 3260 },
      targetName: TARGET_NAME,
      initiatorName: INITIATOR_NAME,
      isid: Buffer.from("800102030405", "hex"),
      headerDigest: "none",
      dataDigest: "none",
      ...options.session,
    },
  };
}

/** Runs `promise` to its end while virtual time passes, `limitMs` of it at most. */
export async function settle<T>(clock: VirtualTime, promise: Promise<T>, limitMs = 60_000): Promise<T> {
  const progress = { isDone: false };
  const watched = promise.finally(() => (progress.isDone = true));
  watched.catch(() => undefined);
  for (let passedMs = 0; !progress.isDone && passedMs <= limitMs; passedMs += 10) await clock.advance(10);
  if (!progress.isDone) throw new Error(`not settled within ${limitMs} ms of virtual time`);
  return watched;
}

export interface OpenedSession extends Fixture {
  readonly session: Session;
  readonly events: SessionEvent[];
}

/** A session that has logged in to a scripted target. */
export async function openSession(options: Parameters<typeof createFixture>[0] = {}): Promise<OpenedSession> {
  const fixture = await createFixture(options);
  const session = await settle(fixture.clock, Session.open(fixture.options, fixture.dependencies));
  const events: SessionEvent[] = [];
  session.events.on((event) => events.push(event));
  return { ...fixture, session, events };
}

export interface Execution {
  readonly results: ScsiResult[];
  readonly done: Promise<ScsiResult>;
}

/** Gives a task to the session and remembers its end. */
export function execute(session: Session, task: Partial<ScsiTask>): Execution {
  const results: ScsiResult[] = [];
  const done = new Promise<ScsiResult>((resolve) => {
    session.execute({
      lun: LUN_ONE,
      cdb: Buffer.alloc(6),
      ...task,
      onDone: (result) => {
        results.push(result);
        resolve(result);
      },
    });
  });
  return { results, done };
}

export function isCommand(pdu: Pdu): pdu is ScsiCommandPdu {
  return pdu.type === "scsi-command";
}

/** READ(10) and WRITE(10) of 512-byte blocks. */
export function read(lba: number, blocks: number): Buffer {
  return Buffer.from([0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0]);
}

export function write(lba: number, blocks: number): Buffer {
  return Buffer.from([0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0]);
}

/** Fixed format sense. */
export function sense(key: number, asc: number, ascq: number): Buffer {
  const bytes = Buffer.alloc(18);
  bytes[0] = 0x70;
  bytes[2] = key;
  bytes[7] = 10;
  bytes[12] = asc;
  bytes[13] = ascq;
  return bytes;
}
