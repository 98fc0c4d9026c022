import type { ChapCredentials } from "../../src/base/access.js";
import { Emitter } from "../../src/base/emitter.js";
import { AppError, CancelledError } from "../../src/base/errors.js";
import type { DeviceEvent } from "../../src/block/device.js";
import { ForwardingDevice } from "../../src/block/forwarding-device.js";
import { MemoryDevice } from "../../src/block/memory-device.js";
import { formatPortal } from "../../src/base/portal.js";
import type { VolumeConnector } from "../../src/dataplane/ports.js";
import type {
  ConnectedVolume,
  ConnectVolumeRequest,
  VolumeConnectionStatus,
} from "../../src/initiator/connect-volume.js";
import type { ReservationStatus } from "../../src/initiator/reservation-status.js";
import type { PathControl } from "../../src/multipath/status.js";
import type { ConnectionPolicy } from "../../src/session/connection-policy.js";
import type { RecoveryCounters, SessionEvent } from "../../src/session/session-events.js";
import type { ConnectionPlan } from "../../src/session/session-options.js";

/** A LUN as one connection sees it: closing it leaves the medium alone. */
class FakeLun extends ForwardingDevice {
  readonly events = new Emitter<DeviceEvent>();

  override onEvent(listener: (event: DeviceEvent) => void): () => void {
    const stopInner = this.inner.onEvent(listener);
    const stop = this.events.on(listener);
    return () => {
      stopInner();
      stop();
    };
  }

  override close(): Promise<void> {
    return Promise.resolve();
  }
}

export interface FakeSession {
  readonly request: ConnectVolumeRequest;
  readonly device: FakeLun;
  readonly events: Emitter<SessionEvent>;
  isOpen: boolean;
  policy: ConnectionPolicy;
  readonly connections: VolumeConnectionStatus[];
  /** What `renewChap` was given last. */
  renewedChap?: ChapCredentials;
}

/** An array with LUNs in memory, and a VolumeConnector for it. Survives the dataplanes of a test. */
export class FakeArray {
  readonly luns = new Map<string, MemoryDevice>();
  readonly sessions: FakeSession[] = [];
  /** What connecting fails with; undefined: it works. */
  failure: AppError | undefined;
  /** When set, connecting waits for it. */
  hold: Promise<unknown> | undefined;
  /** Of every volume that is connected from now on. */
  paths: PathControl | undefined;
  reservation: ReservationStatus | undefined;
  /** Leave the identity to the dataplane to check. */
  ignoresExpectedId = false;

  addLun(targetName: string, id: string, sizeBytes = 1_048_576): MemoryDevice {
    const device = new MemoryDevice({ sizeBytes, id });
    this.luns.set(targetName, device);
    return device;
  }

  openSessions(): readonly FakeSession[] {
    return this.sessions.filter((session) => session.isOpen);
  }

  /** The session that was opened last. */
  last(): FakeSession {
    const session = this.sessions.at(-1);
    if (session === undefined) throw new Error("no session was opened");
    return session;
  }

  connector(): VolumeConnector {
    return { connect: (request, signal) => this.#connect(request, signal) };
  }

  async #connect(request: ConnectVolumeRequest, signal?: AbortSignal): Promise<ConnectedVolume> {
    if (this.hold !== undefined) await Promise.race([this.hold, aborted(signal)]);
    if (this.failure !== undefined) throw this.failure;
    const medium = this.luns.get(request.targetName);
    if (medium === undefined) throw new AppError("login", "LOGIN_TARGET_NOT_FOUND", "no such target");
    if (!this.ignoresExpectedId && request.expectedId !== "" && request.expectedId !== medium.info.identity.id) {
      throw new AppError("block", "BLOCK_IDENTITY_MISMATCH", "another device");
    }
    // Session reinstatement: a login with the ISID of an open session ends that one.
    for (const other of this.openSessions()) {
      if (other.request.isid.equals(request.isid)) other.isOpen = false;
    }
    const session: FakeSession = {
      request,
      device: new FakeLun(medium),
      events: new Emitter(),
      isOpen: true,
      policy: request.settings?.connectionPolicy ?? "round-robin",
      connections: [fakeConnection(0, { portal: { host: "192.0.2.1", port: 3260 } })],
    };
    this.sessions.push(session);
    const { paths, reservation } = this;
    return {
      device: session.device,
      ...(paths === undefined ? {} : { paths }),
      ...(reservation === undefined ? {} : { reservation: () => reservation }),
      sessions: () => [
        {
          pathId: "",
          ...{ portal: "192.0.2.1:3260", targetName: request.targetName, state: "ready", tsih: 1 },
          ...{ isid: request.isid.toString("hex"), headerDigest: "None", dataDigest: "None", reconnects: 0 },
          ...{ commandsInFlight: 0, readBytes: 1, writtenBytes: 2, readOperations: 3, writeOperations: 4 },
          ...{
            errorRecoveryLevel: 0,
            maxConnections: 8,
            taskReporting: "RFC3720",
            iscsiProtocolLevel: 1,
            extensionAnswers: {},
          },
          ...{ connectionPolicy: session.policy, connections: session.connections, recovery: NO_RECOVERY },
        },
      ],
      onEvent: (listener) => session.events.on((event) => listener({ source: "session", event })),
      refresh: () => Promise.resolve(medium.info),
      renewChap: (chap) => {
        session.renewedChap = chap;
      },
      setConnectionPolicy: (policy) => {
        session.policy = policy;
      },
      addConnection: (plan) => {
        const cid = session.connections.length;
        session.connections.push(fakeConnection(cid, plan));
        return Promise.resolve(cid);
      },
      removeConnection: (cid) => {
        session.connections.splice(
          session.connections.findIndex((connection) => connection.cid === cid),
          1,
        );
        return Promise.resolve();
      },
      close: () => {
        session.isOpen = false;
        return Promise.resolve();
      },
    };
  }
}

export const NO_RECOVERY: RecoveryCounters = {
  ...{ headerDigestErrors: 0, dataDigestErrors: 0, dataSnacks: 0, statusSnacks: 0, dataAcks: 0, rDataSnacks: 0 },
  ...{ recoveryR2ts: 0, commandRetries: 0, taskReassigns: 0, connectionRecoveries: 0, sessionRecoveries: 0 },
};

function fakeConnection(cid: number, plan: ConnectionPlan): VolumeConnectionStatus {
  return {
    ...{ cid, portal: formatPortal(plan.portal), localAddress: "192.0.2.9:50000" },
    ...{ isStandby: plan.isStandby ?? false, weight: plan.weight ?? 0, commandsInFlight: 0, receivedBytes: 0 },
  };
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const fail = (): void => reject(new CancelledError("initiator", "CONNECT_CANCELLED", "cancelled"));
    if (signal?.aborted === true) fail();
    signal?.addEventListener("abort", fail);
  });
}
