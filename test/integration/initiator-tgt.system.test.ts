import { setTimeout as delay } from "node:timers/promises";
import { Secret } from "../../src/base/secret.js";
import { discoverTargets } from "../../src/discovery/send-targets.js";
import { type ConnectedVolume, type ConnectVolumeRequest, connectVolume } from "../../src/initiator/connect-volume.js";
import { listTargetLuns } from "../../src/initiator/list-target-luns.js";
import { describeNeeding } from "../support/needs.js";
import { MIXED_SIZES_BYTES, realDependencies, verifyTransfers, volumeRequest } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const PORT = 13_301;
const portal = { host: "127.0.0.1", port: PORT };
const SIZE = 64 << 20;
const chap = { user: "host-user", secret: "a secret of 20 bytes" };
const mutual = { mutualUser: "disk-user", mutualSecret: "another one 20 bytes" };
const name = (suffix: string): string => `iqn.2026-11.test:${suffix}`;

const burstCases = ["Yes", "No"].flatMap((r2t) => ["Yes", "No"].map((immediate) => ({ r2t, immediate })));
const targets = [
  {
    name: name("plain"),
    diskBytes: [SIZE, 1 << 20],
    diskParameters: "thin_provisioning=1",
    parameters: { HeaderDigest: "None,CRC32C", DataDigest: "None,CRC32C" },
  },
  ...(["Temporary", "Permanent"] as const).map((reason) => ({
    name: name(`redirect-${reason.toLowerCase()}`),
    diskBytes: [1 << 20],
    parameters: { RedirectAddress: "127.0.0.2", RedirectPort: PORT + 1, RedirectReason: reason },
  })),
  { name: name("chap"), diskBytes: [SIZE], account: chap },
  { name: name("mutual"), diskBytes: [SIZE], account: { ...chap, user: "host-user2", ...mutual } },
  ...burstCases.map(({ r2t, immediate }) => ({
    name: name(`r2t-${r2t.toLowerCase()}-immediate-${immediate.toLowerCase()}`),
    diskBytes: [SIZE],
    parameters: {
      InitialR2T: r2t,
      ImmediateData: immediate,
      MaxOutstandingR2T: 8,
      MaxBurstLength: 65_536,
      FirstBurstLength: 32_768,
      MaxRecvDataSegmentLength: 8192,
    },
  })),
];

