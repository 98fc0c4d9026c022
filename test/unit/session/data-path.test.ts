import type { ScsiTask } from "../../../src/session/task.js";
import type { ScsiCommandPdu } from "../../../src/wire/pdu.js";
import { LUN_ONE, execute, openSession, read, sense, settle, write } from "../../support/session-fixture.js";
import type { OpenedSession } from "../../support/session-fixture.js";

async function lastCommand({ clock, target }: OpenedSession): Promise<ScsiCommandPdu> {
  await clock.advance(1);
  return target.connection.ofType("scsi-command").at(-1)!;
}

/** Starts a task and gives the command PDU that the target saw. */
async function begin(
  fixture: OpenedSession,
  task: Partial<ScsiTask>,
): Promise<{ command: ScsiCommandPdu; execution: ReturnType<typeof execute> }> {
  const execution = execute(fixture.session, task);
  return { command: await lastCommand(fixture), execution };
}

describe("reads", () => {
  test("data is placed by offset and the status comes with the last Data-In", async () => {
    const fixture = await openSession();
    const dataIn = Buffer.alloc(1024);
    const { command, execution } = await begin(fixture, { cdb: read(0, 2), dataIn });
    expect(command).toMatchObject({ isRead: true, isWrite: false, isFinal: true, expectedDataTransferLength: 1024 });
    const { connection } = fixture.target;
    connection.dataIn(command, { data: Buffer.alloc(512, 1) });
    connection.dataIn(command, { data: Buffer.alloc(512, 2), bufferOffset: 512, dataSn: 1, status: 0 });
    const result = await settle(fixture.clock, execution.done);
    expect(result).toMatchObject({ kind: "status", status: 0, transferredBytes: 1024 });
    expect(dataIn.equals(Buffer.concat([Buffer.alloc(512, 1), Buffer.alloc(512, 2)]))).toBe(true);
    expect(fixture.session.status()).toMatchObject({ readOperations: 1, readBytes: 1024, commandsInFlight: 0 });
  });

  test.each([
    ["GOOD with an underflow residual", { data: Buffer.alloc(512), status: 0, underflow: 512 }],
    ["GOOD with less data and no residual", { data: Buffer.alloc(512), status: 0 }],
  ])("%s is never success", async (_name, last) => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { cdb: read(0, 2), dataIn: Buffer.alloc(1024) });
    fixture.target.connection.dataIn(command, last);
    const result = await settle(fixture.clock, execution.done);
    expect(result).toMatchObject({ kind: "failed", error: { code: "SESSION_SHORT_TRANSFER" } });
  });

  test("GOOD with an overflow residual is never success: the target meant another length", async () => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(512) });
    fixture.target.connection.respond(command, { overflow: 3584 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_SHORT_TRANSFER" } });
  });

  test("a task that allows it may get less, and is told how much", async () => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { dataIn: Buffer.alloc(96), allowUnderflow: true });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(36, 7), status: 0, underflow: 60 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", transferredBytes: 36 });
  });

  test("a residual that hides missing data fails even then", async () => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { dataIn: Buffer.alloc(96), allowUnderflow: true });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(36), status: 0, underflow: 20 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_SHORT_TRANSFER" } });
  });

  test("iSCSI response other than 0 is a target failure whatever the status says", async () => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { cdb: read(0, 1), dataIn: Buffer.alloc(512) });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(512) });
    fixture.target.connection.respond(command, { response: 1 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_TARGET_FAILURE" } });
  });

  test("sense data comes out of its frame", async () => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, {});
    fixture.target.connection.respond(command, { status: 2, sense: sense(3, 0x11, 0) });
    const result = await settle(fixture.clock, execution.done);
    expect(result.kind === "status" && result.sense?.equals(sense(3, 0x11, 0))).toBe(true);
  });

  test.each([
    ["a Data-In beyond the buffer", { data: Buffer.alloc(600) }],
    ["a gap in the offsets", { data: Buffer.alloc(256), bufferOffset: 256 }],
    ["a gap in DataSN", { data: Buffer.alloc(256), dataSn: 1 }],
  ])("%s ends the connection, and nothing outside the buffer is written", async (_name, part) => {
    const fixture = await openSession();
    const memory = Buffer.alloc(1024);
    const { command, execution } = await begin(fixture, { cdb: read(0, 1), dataIn: memory.subarray(0, 512) });
    fixture.target.connection.dataIn(command, { ...part, data: Buffer.from(part.data).fill(0xff) });
    await fixture.clock.advance(1);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
    expect(memory.every((byte) => byte === 0)).toBe(true);
    expect(execution.results).toEqual([]);
  });

  test.each([
    ["CHECK CONDITION without sense", { status: 2 }],
    ["SenseLength beyond the segment", { status: 2, data: Buffer.from([0, 40, 0x70, 0]) }],
  ])("%s is a format error: the connection ends (RFC 7143 §7.7)", async (_name, response) => {
    const fixture = await openSession();
    const { command } = await begin(fixture, {});
    fixture.target.connection.respond(command, response);
    await fixture.clock.advance(1);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
  });
});

