import type { BlockDevice } from "../../../src/block/device.js";
import { MemoryDevice } from "../../../src/block/memory-device.js";
import type { TaskManagementRequestPdu } from "../../../src/wire/pdu.js";
import { dataOut, management, outcomeOf, READ_8, ready, TargetWorld, WRITE_8 } from "./target-peer.js";

/** A device whose writes wait until the test lets them go. */
function slowDevice(): { readonly device: BlockDevice; release(): void } {
  const memory = new MemoryDevice({ sizeBytes: 1_048_576 });
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const device = new Proxy(memory, {
    get(target, property): unknown {
      if (property === "write") {
        return async (offset: number, source: Buffer) => {
          await gate;
          await memory.write(offset, source);
        };
      }
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  return { device, release: () => release() };
}

describe("task management", () => {
  test("ABORT TASK ends a task that waits for data, without a response", async () => {
    const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" });
    const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await peer.send(command);
    const { targetTransferTag } = peer.next("ready-to-transfer");
    await peer.send(management(peer, { referencedTaskTag: command.initiatorTaskTag, refCmdSn: command.cmdSn }));
    expect(peer.next("task-management-response").response).toBe(0);
    await peer.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 5) }));
    expect(peer.received).toEqual([]);
    const { data } = await peer.run(READ_8, 4096);
    expect(data[0]).toBe(0);
  });

  test("the answer waits until a write that is under way has ended", async () => {
    const { device, release } = slowDevice();
    const world = new TargetWorld({ devices: [device] });
    const peer = await ready({}, world);
    const command = peer.command(WRITE_8, {
      isWrite: true,
      expectedDataTransferLength: 4096,
      data: Buffer.alloc(4096),
    });
    await peer.send(command, management(peer, { function: 5 }));
    expect(peer.received).toEqual([]);
    release();
    await world.clock.advance(0);
    expect(peer.next("task-management-response").response).toBe(0);
    expect(peer.received).toEqual([]);
    expect(outcomeOf(await peer.run("00"))).toBe("6/29/03");
  });

  test.each([
    ["ABORT TASK of nothing", { function: 1, referencedTaskTag: 0x4444, refCmdSn: 5 }, 1],
    ["ABORT TASK SET", { function: 2 }, 0],
    ["CLEAR ACA", { function: 3 }, 5],
    ["CLEAR TASK SET", { function: 4 }, 0],
    ["LOGICAL UNIT RESET of a LUN that is not there", { function: 5, lun: { high: 0x0005_0000, low: 0 } }, 2],
    ["TARGET WARM RESET", { function: 6 }, 0],
    ["TASK REASSIGN", { function: 8, referencedTaskTag: 0x4444 }, 4],
    ["QUERY TASK without protocol level 2", { function: 9, referencedTaskTag: 0x4444 }, 5],
    ["a function nobody knows", { function: 99 }, 5],
  ])("%s", async (_, changes, expected) => {
    const peer = await ready();
    await peer.send(management(peer, changes));
    expect(peer.next("task-management-response").response).toBe(expected);
  });

  test("functions of RFC 7144 at protocol level 2", async () => {
    const peer = await ready({ iSCSIProtocolLevel: "2", InitialR2T: "Yes", ImmediateData: "No" });
    const command = peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 });
    await peer.send(command);
    const { targetTransferTag } = peer.next("ready-to-transfer");
    const ask = async (changes: Partial<TaskManagementRequestPdu>): Promise<number> => {
      await peer.send(management(peer, changes));
      return peer.next("task-management-response").response;
    };
    expect(await ask({ function: 9, referencedTaskTag: command.initiatorTaskTag })).toBe(7);
    // RFC 7144 §6.3.3: a command that may still come counts as received, one that cannot does not exist.
    expect(await ask({ function: 9, referencedTaskTag: 0x4444, refCmdSn: peer.cmdSn + 500 })).toBe(1);
    const lost = peer.command("00");
    expect(await ask({ function: 9, referencedTaskTag: lost.initiatorTaskTag, refCmdSn: lost.cmdSn })).toBe(0);
    await peer.send(lost);
    expect(peer.received).toEqual([]);
    expect(await ask({ function: 10 })).toBe(7);
    expect(await ask({ function: 12 })).toBe(0);
    // ABORT TASK SET waits for the data that was asked for (RFC 7143 §4.2.3.3).
    await peer.send(management(peer, { function: 2 }));
    expect(peer.received).toEqual([]);
    await peer.send(dataOut(command.initiatorTaskTag, { targetTransferTag, data: Buffer.alloc(4096, 5) }));
    expect(peer.next("task-management-response").response).toBe(0);
    expect(await ask({ function: 10 })).toBe(0);
  });

  test("ABORT TASK SET waits only so long for data that does not come (RFC 7143 §4.2.3.3)", async () => {
    const world = new TargetWorld();
    const peer = await ready({ InitialR2T: "Yes", ImmediateData: "No" }, world);
    await peer.send(peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
    peer.next("ready-to-transfer");
    await peer.send(management(peer, { function: 2 }));
    await world.clock.advance(2_999);
    expect(peer.received).toEqual([]);
    await world.clock.advance(1);
    expect(peer.next("task-management-response").response).toBe(0);
  });

  test("I_T NEXUS RESET ends the session, and the next one learns of the loss (RFC 7144 §6.3)", async () => {
    const world = new TargetWorld();
    const keys = { iSCSIProtocolLevel: "2", InitialR2T: "Yes", ImmediateData: "No" };
    const peer = await ready(keys, world);
    await peer.send(peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
    peer.next("ready-to-transfer");
    await peer.send(management(peer, { function: 11 }));
    expect(peer.next("task-management-response").response).toBe(0);
    expect(peer.next("async-message")).toMatchObject({ asyncEvent: 3, parameter3: 0 });
    expect([peer.stream.closed, world.server.sessions().length]).toEqual(["ended", 0]);
    const again = await world.login({ keys });
    await again.send(management(again, { function: 12 }));
    expect(again.next("task-management-response")).toMatchObject({ response: 7, additionalResponse: 0x06_2907 });
  });

  test("a task management request is not the object of another (RFC 7143 §11.5.1)", async () => {
    const world = new TargetWorld();
    const peer = await ready({ iSCSIProtocolLevel: "2", InitialR2T: "Yes", ImmediateData: "No" }, world);
    await peer.send(peer.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
    peer.next("ready-to-transfer");
    await peer.send(management(peer, { function: 2, initiatorTaskTag: 0x5001 }));
    for (const code of [1, 8, 9]) {
      await peer.send(management(peer, { function: code, referencedTaskTag: 0x5001 }));
      expect(peer.next("task-management-response").response).toBe(255);
    }
    await world.clock.advance(3_000);
    expect(peer.next("task-management-response")).toMatchObject({ response: 0, initiatorTaskTag: 0x5001 });
  });

  test("COLD RESET ends every session of the target", async () => {
    const world = new TargetWorld();
    const peer = await ready({}, world);
    const other = await world.login({ isid: "800000000002" });
    await peer.send(management(peer, { function: 7 }));
    expect(peer.next("task-management-response").response).toBe(0);
    expect([peer.stream.closed, other.stream.closed]).toEqual(["ended", "ended"]);
    expect(world.server.sessions()).toEqual([]);
  });

  test("CLEAR TASK SET tells another initiator whose tasks it ended", async () => {
    const world = new TargetWorld();
    const one = await ready({}, world);
    const other = await world.login({ isid: "800000000002", keys: { InitialR2T: "Yes", ImmediateData: "No" } });
    await other.clearAttention();
    await other.send(other.command(WRITE_8, { isWrite: true, expectedDataTransferLength: 4096 }));
    other.next("ready-to-transfer");
    await one.send(management(one, { function: 4 }));
    expect(outcomeOf(await other.run("00"))).toBe("6/2f/00");
    expect(outcomeOf(await one.run("00"))).toBe("good");
  });
});