describeNeeding(["tgtd", "tgtadm"], "initiator against tgtd", () => {
  let tgtd: Tgtd;
  const volumes: ConnectedVolume[] = [];

  beforeAll(async () => {
    tgtd = await Tgtd.start({ controlPort: 331, portals: [`127.0.0.1:${PORT}`, `[::1]:${PORT}`], targets });
  });

  afterEach(async () => {
    for (const volume of volumes.splice(0)) await volume.close();
  });

  afterAll(async () => {
    await tgtd.stop();
  });

  async function connect(target: string, more: Partial<ConnectVolumeRequest> = {}): Promise<ConnectedVolume> {
    const volume = await connectVolume(
      volumeRequest({ portals: [portal], targetName: name(target), lun: 1, ...more }),
      realDependencies(),
    );
    volumes.push(volume);
    return volume;
  }

  test.each(["127.0.0.1", "::1"])("discovers all targets through %s", async (host) => {
    const found = await discoverTargets(
      { portal: { host, port: PORT }, initiatorName: name("host"), timeoutMs: 5000 },
      realDependencies(),
    );
    expect(found.map(({ targetName }) => targetName).sort()).toEqual(targets.map((target) => target.name).sort());
    expect(found.every(({ portals }) => portals[0]?.host === host && portals[0].port === PORT)).toBe(true);
  });

  test("discovery of a port where nothing listens fails in time", async () => {
    const options = { portal: { host: "127.0.0.1", port: 13_349 }, initiatorName: name("host"), timeoutMs: 3000 };
    await expect(discoverTargets(options, realDependencies())).rejects.toMatchObject({ layer: "transport" });
  });

  test("lists the units", async () => {
    const request = volumeRequest({ portals: [portal], targetName: name("plain"), lun: 0 });
    const luns = await listTargetLuns({ ...request, portal }, realDependencies());
    expect(luns.map(({ lun, deviceType, sizeBytes }) => [lun, deviceType, sizeBytes])).toEqual([
      ["0", "controller", 0],
      ["1", "disk", SIZE],
      ["2", "disk", 1 << 20],
    ]);
  });

  test.each([
    ["none", "none"],
    ["crc32c", "none"],
    ["none", "crc32c"],
    ["crc32c", "crc32c"],
  ] as const)(
    "small and large transfers with header digest %s and data digest %s",
    async (headerDigest, dataDigest) => {
      const { device, ...volume } = await connect("plain", { headerDigest, dataDigest });
      await verifyTransfers(device, MIXED_SIZES_BYTES);
      const wire = (choice: string): string => (choice === "none" ? "None" : "CRC32C");
      expect(volume.sessions()).toMatchObject([
        { headerDigest: wire(headerDigest), dataDigest: wire(dataDigest), state: "ready", reconnects: 0 },
      ]);
    },
  );

  test.each(burstCases)("InitialR2T=$r2t ImmediateData=$immediate, several R2Ts, short segments", async (one) => {
    const target = `r2t-${one.r2t.toLowerCase()}-immediate-${one.immediate.toLowerCase()}`;
    const volume = await connect(target, { headerDigest: "prefer-crc32c", dataDigest: "prefer-crc32c" });
    await verifyTransfers(volume.device, MIXED_SIZES_BYTES);
    expect(volume.sessions()[0]?.reconnects).toBe(0);
  });

  test("one-way CHAP, with algorithms that tgt computes wrongly in the list", async () => {
    const { device } = await connect("chap", { chap: { user: chap.user, secret: Secret.from(chap.secret) } });
    await verifyTransfers(device, [4096]);
  });

  test("mutual CHAP", async () => {
    const { device } = await connect("mutual", {
      chap: {
        user: "host-user2",
        secret: Secret.from(chap.secret),
        mutualUser: mutual.mutualUser,
        mutualSecret: Secret.from(mutual.mutualSecret),
      },
    });
    await verifyTransfers(device, [4096]);
  });

  test.each([
    ["chap", { user: chap.user, secret: Secret.from("not the right secret") }],
    [
      "mutual",
      {
        user: "host-user2",
        secret: Secret.from(chap.secret),
        mutualUser: "disk-user",
        mutualSecret: Secret.from("wrong mutual secret!"),
      },
    ],
  ])("a wrong secret fails at once as such (%s)", async (target, credentials) => {
    await expect(connect(target, { chap: credentials })).rejects.toMatchObject({ layer: "login" });
  });

  test.each(["temporary", "permanent"])("follows a %s redirect, and comes back the right way", async (reason) => {
    const target = `redirect-${reason}`;
    const other = await Tgtd.start({
      controlPort: 333,
      portals: [`127.0.0.2:${PORT + 1}`],
      targets: [{ name: name(target), diskBytes: [SIZE] }],
    });
    try {
      const volume = await connect(target);
      expect(volume.sessions()[0]?.portal).toBe(`127.0.0.2:${PORT + 1}`);
      expect(volume.device.info.sizeBytes).toBe(SIZE);
      await verifyTransfers(volume.device, [4096]);
      await volume.close();
    } finally {
      await other.stop();
    }
  });

  test("a target that is not there is named as such", async () => {
    await expect(connect("missing")).rejects.toMatchObject({ layer: "login", code: "LOGIN_TARGET_NOT_FOUND" });
  });

  test("a unit that is not there, or no disk, is named as such", async () => {
    await expect(connect("plain", { lun: 7 })).rejects.toMatchObject({ layer: "block" });
    await expect(connect("plain", { lun: 0 })).rejects.toMatchObject({ code: "BLOCK_NOT_SUPPORTED" });
  });

  test("another identity than expected is refused", async () => {
    const { device } = await connect("plain");
    const { id } = device.info.identity;
    expect(id).toMatch(/^naa\./);
    await connect("plain", { expectedId: id });
    await expect(connect("plain", { expectedId: `${id}0` })).rejects.toMatchObject({ code: "BLOCK_IDENTITY_MISMATCH" });
  });

  test("releases blocks, writes zeroes and tells which blocks are allocated", async () => {
    const { device } = await connect("plain");
    expect(device.info).toMatchObject({ canUnmap: true, canReportBlockStatus: true, hasVolatileCache: true });
    const mebibyte = 1 << 20;
    await device.write(0, Buffer.alloc(4 * mebibyte, 0xee), { fua: true });
    await device.unmap([{ offsetBytes: mebibyte, lengthBytes: mebibyte }]);
    await device.writeZeroes({ offsetBytes: 2 * mebibyte, lengthBytes: mebibyte }, { fua: true });
    const data = Buffer.alloc(4 * mebibyte);
    await device.read(0, data);
    const expected = Buffer.alloc(4 * mebibyte, 0xee).fill(0, mebibyte, 3 * mebibyte);
    expect(data.equals(expected)).toBe(true);
    const extents = await device.blockStatus({ offsetBytes: 0, lengthBytes: 4 * mebibyte });
    expect(extents[0]).toMatchObject({ offsetBytes: 0, isAllocated: true });
    expect(extents.some(({ isAllocated, readsZeroes }) => !isAllocated && readsZeroes)).toBe(true);
  });

  test("one healthy portal is enough", async () => {
    const { device } = await connect("plain", { portals: [{ host: "127.0.0.1", port: 13_349 }, portal] });
    await verifyTransfers(device, [4096]);
  });

  test("a second login with the same ISID takes the place of the first, which comes back for its own", async () => {
    const isid = Buffer.from("80abcdef0102", "hex");
    const first = await connect("plain", { isid });
    const second = await connect("plain", { isid });
    await second.device.write(0, Buffer.alloc(512, 1));
    await second.close();
    await delay(100);
    await first.device.write(0, Buffer.alloc(512, 2));
    expect(first.sessions()[0]?.reconnects).toBeGreaterThan(0);
  });

  test("connecting can be cancelled", async () => {
    const stop = new AbortController();
    const connecting = connectVolume(
      volumeRequest({ portals: [portal], targetName: name("plain"), lun: 1 }),
      realDependencies(),
      stop.signal,
    );
    stop.abort();
    await expect(connecting).rejects.toMatchObject({ code: "CONNECT_CANCELLED" });
  });
});
