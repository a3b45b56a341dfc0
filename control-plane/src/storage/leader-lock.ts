// Which of several replicas leads: the one whose session holds an advisory lock, which Postgres drops with its connection. It only
// keeps replicas from doing the same work; a leader that has not noticed its loss yet must be stopped by what it writes (versions
// and generations), not by this. The embedded database has one process, which leads.
import type { Client } from 'pg';
import type { Log } from '../telemetry/log.js';
import type { Storage } from './storage.js';

export class LeaderLock {
  #session: Client | undefined;
  #closed = false;

  /** @param key any number of this purpose's own, within 63 bits */
  constructor(
    private readonly storage: Pick<Storage, 'session'>,
    private readonly key: bigint,
    private readonly log: Log,
  ) {}

  /** Whether this process leads now; tries to when nobody does. Rejects when the database does not answer. */
  async held(): Promise<boolean> {
    if (this.#closed) return false;
    if (this.#session !== undefined) return this.#stillHeld(this.#session);
    const session = await this.storage.session();
    if (session === undefined) return true;
    session.on('error', () => {
      this.#lose(session);
    });
    try {
      const { rows } = await session.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [
        this.key,
      ]);
      if (rows[0]?.held === true && !this.#isClosed()) {
        this.#session = session;
        this.log.info('this replica leads');
        return true;
      }
    } catch (error) {
      await end(session);
      throw error;
    }
    await end(session);
    return false;
  }

  /** Lets another lead at once. Idempotent. */
  async release(): Promise<void> {
    this.#closed = true;
    const session = this.#session;
    this.#session = undefined;
    if (session !== undefined) await end(session);
  }

  async #stillHeld(session: Client): Promise<boolean> {
    try {
      await session.query('select 1');
      return this.#session === session;
    } catch {
      this.#lose(session);
      return false;
    }
  }

  /** Asked anew after every wait. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #lose(session: Client): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.log.warn('this replica leads no more: its session with the database broke');
    void end(session);
  }
}

async function end(session: Client): Promise<void> {
  // A session that is broken already says so once more.
  await session.end().catch(() => undefined);
}
