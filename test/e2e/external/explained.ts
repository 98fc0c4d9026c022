/** A test that fails for a reason that is known and not the driver's. */
export interface Explanation {
  /** The test's whole name. */
  readonly name: string;
  readonly reason: string;
}

/** Tests that are not run, and the expression over names that leaves them out. */
export interface LeftOut {
  readonly expression: RegExp;
  readonly reason: string;
  /** They are run after all where the node has this program. */
  readonly unless?: string;
}

/** Empty is the aim: whatever is here is something a user may run into. */
export const EXPLAINED: readonly Explanation[] = [];

export const LEFT_OUT: readonly LeftOut[] = [
  { expression: /\[Feature:SELinux\]/, reason: "needs a node that enforces SELinux" },
  {
    expression: /with any volume data source/,
    reason: "needs the images of a volume populator, which are not made here",
  },
  { expression: /should remount stale subpath bind mount/, reason: "needs crictl on the node", unless: "crictl" },
];
