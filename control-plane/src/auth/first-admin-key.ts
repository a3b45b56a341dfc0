// The first start makes one admin key and shows it once. The row that says so commits together with the key, after the showing:
// a process killed in between has shown a key that does not exist, and the next start simply shows another.
import { randomUUID } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { eq, sql } from 'drizzle-orm';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { apiKeys, settings } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import { makeKey } from './key.js';

const SHOWN = 'first_admin_key_shown';
/** Advisory lock: of two replicas that start on one empty database one makes the key. */
const LOCK = 0x73706f74_6b6579n;

@Injectable()
export class FirstAdminKey {
  constructor(
    @Inject(Storage) private readonly storage: Storage,
    @Inject(CONFIG) private readonly config: Pick<Config, 'adminKey'>,
  ) {}

  /**
   * Does nothing after the first time, or when SPOTLIGHT_ADMIN_KEY sets a key. Waits for the database.
   * @param show called with the key at most once in the life of a database
   */
  async ensure(show: (key: string) => void): Promise<void> {
    // Even where no key is made: a start with a database that cannot be used must fail here, not at the first query.
    await this.storage.ready;
    if (this.config.adminKey !== undefined) return;
    await this.storage.transaction(async (db) => {
      await db.execute(sql`select pg_advisory_xact_lock(${LOCK})`);
      const shown = await db.select().from(settings).where(eq(settings.name, SHOWN));
      if (shown.length > 0) return;
      const { key, prefix, hash } = makeKey();
      await db
        .insert(apiKeys)
        .values({ id: randomUUID(), prefix, hash, name: 'first admin key', scopes: ['admin'] });
      await db.insert(settings).values({ name: SHOWN, value: true });
      show(key);
    });
  }
}
