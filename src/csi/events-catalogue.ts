import type { EventType } from "./events.js";

/** Which objects hear of it: the claim, the pods that use the volume, the node. */
export type EventAudience = "claim" | "pods" | "node";

export interface EventDefinition {
  readonly type: EventType;
  readonly action: string;
  readonly audience: readonly EventAudience[];
}

const volume = ["claim", "pods"] as const;
const volumeAndNode = ["claim", "pods", "node"] as const;
const node = ["node"] as const;

const warning = (action: string, audience: readonly EventAudience[]): EventDefinition => ({
  ...{ type: "Warning", action, audience },
});
const normal = (action: string, audience: readonly EventAudience[]): EventDefinition => ({
  ...{ type: "Normal", action, audience },
});

/**
 * Every event there is, by its reason. docs/events.md says what each means and what to do; a test keeps the two
 * together. An event about a volume of which neither claim nor pod is known goes to the node.
 */
export const EVENTS = {
  VolumeUnreachable: warning("Connect", volume),
  VolumeLoginRefused: warning("Connect", volume),
  VolumeTargetMissing: warning("Connect", volume),
  VolumeIdentityMismatch: warning("Verify", volume),
  VolumeSuperseded: warning("Publish", volume),
  VolumeDeviceLost: warning("Serve", volume),
  VolumeFailed: warning("Serve", volume),
  VolumeRestored: normal("Connect", volume),
  VolumePathLost: warning("Connect", volume),
  VolumePathsRestored: normal("Connect", volume),
  VolumePathRefused: warning("Verify", volume),
  VolumeReservationLost: warning("Reserve", volume),
  VolumeReservationHeld: warning("Reserve", volume),
  VolumeCredentialsUnreadable: warning("Publish", volume),
  VolumeDeviceBusy: warning("Detach", volume),
  VolumeNotRestartSafe: warning("Attach", volumeAndNode),
  VolumeWithoutIdentity: warning("Verify", volume),
  VolumeGrown: normal("Resize", volume),
  VolumeCapacityChanged: normal("Resize", volume),
  VolumeShrunk: warning("Resize", volume),
  FileSystemCreated: normal("Format", volume),
  FileSystemRefused: warning("Format", volume),
  FileSystemRepaired: normal("Check", volume),
  FileSystemDamaged: warning("Check", volume),
  FileSystemGrowFailed: warning("Resize", volume),
  NbdUnavailable: warning("Attach", volumeAndNode),
  HostProgramMissing: warning("Preflight", node),
  VolumeLimitReached: warning("Attach", node),
  DataplaneUnreachable: warning("Connect", node),
  DataplaneRestored: normal("Connect", node),
  ProtectionMissing: warning("Preflight", node),
  VolumeRecordDamaged: warning("Start", node),
  OrphanDeviceInUse: warning("Reconcile", node),
} satisfies Readonly<Record<string, EventDefinition>>;

export type EventReason = keyof typeof EVENTS;
