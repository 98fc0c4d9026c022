import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { AttachRequest, DataplaneEvent, VolumeStatus } from "../../src/dataplane/api.js";
import { CLI_NEEDS, runCli } from "../support/cli-process.js";
import { reportMeasured } from "../support/file-load.js";
import { readFioReport } from "../support/fio-report.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { describeNeeding } from "../support/needs.js";
import { Tgtd } from "../support/tgt.js";

const MIB = 1_048_576;
const DISK_BYTES = 32 * MIB;
const TARGET = "iqn.2026-11.test:paths-identity";
const HANDLE = "identity";
const needs = [...HOST_NEEDS, ...CLI_NEEDS, "tgtd", "tgtadm", "/dev/fuse", "/dev/loop-control"];
const run = promisify(execFile);

/** Two controllers of one array: the same target name and LUN number at both, and the same disk behind them. */
const PORTALS = [
  { host: "127.0.0.1", port: 13_470 },
  { host: "127.0.0.2", port: 13_470 },
] as const;
const IDS = PORTALS.map(({ host, port }) => `${host}:${port}`);

/** tgtd makes the NAA name of a unit of the hexadecimal digits of its scsi_id. */
const RIGHT = { params: "scsi_id=c0ffee11,scsi_sn=RIGHT", id: "naa.600000000000000000000000c0ffee11" };
const WRONG = { params: "scsi_id=bad00bad,scsi_sn=WRONG", id: "naa.600000000000000000000000bad00bad" };
type Unit = typeof RIGHT;

const request: AttachRequest = {
  ...{ volumeHandle: HANDLE, portals: PORTALS, targetName: TARGET, lun: 1, expectedId: "", isReadOnly: false },
  ...{ headerDigest: "none", dataDigest: "none", publicationId: "", backend: "fuse" },
  // Looked for every second, so that the test does not wait for the longest pause.
  settings: { multipath: "mpio", pathPolicy: "round-robin", delayBetweenReconnectSeconds: 1 },
};

