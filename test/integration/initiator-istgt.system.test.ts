import { Secret } from "../../src/base/secret.js";
import { discoverTargets } from "../../src/discovery/send-targets.js";
import { type ConnectedVolume, type ConnectVolumeRequest, connectVolume } from "../../src/initiator/connect-volume.js";
import { ISTGT_TARGET_NAME, Istgt } from "../support/istgt.js";
import { describeNeeding } from "../support/needs.js";
import { MIXED_SIZES_BYTES, realDependencies, verifyTransfers, volumeRequest } from "../support/real-volume.js";

const SIZE = 64 << 20;
const first = { host: "127.0.0.1", port: 13_321 };
const second = { host: "127.0.0.1", port: 13_322 };
const v6 = { host: "::1", port: 13_321 };

describeNeeding(["istgt"], "initiator against istgt", () => {
  let istgt: Istgt;
  const volumes: ConnectedVolume[] = [];

  beforeAll(async () => {
    istgt = await Istgt.start({ controlPort: 13_320, portals: [first, second, v6], diskBytes: SIZE });
  });

  afterEach(async () => {
    for (const volume of volumes.splice(0)) await volume.close();
  });

  afterAll(async () => {
    await istgt.stop();
  });

  async function connect(more: Partial<ConnectVolumeRequest> = {}): Promise<ConnectedVolume> {
    const request = volumeRequest({ portals: [first], targetName: ISTGT_TARGET_NAME, lun: 0, ...more });
    const volume = await connectVolume(request, realDependencies());
    volumes.push(volume);
    return volume;
  }

  test.each([first, v6])("discovers several portals, IPv6 among them, through $host", async (portal) => {
    const found = await discoverTargets(
      { portal, initiatorName: "iqn.2026-11.test:host", timeoutMs: 5000 },
      realDependencies(),
    );
    expect(found).toMatchObject([{ targetName: ISTGT_TARGET_NAME }]);
    const portals = found[0]!.portals.map(({ host, port }) => `${host} ${port}`);
    expect(portals).toEqual(expect.arrayContaining(["127.0.0.1 13321", "127.0.0.1 13322", "::1 13321"]));
    expect(found[0]!.portals.every(({ portalGroupTag }) => portalGroupTag === 1)).toBe(true);
  });

  test.each([
    ["none", "none"],
    ["crc32c", "crc32c"],
  ] as const)(
    "small and large transfers with header digest %s and data digest %s",
    async (headerDigest, dataDigest) => {
      const volume = await connect({ headerDigest, dataDigest });
      await verifyTransfers(volume.device, MIXED_SIZES_BYTES);
      expect(volume.sessions()).toMatchObject([{ state: "ready", reconnects: 0 }]);
    },
  );

  test("over IPv6", async () => {
    const { device } = await connect({ portals: [v6] });
    await verifyTransfers(device, [4096, 1 << 20]);
  });

  test("I/O goes on over a crash of the target", async () => {
    const volume = await connect();
    await volume.device.write(0, Buffer.alloc(4096, 5));
    await volume.device.flush();
    await istgt.kill();
    const data = Buffer.alloc(4096);
    const reading = volume.device.read(0, data);
    await istgt.launch();
    await reading;
    expect(data.every((byte) => byte === 5)).toBe(true);
    expect(volume.sessions()[0]?.reconnects).toBe(1);
  }, 60_000);
});

describeNeeding(["istgt"], "initiator against istgt with mutual CHAP", () => {
  const account = {
    user: "host-user",
    secret: "a secret of 20 bytes",
    mutualUser: "disk-user",
    mutualSecret: "another one 20 bytes",
  };
  const portal = { host: "127.0.0.1", port: 13_331 };
  let istgt: Istgt;

  beforeAll(async () => {
    istgt = await Istgt.start({ controlPort: 13_330, portals: [portal], diskBytes: 1 << 22, account });
  });

  afterAll(async () => {
    await istgt.stop();
  });

  const request = (secret: string, mutualSecret: string): ConnectVolumeRequest =>
    volumeRequest({
      portals: [portal],
      targetName: ISTGT_TARGET_NAME,
      lun: 0,
      chap: {
        user: account.user,
        secret: Secret.from(secret),
        mutualUser: account.mutualUser,
        mutualSecret: Secret.from(mutualSecret),
      },
    });

  test("both prove themselves", async () => {
    const volume = await connectVolume(request(account.secret, account.mutualSecret), realDependencies());
    await verifyTransfers(volume.device, [4096]);
    await volume.close();
  });

  test.each([
    ["ours", "not the right secret", account.mutualSecret],
    ["the target's", account.secret, "wrong mutual secret!"],
  ])("a wrong secret (%s) fails as such", async (_whose, secret, mutualSecret) => {
    await expect(connectVolume(request(secret, mutualSecret), realDependencies())).rejects.toMatchObject({
      layer: "login",
    });
  });
});
