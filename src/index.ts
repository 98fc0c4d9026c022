/**
 * Hawser as a library: the iSCSI initiator on its own, and what turns a LUN into something other programs can use.
 *
 * Everything takes `(options, dependencies)`: give it `SystemClock`, `SystemRandom`, a `TcpDialer` and a `Logger`
 * (`silentLogger` says nothing), or your own. Nothing here reads the environment or writes to the console.
 */
export type { ChapCredentials, DigestChoice, PortalAddress } from "./base/access.js";
export type { Clock, Timer } from "./base/clock.js";
export { AppError, CancelledError, TimeoutError, type RetryAdvice } from "./base/errors.js";
export { silentLogger, type LogFields, type Logger, type LogLevel } from "./base/logger.js";
export { formatPortal, parsePortal } from "./base/portal.js";
export type { Random } from "./base/random.js";
export { Secret } from "./base/secret.js";
export { SystemClock } from "./base/system-clock.js";
export { SystemRandom } from "./base/system-random.js";
export type {
  BlockDevice,
  BlockDeviceInfo,
  BlockExtent,
  ByteRange,
  DeviceEvent,
  DeviceIdentity,
  WriteOptions,
  WriteZeroesOptions,
} from "./block/device.js";
export { BlockError, type BlockErrorCode } from "./block/errors.js";
export { discoverTargets, type DiscoveredTarget, type DiscoverTargetsOptions } from "./discovery/send-targets.js";
export { runBench, type BenchOptions, type BenchResult } from "./initiator/bench.js";
export {
  connectVolume,
  type ConnectedVolume,
  type ConnectVolumeDependencies,
  type ConnectVolumeRequest,
  type VolumeConnectionStatus,
  type VolumeSessionStatus,
} from "./initiator/connect-volume.js";
export { type InitiatorSettings, parseInitiatorSettings } from "./initiator/settings.js";
export type { ReservationOptions } from "./initiator/volume-reservation.js";
export { PATH_POLICIES, type PathPolicy } from "./multipath/path-policy.js";
export type { MultipathStatus, PathControl, PathEvent, PathStatus } from "./multipath/status.js";
export { type NetworkInterfaces, SystemNetworkInterfaces } from "./host/network-interfaces.js";
export { createIsid } from "./initiator/isid.js";
export { listTargetLuns, type LunDescription } from "./initiator/list-target-luns.js";
export { NbdServer, type NbdServerOptions } from "./nbd/server.js";
export { CONNECTION_POLICIES, type ConnectionPolicy } from "./session/connection-policy.js";
export { type ConnectionPlan, DEFAULT_SESSION_TIMERS, type SessionTimers } from "./session/session-options.js";
export type {
  AccessRule,
  ConnectionSelector,
  TargetDefinition,
  TargetPortal,
  TargetRedirect,
  TargetServer,
  TargetServerControl,
  VendorEvent,
} from "./target/api.js";
export { createTargetServer } from "./target/target-server.js";
export { MemoryDevice } from "./block/memory-device.js";
export { FileDevice } from "./block/file-device.js";
export { TcpDialer, TcpListener } from "./transport/tcp.js";
export { UnixDialer, UnixListener } from "./transport/unix.js";
