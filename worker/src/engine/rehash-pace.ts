// A6: how much of the time rehashing may take. Pure arithmetic over seconds: while requests run every step earns a share of
// its own length, and a batch of blocks is run when what it costs has been earned; with nothing running only the time a
// newcomer would have to wait bounds a batch.

/** Longest a newcomer waits behind a batch while nothing else runs, seconds. */
const IDLE_BATCH_SECONDS = 0.02;
/** Most a step may have to wait for a batch, as a share of itself; below it single blocks go out as they are earned. */
const MOST_OF_A_STEP = 0.25;
const MOST_BLOCKS = 1024;
/** Weight of the newest measurement. */
const NEWEST = 0.3;

export class RehashPace {
  #earned = 0;
  /** A guess until the first batch is measured: one block then goes alone. */
  #blockSeconds = IDLE_BATCH_SECONDS;

  /** @param share of the time while requests run, in (0, 1] */
  constructor(private readonly share: number) {}

  /** A step has taken so long. */
  stepped(seconds: number): void {
    // What was not used does not pile up into a burst.
    const most = Math.max(this.#blockSeconds, MOST_OF_A_STEP * seconds);
    this.#earned = Math.min(this.#earned + this.share * seconds, most);
  }

  /** Blocks that may be rehashed now; 0: not before another step. */
  blocks(busy: boolean): number {
    const seconds = busy ? this.#earned : IDLE_BATCH_SECONDS;
    const fit = Math.floor(seconds / this.#blockSeconds + 1e-9);
    return Math.min(Math.max(busy ? 0 : 1, fit), MOST_BLOCKS);
  }

  /** So many blocks took so long. */
  spent(seconds: number, blocks: number, busy: boolean): void {
    if (busy) this.#earned -= seconds;
    const each = Math.max(seconds / blocks, 1e-7);
    this.#blockSeconds += (each - this.#blockSeconds) * NEWEST;
    // One measurement far below the first guess must not take ten more to be believed.
    this.#blockSeconds = Math.min(this.#blockSeconds, 2 * each);
  }
}
