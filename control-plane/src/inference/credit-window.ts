// Back-pressure of one stream as credits: the worker may run CREDIT_WINDOW steps ahead of what the client has taken.
// Credits go out in halves of the window, so that a token does not cost a message back.

/** Steps with deltas under way to one client: over a second of decode, and a few kilobytes of text. */
export const CREDIT_WINDOW = 64;

export class CreditWindow {
  #owed = 0;

  /** @param grant tells the worker; see Generation.credit */
  constructor(private readonly grant: (steps: number) => void) {}

  /**
   * One step with deltas was passed on.
   * @param open false while the client's buffer is full: the credit is kept until `release`
   */
  consumed(open: boolean): void {
    this.#owed += 1;
    if (open && this.#owed >= CREDIT_WINDOW / 2) this.release();
  }

  /** The client's buffer has drained. */
  release(): void {
    if (this.#owed === 0) return;
    const steps = this.#owed;
    this.#owed = 0;
    this.grant(steps);
  }
}
