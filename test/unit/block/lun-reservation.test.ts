import type { LunCommand } from "../../../src/block/lun-commands.js";
import { LunCommander } from "../../../src/block/lun-commands.js";
import { isReservationCommandUnknown, LunReservation } from "../../../src/block/lun-reservation.js";
import {
  encodeReservation,
  encodeReservationCapabilities,
  encodeReservationFullStatus,
  encodeReservationKeys,
} from "../../../src/scsi/persistent-reserve.js";
import { ScriptedDisk } from "../../support/scripted-disk.js";
import { LUN_ONE, openSession, sense, settle } from "../../support/session-fixture.js";

const KEY = "0123456789ab0001";
const OTHER = "0123456789ab0002";
const UNKNOWN_COMMAND = sense(5, 0x20, 0);

/** Over a session to a scripted target, which knows no reservation command but where a test gives it an answer. */
async function openUnit(): Promise<{
  disk: ScriptedDisk;
  unit: LunReservation;
  run: <T>(promise: Promise<T>) => Promise<T>;
}> {
  const disk = new ScriptedDisk();
  const { session, dependencies, clock } = await openSession({ target: { onPdu: disk.onPdu } });
  const target = { session, lun: LUN_ONE, onUnitAttention: () => Promise.reject(new Error("not for probes")) };
  return { disk, unit: new LunReservation(new LunCommander(target, dependencies)), run: (it) => settle(clock, it) };
}

/** Answers PERSISTENT RESERVE IN with `bytes`, as far as there is room, and takes what is sent out. */
function scripted(bytes: Buffer): { readonly unit: LunReservation; readonly commands: LunCommand[] } {
  const commands: LunCommand[] = [];
  const unit = new LunReservation({
    run: (command) => {
      commands.push(command);
      const { dataIn, dataOut } = command;
      return Promise.resolve(dataIn === undefined ? (dataOut?.length ?? 0) : bytes.copy(dataIn));
    },
  });
  return { unit, commands };
}

describe("reading reservations", () => {
  it("a unit that does not know the commands has none", async () => {
    const { unit, run } = await openUnit();
    expect(await run(unit.readKeys())).toBeUndefined();
    expect(await run(unit.readHolder())).toBeUndefined();
    expect(await run(unit.readState())).toBeUndefined();
    expect(await run(unit.readCapabilities())).toBeUndefined();
    expect(await run(unit.readFullStatus())).toBeUndefined();
  });

  it("a unit that cannot answer now is not taken for one", async () => {
    const { disk, unit, run } = await openUnit();
    disk.nextResults.push({ opcode: 0x5e, status: 2, sense: sense(2, 0x04, 0x0b) });
    await expect(run(unit.readKeys())).rejects.toMatchObject({ code: "BLOCK_UNAVAILABLE" });
    disk.nextResults.push({ opcode: 0x5e, status: 0x18 });
    await expect(run(unit.readKeys())).rejects.toMatchObject({ code: "BLOCK_RESERVATION_CONFLICT" });
  });

  it("decodes each of the four answers", async () => {
    const holder = { key: KEY, scope: 0, type: 5 };
    const registration = {
      ...{ key: KEY, isHolder: true, isAllTargetPorts: false, scope: 0, type: 5, relativeTargetPort: 1 },
      initiatorPort: "iqn.2026-11.test:a,i,0x800000000001",
    };
    const capabilities = {
      ...{ canPersistThroughPowerLoss: true, isPersistingThroughPowerLoss: false, canRegisterAllTargetPorts: false },
      ...{ canSpecifyInitiatorPorts: false, isCompatibleReservationHandling: false, types: [5] },
    };
    const keys = scripted(encodeReservationKeys({ generation: 3, keys: [KEY, OTHER] }));
    expect(await keys.unit.readKeys()).toEqual({ generation: 3, keys: [KEY, OTHER] });
    expect(keys.commands[0]?.cdb.toString("hex")).toBe("5e000000000000040000");
    expect(keys.commands[0]).toMatchObject({ isProbe: true, allowUnderflow: true });
    const held = scripted(encodeReservation({ generation: 3, holder }));
    expect(await held.unit.readHolder()).toEqual({ generation: 3, holder });
    expect(await scripted(encodeReservationCapabilities(capabilities)).unit.readCapabilities()).toEqual(capabilities);
    const full = scripted(encodeReservationFullStatus({ generation: 4, registrations: [registration] }));
    expect(await full.unit.readFullStatus()).toEqual({ generation: 4, registrations: [registration] });
  });

  it("asks again with more room where the list did not fit", async () => {
    const keys = Array.from({ length: 1_000 }, (_, index) => (index + 1).toString(16).padStart(16, "0"));
    const { unit, commands } = scripted(encodeReservationKeys({ generation: 1, keys }));
    expect((await unit.readKeys())?.keys).toEqual(keys);
    expect(commands.map(({ dataIn }) => dataIn?.length)).toEqual([1_024, 8_008]);
  });

  it("gives up on a list that fits nowhere", async () => {
    const keys = Array.from({ length: 9_000 }, () => KEY);
    const { unit, commands } = scripted(encodeReservationKeys({ generation: 1, keys }));
    expect(await unit.readKeys()).toBeUndefined();
    expect(commands.map(({ dataIn }) => dataIn?.length)).toEqual([1_024, 65_535]);
    const short = scripted(Buffer.alloc(4));
    expect(await short.unit.readKeys()).toBeUndefined();
    expect(short.commands).toHaveLength(1);
  });

  it("reads keys and holder again when registrations changed between them", async () => {
    let generation = 5;
    const seen: number[] = [];
    const unit = new LunReservation({
      run: ({ cdb, dataIn }) => {
        const action = (cdb[1] ?? 0) & 0x1f;
        seen.push(action);
        if (seen.length === 2) generation += 1;
        const bytes =
          action === 0
            ? encodeReservationKeys({ generation, keys: generation === 5 ? [OTHER] : [KEY] })
            : encodeReservation({ generation, holder: { key: KEY, scope: 0, type: 5 } });
        return Promise.resolve(dataIn === undefined ? 0 : bytes.copy(dataIn));
      },
    });
    expect(await unit.readState()).toEqual({ generation: 6, keys: [KEY], holder: { key: KEY, scope: 0, type: 5 } });
    expect(seen).toEqual([0, 1, 0, 1]);
  });
});

