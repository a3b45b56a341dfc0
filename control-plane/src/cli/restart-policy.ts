// When a worker that exited starts again: at once is a busy loop if it dies at start, so the wait doubles; a worker
// that had lived a while died of something new and starts from the first wait again.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const SETTLED_MS = 60_000;

/** @param failures exits in a row so far, this one not counted @param livedMs how long the process that just exited had run */
export function nextRestart(failures: number, livedMs: number): { failures: number; waitMs: number } {
  const row = livedMs >= SETTLED_MS ? 0 : failures;
  return { failures: row + 1, waitMs: Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** row) };
}
