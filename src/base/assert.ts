/** A programmer's mistake: shared state may be wrong, so it is never caught and answered. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** States what must hold here whatever a peer sends. Kept on in production. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Ends an exhaustive switch: compiles only when every case is handled. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable value ${String(value)}`);
}