describe("writes", () => {
  const keys = { MaxRecvDataSegmentLength: "1024", FirstBurstLength: "2048", MaxBurstLength: "4096" };
  const source = Buffer.from(Array.from({ length: 8192 }, (_, index) => (index * 7) & 0xff));

  async function beginWrite(more: Readonly<Record<string, string>>): Promise<{
    fixture: OpenedSession;
    command: ScsiCommandPdu;
    execution: ReturnType<typeof execute>;
  }> {
    const fixture = await openSession({ target: { keys: { ...keys, ...more } } });
    return { fixture, ...(await begin(fixture, { cdb: write(0, 16), dataOut: source })) };
  }

  test.each([
    ["Yes", "Yes", 1024, []],
    [
      "No",
      "No",
      0,
      [
        [0, 1024],
        [1024, 1024],
      ],
    ],
    ["No", "Yes", 1024, [[1024, 1024]]],
    ["Yes", "No", 0, []],
  ])("InitialR2T=%s ImmediateData=%s", async (initialR2t, immediate, immediateBytes, unsolicited) => {
    const { fixture, command } = await beginWrite({ InitialR2T: initialR2t, ImmediateData: immediate });
    expect(command.data.equals(source.subarray(0, immediateBytes))).toBe(true);
    expect(command.isFinal).toBe(unsolicited.length === 0);
    const sent = fixture.target.connection.ofType("scsi-data-out");
    expect(sent.map((pdu) => [pdu.bufferOffset, pdu.data.length])).toEqual(unsolicited);
    expect(sent.map((pdu) => pdu.dataSn)).toEqual(sent.map((_, index) => index));
    expect(sent.map((pdu) => pdu.isFinal)).toEqual(sent.map((_, index) => index === sent.length - 1));
    expect(sent.every((pdu) => pdu.targetTransferTag === 0xffff_ffff)).toBe(true);
  });

  test("several R2Ts at once are answered with tag, LUN and DataSN from 0 each", async () => {
    const { fixture, command, execution } = await beginWrite({ InitialR2T: "Yes", ImmediateData: "Yes" });
    const { connection } = fixture.target;
    connection.readyToTransfer(command, { r2tSn: 0, offset: 1024, length: 4096, tag: 0x11 });
    connection.readyToTransfer(command, { r2tSn: 1, offset: 5120, length: 3072, tag: 0x22 });
    await fixture.clock.advance(1);
    const sent = connection.ofType("scsi-data-out");
    expect(sent.map((pdu) => [pdu.targetTransferTag, pdu.dataSn, pdu.bufferOffset, pdu.isFinal])).toEqual([
      [0x11, 0, 1024, false],
      [0x11, 1, 2048, false],
      [0x11, 2, 3072, false],
      [0x11, 3, 4096, true],
      [0x22, 0, 5120, false],
      [0x22, 1, 6144, false],
      [0x22, 2, 7168, true],
    ]);
    expect(sent.every((pdu) => pdu.lun.high === LUN_ONE.high)).toBe(true);
    const whole = Buffer.concat([command.data, ...sent.map((pdu) => pdu.data)]);
    expect(whole.equals(source)).toBe(true);
    connection.respond(command);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", transferredBytes: 8192 });
  });

  test("GOOD before all data was asked for is never success", async () => {
    const { fixture, command, execution } = await beginWrite({ InitialR2T: "Yes" });
    fixture.target.connection.respond(command);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_SHORT_TRANSFER" } });
  });

  test("GOOD with a residual is never success", async () => {
    const { fixture, command, execution } = await beginWrite({ InitialR2T: "Yes" });
    fixture.target.connection.readyToTransfer(command, { r2tSn: 0, offset: 1024, length: 4096, tag: 1 });
    fixture.target.connection.readyToTransfer(command, { r2tSn: 1, offset: 5120, length: 3072, tag: 2 });
    await fixture.clock.advance(1);
    fixture.target.connection.respond(command, { underflow: 512 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ error: { code: "SESSION_SHORT_TRANSFER" } });
  });

  test.each([
    ["beyond the write", { r2tSn: 0, offset: 1024, length: 8192, tag: 1 }],
    ["longer than MaxBurstLength", { r2tSn: 0, offset: 1024, length: 4608, tag: 1 }],
    ["out of sequence", { r2tSn: 1, offset: 1024, length: 512, tag: 1 }],
    ["not where the last one ended", { r2tSn: 0, offset: 2048, length: 512, tag: 1 }],
  ])("an R2T %s ends the connection and gets no data", async (_name, part) => {
    const { fixture, command } = await beginWrite({ InitialR2T: "Yes", MaxBurstLength: "4096" });
    fixture.target.connection.readyToTransfer(command, part);
    await fixture.clock.advance(1);
    expect(fixture.target.connections[0]?.ofType("scsi-data-out")).toEqual([]);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
  });
});

