import { AppError } from "../base/errors.js";
import type { VolumeState } from "./api.js";

/** The states of the API, and the one in which there is nothing to show. */
export type VolumeMachineState = VolumeState | "detached";

/** What happens to a volume. */
export type VolumeInput =
  | "attach-started"
  | "attach-succeeded"
  /** Everything the attach did was undone. */
  | "attach-undone"
  /** The volume is held by the kernel, but cannot be served now. */
  | "connection-lost"
  | "connection-restored"
  | "detach-started"
  | "detach-refused"
  | "detach-succeeded"
  | "failed";

/**
 * The life of a volume on this node. `reconnecting` means its I/O waits for the target; `failed` that it does not come
 * back by itself.
 */
const transitions: Readonly<Record<VolumeMachineState, Partial<Record<VolumeInput, VolumeMachineState>>>> = {
  detached: { "attach-started": "attaching", "connection-lost": "reconnecting", failed: "failed" },
  attaching: {
    "attach-succeeded": "attached",
    "attach-undone": "detached",
    "connection-lost": "reconnecting",
    failed: "failed",
  },
  attached: {
    "connection-lost": "reconnecting",
    "connection-restored": "attached",
    "detach-started": "detaching",
    failed: "failed",
  },
  reconnecting: {
    "attach-started": "attaching",
    "attach-succeeded": "attached",
    "attach-undone": "detached",
    "connection-lost": "reconnecting",
    "connection-restored": "attached",
    "detach-started": "detaching",
    failed: "failed",
  },
  detaching: {
    "detach-refused": "attached",
    "detach-succeeded": "detached",
    "connection-lost": "detaching",
    "connection-restored": "detaching",
    failed: "failed",
  },
  failed: {
    "attach-started": "attaching",
    "attach-undone": "detached",
    "connection-lost": "reconnecting",
    "connection-restored": "attached",
    "detach-started": "detaching",
    failed: "failed",
  },
};

/** The state after `input`; throws when that cannot happen in `state`: a mistake in our own order of steps. */
export function nextVolumeState(state: VolumeMachineState, input: VolumeInput): VolumeMachineState {
  const next = transitions[state][input];
  if (next === undefined) {
    throw new AppError("dataplane", "DATAPLANE_INTERNAL", `a volume that is ${state} cannot take "${input}"`);
  }
  return next;
}
