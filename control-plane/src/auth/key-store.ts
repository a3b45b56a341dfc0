// The api_keys table and its image in memory. All live keys are read at once and read again when older than TTL: an unknown key
// then costs no query, so nobody can load the database by guessing, and a revocation on another replica holds within seconds.
import { randomUUID } from 'node:crypto';
import type { OnModuleDestroy } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import { and, desc, eq, isNull, sql } from 'drizzle-orm';
import { audit } from '../audit/audit-log.js';
import { ServiceError } from '../errors/service-error.js';
import { apiKeys } from '../storage/schema.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import type { KeyLimits } from './limits.js';
import { hashKey, makeKey, prefixOf, sameHash } from './key.js';
import type { Scope } from './scopes.js';
import { isScope } from './scopes.js';

const TTL_MS = 5_000;
/** Up to this age keys are answered from memory while they are read anew, so that no request waits for the database. */
const WAIT_MS = 15_000;
/** While the database is away keys known so far stay good this long. */
const STALE_MS = 60 * 60_000;
const USES_FLUSH_MS = 10_000;

/** What may be told of a key. */
export interface KeyInfo {
  readonly id: string;
  readonly prefix: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly created: Date;
  readonly lastUsed: Date | null;
  /** null: good until revoked. */
  readonly expires: Date | null;
  readonly limits: KeyLimits;
}

/** What may be given with a new key, or changed of one. */
export interface KeyTerms {
  readonly expires?: Date | null;
  readonly limits?: { readonly [L in keyof KeyLimits]?: KeyLimits[L] | undefined };
}

interface CachedKey {
  readonly info: KeyInfo;
  readonly hash: string;
}

@Injectable()
export class KeyStore implements OnModuleDestroy {
  #byPrefix = new Map<string, CachedKey>();
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;
  readonly #uses = new Map<string, Date>();
  #usesTimer: NodeJS.Timeout | undefined;

  constructor(
    @Inject(Storage) private readonly storage: Pick<Storage, 'query' | 'transaction'>,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /** The live key this text is, or undefined. */
  async find(key: string): Promise<KeyInfo | undefined> {
    const prefix = prefixOf(key);
    if (prefix === undefined) return undefined;
    const age = Date.now() - this.#readAt;
    if (age > WAIT_MS) await this.#refresh();
    else if (age > TTL_MS) void this.#refresh();
    const found = this.#byPrefix.get(prefix);
    if (found === undefined || !sameHash(hashKey(key), found.hash)) return undefined;
    const { expires } = found.info;
    if (expires !== null && expires.getTime() <= Date.now()) return undefined;
    this.#uses.set(found.info.id, new Date());
    this.#usesTimer ??= setTimeout(() => void this.#flushUses(), USES_FLUSH_MS).unref();
    return found.info;
  }

  /** The only moment the key itself is known; good on this replica at once, on others within seconds. */
  async create(
    name: string,
    scopes: readonly Scope[],
    actor: string,
    { expires = null, limits = {} }: KeyTerms = {},
  ): Promise<{ key: string; info: KeyInfo }> {
    const { key, prefix, hash } = makeKey();
    const id = randomUUID();
    const info = await this.storage.transaction(async (db) => {
      const [row] = await db
        .insert(apiKeys)
        .values({ id, prefix, hash, name, scopes: [...scopes], expires, ...limits })
        .returning();
      if (row === undefined) throw new Error('insert returned no row');
      const made = infoOf(row);
      await audit(db, { actor, action: 'create', kind: 'key', object: id, after: termsOf(made) });
      return made;
    });
    this.#byPrefix.set(prefix, { info, hash });
    return { key, info };
  }

  /**
   * Changes what is given; in force here at once, on other replicas within seconds.
   * @throws ServiceError NOT_FOUND when no live key has this id
   */
  async change(id: string, { expires, limits }: KeyTerms, actor: string): Promise<KeyInfo> {
    const change = { ...limits, ...(expires === undefined ? {} : { expires }) };
    const { before, after } = await this.storage.transaction(async (db) => {
      const live = and(eq(apiKeys.id, id), isNull(apiKeys.revoked));
      const [old] = await db.select().from(apiKeys).where(live).for('update');
      if (old === undefined) throw noKey(id);
      const [row = old] =
        Object.keys(change).length === 0 ? [] : await db.update(apiKeys).set(change).where(live).returning();
      const [was, is] = [termsOf(infoOf(old)), termsOf(infoOf(row))];
      await audit(db, { actor, action: 'change', kind: 'key', object: id, before: was, after: is });
      return { before: old, after: row };
    });
    const info = infoOf(after);
    this.#byPrefix.set(before.prefix, { info, hash: after.hash });
    return info;
  }

  async list(): Promise<KeyInfo[]> {
    await this.#flushUses();
    const rows = await this.storage.query((db) =>
      db.select().from(apiKeys).where(isNull(apiKeys.revoked)).orderBy(desc(apiKeys.created)),
    );
    return rows.map(infoOf);
  }

  /** @throws ServiceError NOT_FOUND when no live key has this id */
  async revoke(id: string, actor: string): Promise<void> {
    const prefix = await this.storage.transaction(async (db) => {
      const [row] = await db
        .update(apiKeys)
        .set({ revoked: sql`now()` })
        .where(and(eq(apiKeys.id, id), isNull(apiKeys.revoked)))
        .returning({ prefix: apiKeys.prefix, name: apiKeys.name });
      if (row === undefined) throw noKey(id);
      await audit(db, { actor, action: 'revoke', kind: 'key', object: id, before: { name: row.name } });
      return row.prefix;
    });
    this.#byPrefix.delete(prefix);
  }

  async onModuleDestroy(): Promise<void> {
    await this.#flushUses();
  }

  /** One reader for all who wait. */
  #refresh(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    try {
      const rows = await this.storage.query((db) => db.select().from(apiKeys).where(isNull(apiKeys.revoked)));
      this.#byPrefix = new Map(rows.map((row) => [row.prefix, { info: infoOf(row), hash: row.hash }]));
      this.#readAt = Date.now();
    } catch (error) {
      if (Date.now() - this.#readAt > STALE_MS) throw error;
      this.log.warn({ err: error }, 'API keys could not be read; going by those known');
    }
  }

  async #flushUses(): Promise<void> {
    clearTimeout(this.#usesTimer);
    this.#usesTimer = undefined;
    const uses = [...this.#uses];
    this.#uses.clear();
    if (uses.length === 0) return;
    try {
      await this.storage.transaction(async (db) => {
        for (const [id, lastUsed] of uses)
          await db.update(apiKeys).set({ lastUsed }).where(eq(apiKeys.id, id));
      });
    } catch (error) {
      this.log.warn({ err: error }, 'last uses of API keys could not be written');
    }
  }
}

function infoOf(row: typeof apiKeys.$inferSelect): KeyInfo {
  const { id, prefix, name, scopes, created, lastUsed, expires } = row;
  const { requestsPerMinute, tokensPerMinute, concurrentRequests, tokenBudget } = row;
  const limits = { requestsPerMinute, tokensPerMinute, concurrentRequests, tokenBudget };
  return { id, prefix, name, scopes: scopes.filter(isScope), created, lastUsed, expires, limits };
}

/** What of a key is worth a line of the audit log. */
function termsOf({ name, scopes, expires, limits }: KeyInfo): Record<string, unknown> {
  return { name, scopes, expires: expires?.toISOString() ?? null, ...limits };
}

function noKey(id: string): ServiceError {
  return new ServiceError(ErrorCode.NOT_FOUND, `There is no key with the id "${id}".`, { field: 'id' });
}
