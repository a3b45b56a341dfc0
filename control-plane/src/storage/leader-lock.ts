// Which of several replicas leads: the one whose session holds an advisory lock, which Postgres drops with its connection. It only
// keeps replicas from doing the same work; a leader that has not noticed its loss yet must be stopped by what it writes (versions
// and generations), not by this. The embedded database has one process, which leads.
import type { Client } from 'pg';
import type { Log } from '../telemetry/log.js';
import type { Storage } from './storage.js';

export class LeaderLock {
  /** Kept open whether it holds the lock or waits for it: a connection a try would be a connection a second. */
  #session: Client | undefined;
  #holds = false;
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
    const session = this.#session ?? (await this.#open());
    if (session === undefined) return true;
    try {
      if (this.#holds) await session.query('select 1');
      else await this.#try(session);
    } catch (error) {
      this.#lose(session);
      throw error;
    }
    return this.#holds && this.#session === session;
  }

  /** Lets another lead at once. Idempotent. */
  async release(): Promise<void> {
    this.#closed = true;
    const session = this.#session;
    this.#session = undefined;
    this.#holds = false;
    if (session !== undefined) await end(session);
  }

  async #open(): Promise<Client | undefined> {
    const session = await this.storage.session();
    if (session === undefined) return undefined;
    session.on('error', () => {
      this.#lose(session);
    });
    if (this.#isClosed()) await end(session);
    else this.#session = session;
    return session;
  }

  async #try(session: Client): Promise<void> {
    const { rows } = await session.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [
      this.key,
    ]);
    if (rows[0]?.held !== true || this.#session !== session) return;
    this.#holds = true;
    this.log.info('this replica leads');
  }

  /** Asked anew after every wait. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #lose(session: Client): void {
    if (this.#session !== session) return;
    if (this.#holds) this.log.warn('this replica leads no more: its session with the database broke');
    this.#session = undefined;
    this.#holds = false;
    void end(session);
  }
}

async function end(session: Client): Promise<void> {
  // A session that is broken already says so once more.
  await session.end().catch(() => undefined);
}
