import { z } from "zod";
import type { ChapCredentials } from "../base/access.js";
import { MAX_PORTALS_PER_VOLUME } from "../base/limits.js";
import { Secret } from "../base/secret.js";
import { formatInitiatorSettings, parseInitiatorSettings } from "../initiator/settings.js";
import { CONNECTION_POLICIES } from "../session/connection-policy.js";
import {
  missingPathMessage,
  missingPathToMessage,
  multipathMessage,
  multipathToMessage,
  reservationMessage,
} from "./control-path-messages.js";
import type {
  AddedConnection,
  AttachedVolume,
  AttachRequest,
  ConditionUpdate,
  ConnectionStatus,
  DataplaneEvent,
  NodeCondition,
  SessionStatus,
  VolumeStatus,
} from "./api.js";

/**
 * Messages of proto/hawser/dataplane/v1 as proto-loader gives them (camelCase, defaults filled in, absent messages
 * null), and their translation to and from the types of the API. What comes in is parsed, never trusted.
 */
const chapMessage = z.object({
  user: z.string(),
  secret: z.instanceof(Buffer),
  mutualUser: z.string().nullish(),
  mutualSecret: z.instanceof(Buffer).nullish(),
});

const digest = z.enum(["none", "crc32c", "prefer-crc32c"]);

const attachRequestMessage = z.object({
  volumeHandle: z.string(),
  portals: z.array(z.object({ host: z.string(), port: z.number() })).max(MAX_PORTALS_PER_VOLUME),
  targetName: z.string(),
  lun: z.number(),
  expectedId: z.string(),
  readOnly: z.boolean(),
  shared: z.boolean(),
  headerDigest: digest,
  dataDigest: digest,
  chap: chapMessage.nullish(),
  backend: z.enum(["", "nbd", "fuse"]),
  publicationId: z.string(),
  settings: z.record(z.string(), z.string()).default({}),
});

const attachedVolumeMessage = z
  .object({
    volumeHandle: z.string(),
    devicePath: z.string(),
    deviceMajor: z.number(),
    deviceMinor: z.number(),
    backend: z.enum(["nbd", "fuse"]),
    sizeBytes: z.number(),
    logicalBlockBytes: z.number(),
    readOnly: z.boolean(),
    deviceId: z.string(),
    generation: z.number(),
    wasFormatted: z.boolean(),
  })
  .transform(({ readOnly, ...rest }): AttachedVolume => ({ ...rest, isReadOnly: readOnly }));

const count = z.number().default(0);

const recoveryMessage = z.object({
  headerDigestErrors: count,
  dataDigestErrors: count,
  dataSnacks: count,
  statusSnacks: count,
  dataAcks: count,
  rDataSnacks: count,
  recoveryR2ts: count,
  commandRetries: count,
  taskReassigns: count,
  connectionRecoveries: count,
  sessionRecoveries: count,
});

const connectionMessage = z
  .object({
    cid: z.number(),
    portal: z.string(),
    localAddress: z.string(),
    standby: z.boolean(),
    weight: z.number(),
    commandsInFlight: z.number(),
    receivedBytes: z.number(),
  })
  .transform(({ standby, ...rest }): ConnectionStatus => ({ ...rest, isStandby: standby }));

const sessionMessage = z.object({
  pathId: z.string(),
  portal: z.string(),
  targetName: z.string(),
  state: z.string(),
  tsih: z.number(),
  isid: z.string(),
  headerDigest: z.string(),
  dataDigest: z.string(),
  reconnects: z.number(),
  commandsInFlight: z.number(),
  readBytes: z.number(),
  writtenBytes: z.number(),
  readOperations: z.number(),
  writeOperations: z.number(),
  errorRecoveryLevel: z.number(),
  maxConnections: z.number(),
  taskReporting: z.string(),
  iscsiProtocolLevel: z.number(),
  extensionAnswers: z.record(z.string(), z.string()).default({}),
  connectionPolicy: z.string(),
  connections: z.array(connectionMessage),
  recovery: recoveryMessage.nullish().transform((recovery) => recovery ?? recoveryMessage.parse({})),
}) satisfies z.ZodType<SessionStatus>;

const volumeState = z.enum(["attaching", "attached", "reconnecting", "detaching", "failed"]);

const volumeStatusMessage = z
  .object({
    volumeHandle: z.string(),
    state: volumeState,
    reason: z.string(),
    volume: attachedVolumeMessage.nullish(),
    sessions: z.array(sessionMessage),
    multipath: multipathMessage.nullish(),
    reservation: reservationMessage.nullish(),
  })
  .transform(({ volume, multipath, reservation, ...rest }): VolumeStatus => ({
    ...rest,
    volume: volume ?? undefined,
    ...(multipath === null || multipath === undefined ? {} : { multipath }),
    ...(reservation === null || reservation === undefined ? {} : { reservation }),
  }));

/** Requests as the server reads them. */
export const handleMessage = z.object({ volumeHandle: z.string() });
export const setConnectionPolicyMessage = z.object({ volumeHandle: z.string(), policy: z.enum(CONNECTION_POLICIES) });
export const addConnectionMessage = z
  .object({
    volumeHandle: z.string(),
    portal: z.object({ host: z.string().min(1).max(255), port: z.int().min(1).max(65_535) }),
    weight: z.number(),
    standby: z.boolean(),
  })
  .transform(({ volumeHandle, portal, weight, standby }) => ({
    volumeHandle,
    connection: { portal, weight, isStandby: standby } satisfies AddedConnection,
  }));
