/** A test that fails for a reason that is known and not the driver's. */
export interface Explanation {
  /** The test's whole name. */
  readonly name: string;
  readonly reason: string;
}

/** Empty is the aim: whatever is here is something a user may run into. */
export const EXPLAINED: readonly Explanation[] = [];

/** Tests that are not run at all, with the expression that leaves them out. */
export const LEFT_OUT: readonly { readonly expression: RegExp; readonly reason: string }[] = [
  { expression: /\[Feature:SELinux\]/, reason: "needs a node that enforces SELinux" },
];
