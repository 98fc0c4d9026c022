import {
  formatInitiatorSettings,
  INITIATOR_SETTING_NAMES,
  parseInitiatorSettings,
  recallInitiatorSettings,
  VOLUME_SETTING_NAMES,
} from "../../../src/initiator/settings.js";

const texts = {
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
  linkDownTimeSeconds: "15",
  asyncLogoutPauseTimeoutSeconds: "10",
  srbTimeoutDeltaSeconds: "15",
  enableNopOut: "false",
  maxPendingRequests: "255",
  maxTransferLengthBytes: "262144",
  maxBurstLengthBytes: "262144",
  firstBurstLengthBytes: "65536",
  maxRecvDataSegmentLengthBytes: "65536",
  initialR2T: "false",
  immediateData: "true",
};

describe("initiator settings", () => {
  it("reads every setting, and writes what it reads", () => {
    expect(Object.keys(texts).sort()).toEqual([...INITIATOR_SETTING_NAMES].sort());
    const settings = parseInitiatorSettings(texts);
    expect(settings).toMatchObject({
      connections: 4,
      connectionWeights: [0, 10, 20, 65_535],
      errorRecoveryLevel: 2,
      maxConnectionRetries: -1,
      enableNopOut: false,
    });
    expect(formatInitiatorSettings(settings)).toEqual(texts);
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
    [{ tcpConnectTime: "15" }, /"tcpConnectTime" is not known; known: connections, /],
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

  it("are all of volumes but the one that only several sessions have a use for", () => {
    expect(VOLUME_SETTING_NAMES).toHaveLength(INITIATOR_SETTING_NAMES.length - 1);
    expect(VOLUME_SETTING_NAMES).not.toContain("linkDownTimeSeconds");
  });
});
