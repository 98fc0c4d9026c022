import type { PathStatus } from "../../src/multipath/status.js";
import type { FioResult } from "./fio-report.js";

/** One change of access states at the target, and when requests followed. */
export interface AccessChange {
  readonly policy: string;
  /** For people; AO is active/optimized, AN active/non-optimized. */
  readonly text: string;
  /** Paths, from 1 on, that requests should go over from then on. */
  readonly expected: readonly number[];
  /** The target tells only those who come through the port group that changes, and none is used: it has to be asked. */
  readonly isUntold: boolean;
  /** From the target's last change on; absent: not at all while it was watched. */
  readonly followedMs: number | undefined;
  /** States in the end: what the target has, and what our paths show. */
  readonly atTarget: readonly string[];
  readonly seen: readonly string[];
}

/** What test/kernel/guest/paths-alua.ts writes. */
export interface AccessReport {
  readonly standbyAttachMs: number;
  readonly changes: readonly AccessChange[];
  readonly load: FioResult;
  readonly paths: readonly PathStatus[];
  /** Events: states that were set by us. */
  readonly setByUs: readonly string[];
}
