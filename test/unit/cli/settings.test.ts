import { Command } from "commander";
import { connectionColumns, connectionRows } from "../../../src/cli/commands/connections.js";
import { sessionColumns, sessionRows } from "../../../src/cli/commands/sessions.js";
import { addSettingOptions, settingsOf, type SettingOptions } from "../../../src/cli/initiator-settings.js";
import { formatRows } from "../../../src/cli/output.js";
import type { VolumeStatus } from "../../../src/dataplane/api.js";
import { NO_RECOVERY } from "../../support/fake-array.js";

function parse(...flags: string[]): ReturnType<typeof settingsOf> {
  const command = addSettingOptions(new Command("x"))
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  return settingsOf(command.parse(flags, { from: "user" }).opts<SettingOptions>());
}

describe("the flags of sessions", () => {
  it("name settings of the initiator", () => {
    expect(parse()).toEqual({});
    expect(
      parse(
        ...["--connections", "4", "--max-connections", "8", "--policy", "weighted-path", "--error-recovery-level", "2"],
        ...["--set", "connectionWeights=1,2,3,4", "--set", "immediateData=false"],
      ),
    ).toEqual({
      ...{ connections: 4, maxConnections: 8, connectionPolicy: "weighted-path", errorRecoveryLevel: 2 },
      ...{ connectionWeights: [1, 2, 3, 4], immediateData: false },
    });
  });

  it("name those of paths", () => {
    expect(
      parse(
        ...["--multipath", "mpio", "--path-policy", "round-robin-subset", "--path-interfaces", "eth1,10.0.0.9"],
        ...["--set", "standbyPaths=1"],
      ),
    ).toEqual({
      ...{ multipath: "mpio", pathPolicy: "round-robin-subset", pathInterfaces: ["eth1", "10.0.0.9"], standbyPaths: 1 },
    });
  });

  it.each([
    [["--multipath", "both"], /Allowed choices are off, mcs, mpio/],
    [["--path-policy", "fastest"], /Allowed choices are fail-over-only/],
    [["--path-policy", "round-robin"], /several sessions: write multipath mpio too/],
    [["--multipath", "mpio", "--connections", "2"], /layering is not supported/],
    [["--policy", "fastest"], /Allowed choices are fail-over-only/],
    [["--error-recovery-level", "3"], /Allowed choices are 0, 1, 2/],
    [["--set", "colour=red"], /write NAME=VALUE; names: multipath, connections, /],
    [["--set", "connections"], /write NAME=VALUE/],
    [["--connections", "100"], /"connections" is "100"; write a whole number from 1 to 64/],
    [["--policy", "round-robin"], /there is one: write connections too/],
  ])("refuse %j", (flags, message) => {
    expect(() => parse(...flags)).toThrow(message);
  });
});

describe("tables of sessions and connections", () => {
  const connection = {
    ...{ portal: "192.0.2.1:3260", localAddress: "192.0.2.9:50000", isStandby: false, weight: 0 },
    ...{ commandsInFlight: 3, receivedBytes: 2048 },
  };
  const status: VolumeStatus = {
    ...{ volume: undefined, volumeHandle: "vol-1", state: "attached", reason: "" },
    sessions: [
      {
        pathId: "",
        ...{ portal: "192.0.2.1:3260", targetName: "iqn.x", state: "ready", tsih: 1, isid: "800000000001" },
        ...{ headerDigest: "None", dataDigest: "None", reconnects: 0, commandsInFlight: 3 },
        ...{ readBytes: 1, writtenBytes: 2, readOperations: 3, writeOperations: 4 },
        ...{
          errorRecoveryLevel: 2,
          maxConnections: 8,
          taskReporting: "RFC3720",
          iscsiProtocolLevel: 1,
          extensionAnswers: {},
        },
        connectionPolicy: "round-robin",
        connections: [
          { cid: 0, ...connection },
          { cid: 5, ...connection, isStandby: true, weight: 7 },
        ],
        recovery: NO_RECOVERY,
      },
    ],
  };

  it("show the level, the connections of those possible, and the policy", () => {
    expect(formatRows("table", sessionRows([status]), sessionColumns)).toMatch(
      /ERL {2}CONNECTIONS {2}POLICY .*\n.* 2 +2\/8 +round-robin /,
    );
  });

  it("show each connection of each volume", () => {
    const lines = formatRows("table", connectionRows([status, { ...status, volumeHandle: "vol-2" }]), connectionColumns)
      .trimEnd()
      .split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[1]).toMatch(/^vol-1 +0 +192\.0\.2\.1:3260 +192\.0\.2\.9:50000 +active +0 +3 +2 KiB$/);
    expect(lines[4]).toMatch(/^vol-2 +5 .* standby +7 /);
  });
});