describe("changing reservations", () => {
  it("sends the commands of SPC-5 §6.17", async () => {
    const { unit, commands } = scripted(Buffer.alloc(0));
    await unit.register({ before: "0".repeat(16), key: KEY, isPersistent: true });
    await unit.register({ key: KEY });
    await unit.reserve(KEY);
    await unit.preemptAndAbort(KEY, OTHER);
    await unit.preempt(KEY, OTHER);
    await unit.release(KEY);
    await unit.unregister(KEY);
    const zero = "0".repeat(16);
    expect(commands.map(({ cdb, dataOut }) => `${cdb.toString("hex")} ${dataOut?.toString("hex") ?? ""}`)).toEqual([
      `5f000000000000001800 ${zero}${KEY}0000000001000000`,
      `5f060000000000001800 ${zero}${KEY}${zero}`,
      `5f010500000000001800 ${KEY}${zero}${zero}`,
      `5f050500000000001800 ${KEY}${OTHER}${zero}`,
      `5f040500000000001800 ${KEY}${OTHER}${zero}`,
      `5f020500000000001800 ${KEY}${zero}${zero}`,
      `5f000000000000001800 ${KEY}${zero}${zero}`,
    ]);
    expect(commands.every(({ isProbe, isRetryable }) => isProbe === true && isRetryable === false)).toBe(true);
  });

  it("tells a conflict from what else goes wrong", async () => {
    const { disk, unit, run } = await openUnit();
    disk.nextResults.push({ opcode: 0x5f, status: 0x18 });
    expect(await run(unit.reserve(KEY))).toBe("conflict");
    const full = run(unit.register({ key: KEY }));
    disk.nextResults.push({ opcode: 0x5f, status: 2, sense: sense(5, 0x55, 4) });
    const refused: unknown = await full.catch((error: unknown) => error);
    expect(refused).toMatchObject({ details: { verdict: "SCSI_5_55_04" } });
    expect(isReservationCommandUnknown(refused)).toBe(false);
    disk.nextResults.push({ opcode: 0x5f, status: 2, sense: UNKNOWN_COMMAND });
    const unknown: unknown = await run(unit.reserve(KEY)).catch((error: unknown) => error);
    expect(isReservationCommandUnknown(unknown)).toBe(true);
  });

  it("repeats what was not begun (unit attention, BUSY), but nothing that may have been done", async () => {
    const { disk, unit, run } = await openUnit();
    disk.nextResults.push(
      { opcode: 0x5f, status: 2, sense: sense(6, 0x2a, 5) },
      { opcode: 0x5f, status: 8 },
      { opcode: 0x5f, status: 0x18 },
    );
    expect(await run(unit.reserve(KEY))).toBe("conflict");
    disk.nextResults.push({ opcode: 0x5f, status: 2, sense: sense(0xb, 0, 0) }, { opcode: 0x5f, status: 0x18 });
    await expect(run(unit.preemptAndAbort(KEY, OTHER))).rejects.toMatchObject({ code: "BLOCK_IO" });
    expect(disk.nextResults).toHaveLength(1);
  });

  it("ends tasks by a reset of the unit, where there is a way to do that", async () => {
    let resets = 0;
    const resetUnit = (): Promise<void> => {
      resets += 1;
      return Promise.resolve();
    };
    const run = (): Promise<number> => Promise.resolve(0);
    expect(await new LunReservation({ run, resetUnit }).endTasks()).toBe(true);
    expect(await new LunReservation({ run }).endTasks()).toBe(false);
    expect(resets).toBe(1);
  });
});
