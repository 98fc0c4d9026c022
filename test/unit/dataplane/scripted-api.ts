import { Secret } from "../../../src/base/secret.js";
import { SystemClock } from "../../../src/base/system-clock.js";
import type {
  AttachedVolume,
  AttachRequest,
  ConditionUpdate,
  DataplaneApi,
  DataplaneEvent,
  VolumeStatus,
} from "../../../src/dataplane/api.js";
import { ConditionBoard } from "../../../src/dataplane/condition-board.js";
import { EventLog } from "../../../src/dataplane/event-log.js";
import type { PathStatus } from "../../../src/multipath/status.js";

export const clock = new SystemClock({ unref: true });

export const volume: AttachedVolume = {
  volumeHandle: "vol/ä 1",
  devicePath: "/dev/nbd7",
  deviceMajor: 43,
  deviceMinor: 224,
  backend: "nbd",
  sizeBytes: 8 * 2 ** 50,
  logicalBlockBytes: 4096,
  isReadOnly: true,
  deviceId: "naa.60014057",
  generation: 3,
  wasFormatted: true,
};

export const status: VolumeStatus = {
  volume,
  volumeHandle: volume.volumeHandle,
  state: "reconnecting",
  reason: "connection reset",
  sessions: [
    {
      pathId: "eth1/fd00::1->[::1]:3260",
      ...{ portal: "[::1]:3260", targetName: "iqn.x", state: "ready", tsih: 65_535, isid: "80a1b2c3d4e5" },
      ...{ headerDigest: "CRC32C", dataDigest: "None", reconnects: 2, commandsInFlight: 7 },
      ...{ readBytes: 2 ** 45, writtenBytes: 1, readOperations: 2, writeOperations: 3 },
      ...{ errorRecoveryLevel: 2, maxConnections: 8, taskReporting: "ResponseFence", iscsiProtocolLevel: 2 },
      extensionAnswers: { "X-com.example.a": "1,2" },
      connectionPolicy: "weighted-path",
      connections: [
        {
          ...{ cid: 65_535, portal: "[::1]:3260", localAddress: "[::1]:50000", isStandby: true, weight: 9 },
          ...{ commandsInFlight: 3, receivedBytes: 2 ** 44 },
        },
      ],
      recovery: {
        ...{ headerDigestErrors: 1, dataDigestErrors: 2, dataSnacks: 3, statusSnacks: 4, dataAcks: 5, rDataSnacks: 6 },
        ...{ recoveryR2ts: 7, commandRetries: 8, taskReassigns: 9, connectionRecoveries: 10, sessionRecoveries: 11 },
      },
    },
  ],
};

const path: PathStatus = {
  ...{ id: "eth1/fd00::1->[::1]:3260", state: "up", reason: "", isChosen: true, isStandby: false, weight: 7, rank: 0 },
  ...{ accessState: "active-optimized", portGroup: 0, requestsInFlight: 5, bytesInFlight: 2 ** 40 },
  ...{ readOperations: 1, writeOperations: 2, readBytes: 2 ** 45, writtenBytes: 3, bytesPerSecond: 1234.5 },
  ...{ errors: 4, failures: 6, lastEvent: "came up", lastEventTimeMs: 1_790_000_000_000 },
};

/** What the status has besides when there are several paths. */
export const pathStatus: Required<Pick<VolumeStatus, "multipath" | "reservation">> = {
  multipath: {
    policy: "least-service-time",
    heldRequests: 2 ** 40,
    paths: [
      path,
      {
        ...{ ...path, id: "10.0.0.1:3260", state: "refused", reason: "another disk", isChosen: false, isStandby: true },
        ...{ rank: 1, accessState: undefined, portGroup: undefined, lastEvent: "", lastEventTimeMs: 0 },
      },
    ],
  },
  reservation: { mode: "auto", state: "held", key: "0x686177736572002a", holderKey: "0x686177736572002b" },
};

export const request: AttachRequest = {
  volumeHandle: "vol/ä 1",
  portals: [
    { host: "2001:db8::1", port: 3260 },
    { host: "array.example", port: 860 },
  ],
  targetName: "iqn.2026-11.dev.hawser:t",
  lun: 5,
  expectedId: "naa.60014057",
  isReadOnly: true,
  isShared: true,
  headerDigest: "crc32c",
  dataDigest: "prefer-crc32c",
  publicationId: "hawser-0123456789abcdef",
  backend: "fuse",
  settings: {
    connections: 4,
    connectionPolicy: "least-queue-depth",
    enableNopOut: false,
    connectionWeights: [1, 2, 3, 4],
  },
  chap: {
    user: "u",
    secret: Secret.from(Buffer.from([0, 255, 1, 2])),
    mutualUser: "m",
    mutualSecret: Secret.from("mutual"),
  },
};

/** Answers what the test says, and keeps what it was asked. */
export class ScriptedApi implements DataplaneApi {
  readonly requests: AttachRequest[] = [];
  readonly events = new EventLog({ clock });
  readonly conditions = new ConditionBoard();
  failure: Error | undefined;
  attachHook: ((signal: AbortSignal) => Promise<void>) | undefined;

  async attach(asked: AttachRequest, signal?: AbortSignal): Promise<AttachedVolume> {
    this.requests.push(asked);
    if (this.failure !== undefined) throw this.failure;
    if (this.attachHook !== undefined && signal !== undefined) await this.attachHook(signal);
    return volume;
  }

  readonly connectionCalls: unknown[] = [];

  setConnectionPolicy(...asked: unknown[]): Promise<void> {
    this.connectionCalls.push(asked);
    return Promise.resolve();
  }

  addConnection(...asked: unknown[]): Promise<number> {
    this.connectionCalls.push(asked);
    return Promise.resolve(7);
  }

  removeConnection(...asked: unknown[]): Promise<void> {
    this.connectionCalls.push(asked);
    return Promise.resolve();
  }

  readonly pathCalls: unknown[] = [];

  setPathPolicy(...asked: unknown[]): Promise<void> {
    return this.#changePaths(asked);
  }

  changePath(...asked: unknown[]): Promise<void> {
    return this.#changePaths(asked);
  }

  #changePaths(asked: unknown): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    this.pathCalls.push(asked);
    return Promise.resolve();
  }

  /** What `get` answers. */
  status: VolumeStatus = status;

  detach(): Promise<void> {
    return this.failure === undefined ? Promise.resolve() : Promise.reject(this.failure);
  }

  resize(): Promise<AttachedVolume> {
    return Promise.resolve({ ...volume, sizeBytes: 4096 });
  }

  markFormatted(): Promise<void> {
    return Promise.resolve();
  }

  get(handle: string): Promise<VolumeStatus | undefined> {
    return Promise.resolve(handle === volume.volumeHandle ? this.status : undefined);
  }

  list(): Promise<readonly VolumeStatus[]> {
    return Promise.resolve([status, { ...status, volume: undefined, sessions: [] }]);
  }

  watch(signal: AbortSignal): AsyncIterable<DataplaneEvent> {
    return this.events.watch(signal);
  }

  watchVolumes(signal: AbortSignal): AsyncIterable<ConditionUpdate> {
    return this.conditions.watch(signal);
  }
}
