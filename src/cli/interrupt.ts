/** Resolves when the process is asked to stop; at once when it was asked already. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * What `work` comes to, or the reason of `signal` thrown as soon as the process is asked to stop: what the work comes to
 * after that is of no interest, and its owner takes away what it works on.
 */
export async function unlessStopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  // Handled here, since nobody looks at it any more once the signal has won.
  work.catch(() => undefined);
  return Promise.race([
    work,
    untilAborted(signal).then((): never => {
      throw signal.reason;
    }),
  ]);
}
