import { connectVolume, type ConnectedVolume, type ConnectVolumeRequest } from "../../src/initiator/connect-volume.js";
import { type InitiatorSettingTexts, parseInitiatorSettings } from "../../src/initiator/settings.js";
import type { VolumeEvent } from "../../src/initiator/connect-volume.js";
import type { DialOptions, Endpoint } from "../../src/transport/transport.js";
import { decodeTextKeys, encodeTextKeys } from "../../src/wire/text-keys.js";
import { ScriptedDisk } from "./scripted-disk.js";
import { ScriptedTarget } from "./scripted-target.js";
import { createFixture, type Fixture, INITIATOR_NAME, settle, TARGET_NAME } from "./session-fixture.js";

/** One attempt to connect, as the network saw it. */
export interface Dialling {
  readonly host: string;
  readonly atMs: number;
  readonly timeoutMs: number;
}

/** Portals of one target on a memory network, each with a disk of the same identity, and a record of who is dialled. */
export interface SettingsWorld extends Fixture {
  readonly targets: ReadonlyMap<string, ScriptedTarget>;
  readonly disk: ScriptedDisk;
  readonly diallings: Dialling[];
  /** What dialling a host fails with, instead of reaching it. */
  readonly failures: Map<string, Error>;
  connect(settings: InitiatorSettingTexts, changes?: Partial<ConnectVolumeRequest>): Promise<ConnectedVolume>;
  /** The keys that the latest login at a portal offered. */
  offered(host?: string): ReadonlyMap<string, string>;
  /** Nothing comes from the portal any more, and nobody is told. */
  blackHole(host: string, isBlackHole?: boolean): void;
}

const PORT = 3260;
const at = (host: string): Endpoint & { kind: "tcp" } => ({ kind: "tcp", host, port: PORT });

export async function settingsWorld(
  options: { readonly hosts?: readonly string[]; readonly advertised?: readonly string[] } = {},
): Promise<SettingsWorld> {
  const { hosts = ["target", "second"], advertised = hosts } = options;
  const disk = new ScriptedDisk();
  const onPdu: ScriptedTarget["onPdu"] = (connection, pdu) => {
    if (pdu.type !== "text-request") {
      disk.onPdu(connection, pdu);
      return;
    }
    const addresses = advertised.map((host) => ["TargetAddress", `${host}:${PORT},1`] as const);
    connection.send({
      ...{ type: "text-response", isFinal: true, isContinued: false, lun: pdu.lun },
      ...{ initiatorTaskTag: pdu.initiatorTaskTag, targetTransferTag: 0xffff_ffff },
      data: encodeTextKeys([["TargetName", TARGET_NAME], ...addresses]),
    });
  };
  const fixture = await createFixture({ target: { onPdu } });
  const targets = new Map([["target", fixture.target]]);
  for (const host of new Set([...hosts, ...advertised])) {
    if (!targets.has(host))
      targets.set(host, await ScriptedTarget.listen(fixture.network, { endpoint: at(host), onPdu }));
  }
  const diallings: Dialling[] = [];
  const failures = new Map<string, Error>();
  const dialer = {
    dial: (endpoint: Endpoint, dialOptions: DialOptions) => {
      const host = endpoint.kind === "tcp" ? endpoint.host : "";
      diallings.push({ host, atMs: fixture.clock.nowMs(), timeoutMs: dialOptions.timeoutMs });
      const failure = failures.get(host);
      return failure === undefined ? fixture.network.dial(endpoint, dialOptions) : Promise.reject(failure);
    },
  };
  const dependencies = { ...fixture.dependencies, dialer };
  return {
    ...{ ...fixture, dependencies, targets, disk, diallings, failures },
    connect: (texts, changes) => {
      const request: ConnectVolumeRequest = {
        portals: hosts.map((host) => ({ host, port: PORT })),
        ...{ targetName: TARGET_NAME, lun: 1, expectedId: "", initiatorName: INITIATOR_NAME },
        ...{ isid: Buffer.from("800000000001", "hex"), headerDigest: "none", dataDigest: "none" },
        settings: parseInitiatorSettings(texts),
        ...changes,
      };
      return settle(fixture.clock, connectVolume(request, dependencies));
    },
    offered: (host = "target") =>
      new Map((targets.get(host)?.connection.logins ?? []).flatMap((login) => decodeTextKeys(login.data))),
    blackHole: (host, isBlackHole = true) => {
      fixture.network.setBlackHole(at(host), isBlackHole);
      if (!isBlackHole) return;
      for (const link of fixture.network.links) if (link.dialerEnd.remoteAddress === `${host}:${PORT}`) link.stall();
    },
  };
}

/** The kinds of session events of a volume, as they come. */
export function eventsOf(volume: ConnectedVolume): VolumeEvent["event"][] {
  const events: VolumeEvent["event"][] = [];
  volume.onEvent(({ event }) => events.push(event));
  return events;
}
