import {
  formatInitiatorSettings,
  INITIATOR_SETTING_NAMES,
  parseInitiatorSettings,
  recallInitiatorSettings,
} from "../../../src/initiator/settings.js";

/** Of a volume with several connections, which has no use for those of paths, and the other way round. */
const connectionTexts = {
  multipath: "mcs",
  connections: "4",
  maxConnections: "6",
  connectionPolicy: "least-queue-depth",
  standbyConnections: "1",
  connectionWeights: "0,10,20,65535",
  errorRecoveryLevel: "2",
  portalHopping: "advertised",
  portalRetryCount: "5",
  tcpConnectTimeSeconds: "15",
  networkReadyRetryCount: "10",
  delayBetweenReconnectSeconds: "1",
  maxConnectionRetries: "-1",
  maxRequestHoldTimeSeconds: "60",
  asyncLogoutPauseTimeoutSeconds: "10",
  srbTimeoutDeltaSeconds: "15",
  enableNopOut: "true",
  nopOutIntervalSeconds: "1",
  nopOutTimeoutSeconds: "300",
  fencing: "required",
  maxPendingRequests: "255",
  maxTransferLengthBytes: "262144",
  maxBurstLengthBytes: "262144",
  firstBurstLengthBytes: "65536",
  maxRecvDataSegmentLengthBytes: "65536",
  initialR2T: "false",
  immediateData: "true",
};

const pathTexts = {
  multipath: "mpio",
  pathPolicy: "least-service-time",
  pathInterfaces: "eth1,10.0.0.9,fd00::9,bond0.100",
  standbyPaths: "1",
  pathWeights: "0,65535",
  retryCount: "3",
  retryIntervalSeconds: "0",
  pathVerifyEnabled: "true",
  pathVerificationPeriodSeconds: "30",
  linkDownTimeSeconds: "15",
  pdoRemovePeriodSeconds: "20",
  failbackDelaySeconds: "-1",
};
const mpio = { multipath: "mpio" };