describeNeeding(needs, "another LUN behind the portal, name and number of a path", () => {
  const controllers: Tgtd[] = [];
  let host: HawserHost;
  let devicePath = "";
  let rightDisk = "";
  let wrongDisk = "";
  let wrongDigest = "";
  const events: DataplaneEvent[] = [];
  const watching = new AbortController();
  let watched: Promise<void> = Promise.resolve();

  const client = (): HawserHost["dataplaneClient"] => host.dataplaneClient;
  const status = (): Promise<VolumeStatus | undefined> => client().get(HANDLE);
  const digestOf = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
  const statesOf = (volume: VolumeStatus | undefined): readonly string[] =>
    (volume?.multipath?.paths ?? []).map(({ id, state }) => `${id} ${state}`);

  /** Starts a controller anew with this unit as its LUN 1: nothing else changes. */
  const restartWith = async (controller: number, unit: Unit): Promise<void> => {
    const daemon = controllers[controller];
    if (daemon === undefined) throw new Error(`there is no controller ${controller}`);
    await daemon.kill();
    const place = daemon.diskPath(0, 1);
    rmSync(place, { force: true });
    linkSync(unit === RIGHT ? rightDisk : wrongDisk, place);
    daemon.targets = [{ name: TARGET, diskBytes: [DISK_BYTES], diskParameters: unit.params }];
    await daemon.launch();
  };

  const untilStates = async (first: string, second: string): Promise<VolumeStatus> => {
    const wanted = [`${IDS[0]} ${first}`, `${IDS[1]} ${second}`];
    for (let attempt = 0; ; attempt += 1) {
      const now = await status();
      if (now !== undefined && statesOf(now).join() === wanted.join()) return now;
      if (attempt > 250) throw new Error(`never were ${wanted.join(", ")}: ${JSON.stringify([now, events])}`);
      await delay(100);
    }
  };

  const refusals = (): readonly DataplaneEvent[] => events.filter(({ kind }) => kind === "path-refused");
  const expectWrongUntouched = (): void => expect(digestOf(wrongDisk)).toBe(wrongDigest);
  const pathsTable = async (): Promise<string> => {
    const { out } = await runCli("hawserctl", "paths", HANDLE, "--dataplane", host.socketPath("dataplane"));
    process.stdout.write(`${out.trimEnd().replace(/^/gm, "    ")}\n`);
    return out;
  };

  /** Writes a block of one value straight to the device; rejects when the kernel was told of an error. */
  const writeBlock = async (value: number): Promise<void> => {
    const source = `${host.directory}/block`;
    writeFileSync(source, Buffer.alloc(4096, value));
    await run("dd", [`if=${source}`, `of=${devicePath}`, "bs=4096", "count=1", "oflag=direct", "conv=notrunc"]);
  };
  const firstByte = (path: string): number | undefined => readFileSync(path)[0];

  beforeAll(async () => {
    for (const [index, portal] of IDS.entries()) {
      controllers.push(
        await Tgtd.start({
          ...{ controlPort: 13_470 + index, portals: [portal] },
          targets: [{ name: TARGET, diskBytes: [DISK_BYTES], diskParameters: RIGHT.params }],
        }),
      );
    }
    const [first, second] = controllers.map(({ directory }) => directory);
    rightDisk = `${first}/right.img`;
    wrongDisk = `${first}/wrong.img`;
    expect(second).not.toBe(first);
    writeFileSync(rightDisk, Buffer.alloc(DISK_BYTES));
    writeFileSync(wrongDisk, randomBytes(DISK_BYTES));
    wrongDigest = digestOf(wrongDisk);
    await restartWith(0, RIGHT);
    await restartWith(1, RIGHT);
    host = await HawserHost.start({ dataplaneArgs: ["--backend", "fuse"] });
    watched = (async () => {
      for await (const event of client().watch(watching.signal)) events.push(event);
    })().catch(() => undefined);
    const attached = await client().attach(request);
    expect(attached.deviceId).toBe(RIGHT.id);
    ({ devicePath } = attached);
    await untilStates("up", "up");
  }, 60_000);

  afterAll(async () => {
    await client()
      .detach(HANDLE)
      .catch(() => undefined);
    watching.abort();
    await watched;
    await host.remove();
    for (const daemon of controllers) await daemon.stop();
  }, 60_000);

  it("after one path's reconnect is refused: I/O goes on over the other, nothing reaches it", async () => {
    const load = run("fio", [
      ...["--name=load", `--filename=${devicePath}`, "--rw=randwrite", "--bsrange=4k-64k", `--size=${DISK_BYTES}`],
      ...["--ioengine=libaio", "--iodepth=8", "--direct=1", "--verify=crc32c", "--verify_fatal=1", "--randseed=71"],
      ...["--time_based=1", "--runtime=8", "--rate=,4M", "--verify_state_save=0", "--output-format=json"],
    ]);
    await delay(1_000);
    await restartWith(1, WRONG);
    const refused = await untilStates("up", "refused");
    const table = await pathsTable();
    const { writtenBytes } = readFioReport((await load).stdout);

    expect(writtenBytes).toBeGreaterThan(0);
    expectWrongUntouched();
    expect(refused.state).toBe("attached");
    expect(refused.multipath?.paths[1]?.reason).toContain(WRONG.id);
    const [event] = refusals();
    expect(event).toMatchObject({ volumeHandle: HANDLE, message: expect.stringContaining(IDS[1] ?? "") });
    expect(event?.message).toContain(RIGHT.id);
    expect(event?.message).toContain(WRONG.id);
    expect(table).toMatch(/^127\.0\.0\.2:13470 +refused /m);
    reportMeasured(`event ${event?.kind}: ${event?.message}`);
    reportMeasured(
      `${(writtenBytes / MIB).toFixed(0)} MiB written and verified meanwhile; 0 bytes of the other disk changed`,
    );

    await restartWith(1, RIGHT);
    await untilStates("up", "up");
  }, 60_000);

  it("is refused as soon as a unit attention tells of it, without a reconnect", async () => {
    const before = refusals().length;
    const lun = (number: number): readonly string[] => ["--mode", "logicalunit", "--tid", "1", "--lun", String(number)];
    const admin = (op: string, ...args: readonly string[]): void => {
      controllers[1]?.admin("--op", op, ...args);
    };
    admin("delete", ...lun(1));
    admin("new", ...lun(1), "-b", wrongDisk);
    admin("update", ...lun(1), "--params", WRONG.params);
    // Of a unit that takes the place of another tgtd tells no session; of one that is added it tells those of the others.
    admin("new", ...lun(2), "-b", wrongDisk);
    // As many as there are paths, and more: one of them would meet the wrong unit.
    for (let count = 0; count < 4; count += 1) await writeBlock(0x11);
    await untilStates("up", "refused");
    expectWrongUntouched();
    expect(firstByte(rightDisk)).toBe(0x11);
    const told = refusals().slice(before);
    for (const { id } of [RIGHT, WRONG]) expect(told[0]?.message).toContain(id);
    reportMeasured(`event ${told[0]?.kind}: ${told[0]?.message}`);

    await restartWith(1, RIGHT);
    await untilStates("up", "up");
  }, 60_000);

  it("on all paths leaves writes undone: none is carried out there, and all goes on with the right one", async () => {
    await writeBlock(0x22);
    for (const daemon of controllers) await daemon.kill();
    const before = refusals().length;
    await restartWith(0, WRONG);
    await restartWith(1, WRONG);
    const writing = writeBlock(0x33).then(
      () => "written",
      () => "failed",
    );
    await untilStates("refused", "refused");
    await pathsTable();
    const outcome = await Promise.race([writing, delay(2_000).then(() => "waits")]);
    reportMeasured(`a write while every path is refused: ${outcome}`);
    expect(outcome).not.toBe("written");
    expectWrongUntouched();
    expect(firstByte(rightDisk)).toBe(0x22);
    const refused = refusals().slice(before);
    for (const id of IDS) expect(refused.some(({ message }) => message.includes(id))).toBe(true);

    await restartWith(0, RIGHT);
    await restartWith(1, RIGHT);
    const back = await untilStates("up", "up");
    expect(await writing).toBe(outcome === "failed" ? "failed" : "written");
    await writeBlock(0x44);
    expect(firstByte(rightDisk)).toBe(0x44);
    expect(back.state).toBe("attached");
    expectWrongUntouched();
  }, 90_000);

  it("at the login of a later attach is refused with both names, and taken when it is the right one", async () => {
    await client().detach(HANDLE);
    await restartWith(0, WRONG);
    await restartWith(1, WRONG);
    const error: unknown = await client()
      .attach(request)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "BLOCK_IDENTITY_MISMATCH" });
    reportMeasured(`attach: ${String(error)}`);
    for (const { id } of [RIGHT, WRONG]) expect(String(error)).toContain(id);
    expectWrongUntouched();
    expect(host.leftovers()).toEqual([]);

    // One right path is enough, and the other stays out.
    await restartWith(1, RIGHT);
    ({ devicePath } = await client().attach(request));
    await untilStates("refused", "up");
    await writeBlock(0x55);
    expect(firstByte(rightDisk)).toBe(0x55);
    expectWrongUntouched();
  }, 60_000);
});