export const removeConnectionMessage = z.object({ volumeHandle: z.string(), cid: z.number() });
export const markFormattedMessage = z.object({ volumeHandle: z.string(), fsType: z.string() });

/** Answers as the client reads them. */
export const addedConnectionAnswer = z.object({ cid: z.number() }).transform(({ cid }) => cid);
export const emptyMessage = z.object({}).transform(() => undefined);
export const volumeAnswer = z.object({ volume: attachedVolumeMessage }).transform(({ volume }) => volume);
export const statusAnswer = z
  .object({ status: volumeStatusMessage.nullish() })
  .transform(({ status }) => status ?? undefined);
export const statusesAnswer = z.object({ volumes: z.array(volumeStatusMessage) }).transform(({ volumes }) => volumes);
export const eventMessage = z.object({
  timeMs: z.number(),
  volumeHandle: z.string(),
  kind: z.string(),
  message: z.string(),
}) satisfies z.ZodType<DataplaneEvent>;

const nodeConditionKind = z.enum(["protection-missing", "record-damaged", "orphan-in-use"]);

export const conditionUpdateMessage = z
  .object({
    complete: z.boolean(),
    volumes: z.array(
      z.object({
        volumeHandle: z.string(),
        state: volumeState,
        code: z.string(),
        reason: z.string(),
        targetName: z.string(),
        backend: z.enum(["", "nbd", "fuse"]),
        deviceBytes: z.number(),
        lunBytes: z.number(),
        pathsUp: z.number(),
        pathsTotal: z.number(),
        pathsMissing: z.array(missingPathMessage),
      }),
    ),
    gone: z.array(z.string()),
    node: z.array(z.object({ kind: z.string(), subject: z.string(), message: z.string() })),
  })
  .transform(({ complete, node, ...rest }): ConditionUpdate => ({
    ...rest,
    isComplete: complete,
    // A newer dataplane may know kinds that this version does not.
    node: node.flatMap((entry): NodeCondition[] => {
      const kind = nodeConditionKind.safeParse(entry.kind);
      return kind.success ? [{ ...entry, kind: kind.data }] : [];
    }),
  }));

export function conditionUpdateToMessage({ isComplete, volumes, ...update }: ConditionUpdate): object {
  return {
    ...update,
    complete: isComplete,
    volumes: volumes.map((volume) => ({ ...volume, pathsMissing: volume.pathsMissing.map(missingPathToMessage) })),
  };
}

/** The request of a message. Throws INITIATOR_SETTING_INVALID. The bytes of secrets in the message are overwritten: the Secret is the only copy. */
export const attachRequestFromMessage = attachRequestMessage.transform((message): AttachRequest => {
  const { readOnly, shared, chap, backend, settings, ...rest } = message;
  return {
    ...rest,
    isReadOnly: readOnly,
    ...(shared ? { isShared: true } : {}),
    ...(Object.keys(settings).length === 0 ? {} : { settings: parseInitiatorSettings(settings) }),
    ...(chap === null || chap === undefined ? {} : { chap: chapFromMessage(chap) }),
    ...(backend === "" ? {} : { backend }),
  };
});

export function attachRequestToMessage(request: AttachRequest): object {
  const { isReadOnly, isShared, chap, backend, settings, ...rest } = request;
  return {
    ...rest,
    shared: isShared ?? false,
    settings: formatInitiatorSettings(settings ?? {}),
    readOnly: isReadOnly,
    backend: backend ?? "",
    ...(chap === undefined
      ? {}
      : {
          chap: {
            user: chap.user,
            secret: chap.secret.reveal(),
            ...(chap.mutualUser === undefined ? {} : { mutualUser: chap.mutualUser }),
            ...(chap.mutualSecret === undefined ? {} : { mutualSecret: chap.mutualSecret.reveal() }),
          },
        }),
  };
}

export function attachedVolumeToMessage({ isReadOnly, ...volume }: AttachedVolume): object {
  return { ...volume, readOnly: isReadOnly };
}

export function addConnectionToMessage(volumeHandle: string, connection: AddedConnection): object {
  const { portal, weight = 0, isStandby = false } = connection;
  return { volumeHandle, portal, weight, standby: isStandby };
}

export function volumeStatusToMessage({ volume, sessions, multipath, ...status }: VolumeStatus): object {
  return {
    ...status,
    ...(multipath === undefined ? {} : { multipath: multipathToMessage(multipath) }),
    sessions: sessions.map(sessionToMessage),
    ...(volume === undefined ? {} : { volume: attachedVolumeToMessage(volume) }),
  };
}

function sessionToMessage({ connections, ...session }: SessionStatus): object {
  return { ...session, connections: connections.map(({ isStandby, ...rest }) => ({ ...rest, standby: isStandby })) };
}

function chapFromMessage(message: z.infer<typeof chapMessage>): ChapCredentials {
  const { user, mutualUser, mutualSecret } = message;
  return {
    user,
    secret: takeSecret(message.secret),
    ...(mutualUser === null || mutualUser === undefined ? {} : { mutualUser }),
    ...(mutualSecret === null || mutualSecret === undefined ? {} : { mutualSecret: takeSecret(mutualSecret) }),
  };
}

function takeSecret(bytes: Buffer): Secret {
  const secret = Secret.from(bytes);
  bytes.fill(0);
  return secret;
}
