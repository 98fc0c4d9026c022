import type { AppError } from "../base/errors.js";
import type { Lun } from "../base/lun.js";

export type GuardVerdict =
  | { readonly kind: "accepted" }
  /** Not what it was: tasks of this unit fail, and the session looks elsewhere. */
  | { readonly kind: "refused"; readonly reason: AppError };

/**
 * Looks at a unit after the session was reconnected, before any task of before is sent again. Asks with tasks that
 * have `isProbe`. A rejection means "could not tell": the connection is dropped and everything goes on waiting.
 */
export interface ReinstatementGuard {
  readonly lun: Lun;
  verify(): Promise<GuardVerdict>;
}
