// One key's use on this replica: what it has leased, what of that is in use, and what the database is still to be told.
// State only; key-limiter.ts decides when to ask the database and what to answer.
import type { Spent } from './lease-store.js';
import type { KeyLimits } from './limits.js';

export class KeyMeter {
  /** The minute that the counts below are of. */
  minute = 0;
  /** Requests leased for the minute, and how many of those have been used. */
  leased = 0;
  taken = 0;
  /** Leased by all replicas, as of the last draw. */
  drawn = 0;
  /** Tokens used by all replicas, as last read; undefined: not read yet. */
  spentBefore: Spent | undefined;
  /** Used here and not written yet. */
  unwritten = 0;
  /** Places held, and in use. */
  held = 0;
  /** performance.now() until which no other replica is thought to have given one back. */
  fullUntil = 0;
  inUse = 0;
  /** Entries that wait for their turn. */
  entering = 0;
  /** The last entry's turn: entries of one key wait for each other, so that one asks the database for all. */
  turn: Promise<unknown> = Promise.resolve();

  constructor(public limits: KeyLimits) {}

  enter(minute: number): void {
    if (minute === this.minute) return;
    this.minute = minute;
    this.leased = 0;
    this.taken = 0;
    this.drawn = 0;
    this.spentBefore = undefined;
  }

  /** Requests used by all replicas, as far as is known here. */
  get requestsUsed(): number {
    return Math.max(this.taken, this.drawn - (this.leased - this.taken));
  }

  get tokensUsed(): number {
    return (this.spentBefore?.minute ?? 0) + this.unwritten;
  }

  get spent(): number {
    return (this.spentBefore?.life ?? 0) + this.unwritten;
  }

  get idle(): boolean {
    return this.entering + this.inUse + this.held + this.unwritten === 0;
  }
}