describe("numbers", () => {
  test("the first command has the CmdSN of the login, and each PDU acknowledges StatSN", async () => {
    const fixture = await openSession();
    const loginCmdSn = fixture.target.connection.logins[0]!.cmdSn;
    const first = await begin(fixture, {});
    expect(first.command.cmdSn).toBe(loginCmdSn);
    fixture.target.connection.respond(first.command);
    await fixture.clock.advance(1);
    const second = await begin(fixture, {});
    expect(second.command.cmdSn).toBe(loginCmdSn + 1);
    expect(second.command.expStatSn).toBe(first.command.expStatSn + 1);
    expect(second.command.initiatorTaskTag).not.toBe(first.command.initiatorTaskTag);
  });

  test("commands wait for the window and go out in order", async () => {
    const fixture = await openSession({ target: { windowSize: 2 } });
    for (let lba = 0; lba < 5; lba += 1) execute(fixture.session, { cdb: read(lba, 1), dataIn: Buffer.alloc(512) });
    await fixture.clock.advance(1);
    const { connection } = fixture.target;
    expect(connection.ofType("scsi-command")).toHaveLength(2);
    expect(fixture.session.status()).toMatchObject({ commandsInFlight: 2, commandsQueued: 3 });
    connection.dataIn(connection.ofType("scsi-command")[0]!, { data: Buffer.alloc(512), status: 0 });
    await fixture.clock.advance(1);
    expect(connection.ofType("scsi-command").map((command) => command.cdb[5])).toEqual([0, 1, 2, 3]);
  });

  test("a gap in StatSN ends the connection", async () => {
    const fixture = await openSession();
    const { command } = await begin(fixture, {});
    fixture.target.connection.respond(command, { statSn: fixture.target.connection.statSn + 1 });
    await fixture.clock.advance(1);
    expect(fixture.events.at(-1)).toMatchObject({
      kind: "disconnected",
      reason: { code: "SESSION_PROTOCOL", details: { section: "§4.2.2.2" } },
    });
  });

  test("StatSN of Data-In without status and of R2T is not counted", async () => {
    const fixture = await openSession();
    const { command, execution } = await begin(fixture, { cdb: read(0, 2), dataIn: Buffer.alloc(1024) });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(512) });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(512), bufferOffset: 512, dataSn: 1 });
    fixture.target.connection.respond(command);
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
  });

  test("a response for a task that is not there ends the connection", async () => {
    const fixture = await openSession();
    fixture.target.connection.respond({ initiatorTaskTag: 0x10001 });
    await fixture.clock.advance(1);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "disconnected", reason: { code: "SESSION_PROTOCOL" } });
  });
});

describe("digests", () => {
  test("both digests are used when agreed on", async () => {
    const fixture = await openSession({ session: { headerDigest: "crc32c", dataDigest: "crc32c" } });
    const dataIn = Buffer.alloc(512);
    const { command, execution } = await begin(fixture, { cdb: read(0, 1), dataIn });
    fixture.target.connection.dataIn(command, { data: Buffer.alloc(512, 9), status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
    expect(dataIn[511]).toBe(9);
    expect(fixture.session.status()).toMatchObject({ headerDigest: "CRC32C", dataDigest: "CRC32C" });
  });

  test.each([
    ["data", "SESSION_DIGEST", "dataDigest"],
    ["header", "HEADER_DIGEST_MISMATCH", "headerDigest"],
  ])("a wrong %s digest ends the connection; the read is repeated", async (_name, _code, which) => {
    const fixture = await openSession({ session: { headerDigest: "crc32c", dataDigest: "crc32c" } });
    const dataIn = Buffer.alloc(512);
    const { command, execution } = await begin(fixture, { cdb: read(0, 1), dataIn });
    const { connection } = fixture.target;
    const bytes: Buffer[] = [];
    const sendBytes = connection.sendBytes.bind(connection);
    connection.sendBytes = (chunks) => bytes.push(...chunks);
    connection.dataIn(command, { data: Buffer.alloc(512, 9), status: 0 });
    const wire = Buffer.concat(bytes);
    wire[which === "headerDigest" ? 49 : 100]! ^= 1;
    sendBytes([wire]);
    await fixture.clock.advance(1);
    expect(fixture.events.at(-1)).toMatchObject({ kind: "disconnected" });
    await fixture.clock.advance(5000);
    const again = fixture.target.connection.ofType("scsi-command")[0]!;
    fixture.target.connection.dataIn(again, { data: Buffer.alloc(512, 4), status: 0 });
    expect(await settle(fixture.clock, execution.done)).toMatchObject({ kind: "status", status: 0 });
    expect(dataIn.every((byte) => byte === 4)).toBe(true);
  });
});
