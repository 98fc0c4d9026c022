import { silentLogger } from "../../../src/base/logger.js";
import { LUN_ZERO } from "../../../src/base/lun.js";
import { clusterPart, reservationKey } from "../../../src/base/reservation-key.js";
import { SeededRandom } from "../../../src/base/seeded-random.js";
import { BlockError } from "../../../src/block/errors.js";
import { type LunCommand, LunCommander } from "../../../src/block/lun-commands.js";
import { LunReservation, type UnitReservations } from "../../../src/block/lun-reservation.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import { type ReservationOptions, VolumeReservation } from "../../../src/initiator/volume-reservation.js";
import { writeCdb } from "../../../src/scsi/cdb.js";
import { Session } from "../../../src/session/session.js";
import { createTargetServer } from "../../../src/target/target-server.js";
import type { ReservationState, ReservationStore } from "../../../src/target/scsi/persistent-reservations.js";
import { MemoryNetwork } from "../../../src/transport/memory.js";
import { settle } from "../../support/session-fixture.js";
import { VirtualTime } from "../../support/virtual-time.js";

const TARGET_NAME = "iqn.2026-11.test:reserved";
const PORTAL = { host: "192.0.2.1", port: 3260 };
const BLOCK = 512;

const CLUSTER = clusterPart("a cluster");
export const KEY_A = reservationKey({ cluster: CLUSTER, node: 0x0a });
export const KEY_B = reservationKey({ cluster: CLUSTER, node: 0x0b });
export const KEY_STRANGE = reservationKey({ cluster: clusterPart("another cluster"), node: 0x0a });

/** Service actions, as `Action` names them: `in:0` is READ KEYS, `out:5` PREEMPT AND ABORT. */
export type Action = `in:${number}` | `out:${number}`;

/** Sees every reservation command of a path before it is sent; what it throws is the answer instead. */
export type Intercept = (action: Action, command: LunCommand) => Promise<void> | void;

/** A session of its own, and so a nexus, to the embedded target. */
export interface NodePath {
  readonly session: Session;
  readonly unit: LunReservation;
  readonly actions: Action[];
  intercept: Intercept;
  write(fill: string): Promise<number>;
}

export interface ChangeOptions extends Partial<ReservationOptions> {
  readonly node: string;
}

/** What a unit answers that does not know the command, or cannot do it. */
export function answer(verdict: string, code: BlockError["code"] = "BLOCK_NOT_SUPPORTED"): BlockError {
  return new BlockError(code, `refused with ${verdict}`, { details: { verdict } });
}

export function lostConnection(): BlockError {
  return new BlockError("BLOCK_UNAVAILABLE", "the connection was lost", { retry: "same-path" });
}

/** The embedded target over a memory network, whose power can be cut, and initiators with names of their own. */
export class ReservationWorld {
  readonly clock = new VirtualTime();
  readonly device = new MemoryDevice({ sizeBytes: 1 << 20, id: "naa.3111222233334444" });
  readonly #random = new SeededRandom(11);
  readonly #network: MemoryNetwork;
  readonly #store: ReservationStore | undefined;
  #server: ReturnType<typeof createTargetServer> | undefined;
  #nextIsid = 1;

  /** `persists`: the target keeps reservations over a loss of power. */
  private constructor(persists: boolean) {
    this.#network = new MemoryNetwork({}, { clock: this.clock, random: this.#random });
    const saved = new Map<string, ReservationState>();
    this.#store = !persists
      ? undefined
      : {
          load: (unitId) => saved.get(unitId),
          save: (unitId, state) => {
            if (state === undefined) saved.delete(unitId);
            else saved.set(unitId, state);
            return Promise.resolve();
          },
        };
  }

  static async start(options: { readonly persists?: boolean } = {}): Promise<ReservationWorld> {
    const world = new ReservationWorld(options.persists === true);
    await world.restart();
    return world;
  }

  /** Cuts the power of the target and gives it back. */
  async restart(): Promise<void> {
    if (this.#server !== undefined) await this.run(this.#server.stop());
    this.#server = createTargetServer(
      { portals: [PORTAL] },
      {
        ...{ listener: this.#network, clock: this.clock, random: this.#random, logger: silentLogger },
        ...(this.#store === undefined ? {} : { reservationStore: this.#store }),
      },
    );
    this.#server.addTarget({ name: TARGET_NAME, luns: new Map([[0, this.device]]), access: { kind: "any" } });
    await this.run(this.#server.start());
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return settle(this.clock, promise);
  }

  initiatorOf(node: string): string {
    return `iqn.2026-11.test:node-${node}`;
  }

  /** Logs in as another initiator port of `node`, or as the one with `isid` again. */
  async path(node: string, isid = this.#nextIsid++): Promise<NodePath> {
    const dependencies = { clock: this.clock, random: this.#random, dialer: this.#network, logger: silentLogger };
    const session = await this.run(
      Session.open(
        {
          ...{ portal: PORTAL, targetName: TARGET_NAME, initiatorName: this.initiatorOf(node) },
          ...{
            isid: Buffer.from(isid.toString(16).padStart(12, "8"), "hex"),
            headerDigest: "none",
            dataDigest: "none",
          },
        },
        dependencies,
      ),
    );
    const commander = new LunCommander(
      { session, lun: LUN_ZERO, isOneOfSeveralPaths: true, onUnitAttention: () => Promise.resolve() },
      dependencies,
    );
    const actions: Action[] = [];
    const path: NodePath = {
      session,
      actions,
      intercept: () => undefined,
      unit: new LunReservation({
        run: async (command) => {
          const action: Action = `${command.cdb[0] === 0x5e ? "in" : "out"}:${(command.cdb[1] ?? 0) & 0x1f}`;
          actions.push(action);
          await path.intercept(action, command);
          return commander.run(command);
        },
        resetUnit: async () => {
          actions.push("out:31");
          await session.taskManagement({ function: "lun-reset", lun: LUN_ZERO });
        },
      }),
      write: (fill) => commander.run({ cdb: writeCdb(0, 1), dataOut: Buffer.alloc(BLOCK, fill) }),
    };
    return path;
  }

  reservation({ node, ...change }: ChangeOptions): VolumeReservation {
    return new VolumeReservation(
      {
        mode: "auto",
        key: reservationKey({ cluster: CLUSTER, node: Number.parseInt(node, 16) }),
        initiatorName: this.initiatorOf(node),
        isShared: false,
        isTakeOver: false,
        ...change,
      },
      { clock: this.clock, logger: silentLogger },
    );
  }

  admit(reservation: VolumeReservation, path: NodePath): Promise<void> {
    return this.run(reservation.admit(path.unit, "path"));
  }

  /** What the unit shows over `path`: `a b | holder type`, keys by their nodes. */
  async shown(path: NodePath): Promise<string> {
    const state = await this.run(path.unit.readState());
    return state === undefined ? "unknown" : describeState(state);
  }

  /** The byte at the beginning of the medium. */
  async stored(): Promise<string> {
    const target = Buffer.alloc(BLOCK);
    await this.device.read(0, target);
    return target.toString("latin1", 0, 1);
  }
}

function describeState({ keys, holder }: UnitReservations): string {
  const nodes = keys.map(nodeOf).join(" ");
  return holder === undefined ? nodes : `${nodes} | ${nodeOf(holder.key)} ${holder.type}`;
}

function nodeOf(key: string): string {
  if (key === "0".repeat(16)) return "all";
  return `${key.startsWith(CLUSTER) ? "" : "strange "}${Number.parseInt(key.slice(12), 16).toString(16)}`;
}