describe("initiator settings", () => {
  it("reads every setting, and writes what it reads", () => {
    const names = new Set([...Object.keys(connectionTexts), ...Object.keys(pathTexts)]);
    expect([...names].sort()).toEqual([...INITIATOR_SETTING_NAMES].sort());
    const settings = parseInitiatorSettings(connectionTexts);
    expect(settings).toMatchObject({
      multipath: "mcs",
      connections: 4,
      connectionWeights: [0, 10, 20, 65_535],
      errorRecoveryLevel: 2,
      maxConnectionRetries: -1,
      nopOutTimeoutSeconds: 300,
    });
    expect(formatInitiatorSettings(settings)).toEqual(connectionTexts);
    const ofPaths = parseInitiatorSettings(pathTexts);
    expect(ofPaths).toEqual({
      multipath: "mpio",
      pathPolicy: "least-service-time",
      pathInterfaces: ["eth1", "10.0.0.9", "fd00::9", "bond0.100"],
      standbyPaths: 1,
      pathWeights: [0, 65_535],
      retryCount: 3,
      retryIntervalSeconds: 0,
      pathVerifyEnabled: true,
      pathVerificationPeriodSeconds: 30,
      linkDownTimeSeconds: 15,
      pdoRemovePeriodSeconds: 20,
      failbackDelaySeconds: -1,
    });
    expect(formatInitiatorSettings(ofPaths)).toEqual(pathTexts);
    expect(parseInitiatorSettings({})).toEqual({});
    expect(formatInitiatorSettings({ connections: 1, initialR2T: undefined })).toEqual({ connections: "1" });
  });

  it.each([
    [{ connections: "0" }, /"connections" is "0"; write a whole number from 1 to 64/],
    [{ connections: "65" }, /from 1 to 64/],
    [{ connections: "2.0" }, /whole number/],
    [{ connections: " 2" }, /whole number/],
    [{ connectionPolicy: "fastest", connections: "2" }, /write fail-over-only, round-robin, round-robin-subset/],
    [{ connectionPolicy: "round-robin" }, /there is one: write connections too/],
    [{ connections: "4", maxConnections: "3" }, /"maxConnections" is 3, but 4 connections are wanted/],
    [{ connections: "2", standbyConnections: "2" }, /leaves none of 2 connections active/],
    [{ connections: "2", connectionWeights: "1" }, /1 weights for 2 connections/],
    [{ connections: "2", connectionWeights: "1,70000" }, /numbers from 0 to 65535/],
    [{ connections: "2", connectionWeights: "1,,2" }, /with commas between/],
    [{ errorRecoveryLevel: "3" }, /write 0, 1 or 2/],
    [{ portalHopping: "yes" }, /write pinned, listed, advertised/],
    [{ maxConnectionRetries: "0" }, /would end the volume with its first outage/],
    [{ maxConnectionRetries: "-2" }, /from -1/],
    [{ enableNopOut: "0" }, /write true or false/],
    [{ maxTransferLengthBytes: "512" }, /from 4096/],
    [{ maxBurstLengthBytes: "16777216" }, /from 512 to 16777215/],
    [{ firstBurstLengthBytes: "65536", maxBurstLengthBytes: "32768" }, /must not be more than maxBurstLengthBytes/],
    [{ tcpConnectTime: "15" }, /"tcpConnectTime" is not known; known: multipath, connections, /],
    [{ multipath: "both" }, /write off, mcs, mpio/],
    [{ multipath: "off", connections: "2" }, /"connections" is 2, but multipath is off; write multipath mcs/],
    [{ multipath: "off", maxConnections: "2" }, /"maxConnections" is 2, but multipath is off/],
    [{ multipath: "off", pathPolicy: "round-robin" }, /"pathPolicy" is for a volume with several sessions/],
    [{ multipath: "mcs", connections: "1", connectionPolicy: "round-robin" }, /there is one/],
    [{ multipath: "mcs", maxConnections: "1", connectionPolicy: "round-robin" }, /there is one/],
    [{ multipath: "mcs", connections: "2", standbyConnections: "2" }, /leaves none of 2 connections active/],
    [{ ...mpio, connections: "2" }, /"connections" does not go together with multipath mpio: .* layering is not supp/],
    [
      { ...mpio, maxConnections: "2" },
      /"maxConnections" .* several sessions and several connections in one session are/,
    ],
    [{ ...mpio, connectionPolicy: "round-robin" }, /"connectionPolicy" .* layering is not supported/],
    [{ ...mpio, standbyConnections: "1" }, /"standbyConnections" .* layering is not supported/],
    [{ ...mpio, connectionWeights: "1" }, /"connectionWeights" .* layering is not supported/],
    [{ ...mpio, errorRecoveryLevel: "2" }, /"errorRecoveryLevel" .* with level 2 \(write 0 or 1\): .* layering is not/],
    [{ ...mpio, portalHopping: "pinned" }, /each path keeps to its portal anyway/],
    [{ ...mpio, maxConnectionRetries: "5" }, /each is looked for for ever/],
    [{ ...mpio, maxRequestHoldTimeSeconds: "60" }, /write pdoRemovePeriodSeconds, which is its equivalent/],
    [{ ...mpio, pathPolicy: "fastest" }, /write fail-over-only, .*, least-service-time/],
    [{ ...mpio, pathInterfaces: "" }, /write all, or 1 to 16 names of interfaces/],
    [{ ...mpio, pathInterfaces: "all,eth0" }, /write all, or 1 to 16/],
    [{ ...mpio, pathInterfaces: "eth0,eth0" }, /each once/],
    [{ ...mpio, pathInterfaces: "eth0, eth1" }, /write all, or/],
    [{ ...mpio, pathInterfaces: "sixteen-letters0" }, /write all, or/],
    [{ ...mpio, pathInterfaces: "../eth0" }, /write all, or/],
    [{ ...mpio, pathInterfaces: ".." }, /write all, or/],
    [{ ...mpio, pathInterfaces: "[fd00::9]" }, /IPv6 without brackets/],
    [{ ...mpio, pathInterfaces: "fd00::9::1" }, /write all, or/],
    [{ ...mpio, pathInterfaces: "10.0.0.256" }, /write all, or/],
    [{ ...mpio, pathInterfaces: Array.from({ length: 17 }, (_, index) => `eth${index}`).join(",") }, /1 to 16/],
    [{ ...mpio, standbyPaths: "65" }, /from 0 to 64/],
    [{ ...mpio, pathWeights: Array.from({ length: 33 }, () => "1").join(",") }, /at most 32/],
    [{ ...mpio, retryCount: "101" }, /from 0 to 100/],
    [{ ...mpio, retryIntervalSeconds: "301" }, /from 0 to 300/],
    [{ ...mpio, pathVerifyEnabled: "1" }, /write true or false/],
    [{ ...mpio, pathVerificationPeriodSeconds: "0" }, /from 1 to 86400/],
    [{ ...mpio, pathVerifyEnabled: "false", pathVerificationPeriodSeconds: "5" }, /useless while pathVerifyEnabled is/],
    [{ ...mpio, pdoRemovePeriodSeconds: "86401" }, /from 0 to 86400/],
    [{ ...mpio, failbackDelaySeconds: "-2" }, /from -1 to 86400/],
    [{ nopOutIntervalSeconds: "0" }, /from 1 to 300/],
    [{ nopOutTimeoutSeconds: "301" }, /from 1 to 300/],
    [{ enableNopOut: "false", nopOutIntervalSeconds: "5" }, /"nopOutIntervalSeconds" is useless while enableNopOut/],
    [{ enableNopOut: "false", nopOutTimeoutSeconds: "5" }, /"nopOutTimeoutSeconds" is useless while enableNopOut/],
    [{ fencing: "on" }, /write off, auto, required/],
  ])("refuses %j", (wrong, message) => {
    const attempt = (): unknown => parseInitiatorSettings(wrong);
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(expect.objectContaining({ code: "INITIATOR_SETTING_INVALID", layer: "initiator" }));
  });

  it("leaves out what another version wrote and this one does not know or take", () => {
    expect(recallInitiatorSettings({ connections: "2", fromTheFuture: "1", errorRecoveryLevel: "9" })).toEqual({
      connections: 2,
    });
  });

  it.each([
    [{ ...mpio, connections: "1", maxConnections: "1", standbyConnections: "0", errorRecoveryLevel: "1" }],
    [{ ...mpio, portalHopping: "advertised" }],
    [{ ...mpio, pathInterfaces: "all" }],
    [{ multipath: "off", connections: "1" }],
    [{ multipath: "mcs" }],
    [{ multipath: "mcs", connectionPolicy: "least-queue-depth", standbyConnections: "1", connectionWeights: "1,2" }],
    [{ multipath: "mcs", maxConnections: "4", connectionPolicy: "weighted-path" }],
    [{ connections: "2", connectionPolicy: "round-robin", fencing: "off" }],
  ])("takes %j", (texts) => {
    expect(formatInitiatorSettings(parseInitiatorSettings(texts))).toEqual(texts);
  });

  it.each(Object.keys(pathTexts).filter((name) => name !== "multipath"))(
    "refuses %s for a volume that has no paths",
    (name) => {
      const alone = { [name]: new Map(Object.entries(pathTexts)).get(name) ?? "" };
      expect(parseInitiatorSettings({ ...mpio, ...alone })).toHaveProperty(name);
      const message = new RegExp(`"${name}" is for a volume with several sessions: write multipath mpio too`);
      for (const texts of [alone, { ...alone, multipath: "mcs" }, { ...alone, connections: "2" }]) {
        expect(() => parseInitiatorSettings(texts)).toThrow(message);
      }
    },
  );
});
