// Limits of keys over two replicas, which here are two limiters on one database.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode } from '@spotlight/proto';
import { pino } from 'pino';
import type { TemporaryStorage } from '../storage/temporary-storage.fixture.js';
import { temporaryStorage } from '../storage/temporary-storage.fixture.js';
import type { ServiceError } from '../errors/service-error.js';
import type { Ticket } from './key-limiter.js';
import { KeyLimiter } from './key-limiter.js';
import { KeyStore } from './key-store.js';
import { LeaseStore } from './lease-store.js';
import type { KeyLimits } from './limits.js';
import { NO_LIMITS } from './limits.js';

const log = pino({ level: 'silent' });

describe('KeyLimiter', function () {
  this.timeout(30_000);
  let database: TemporaryStorage;
  let keys: KeyStore;
  let replicas: KeyLimiter[];
  let keyId: string;

  before(async () => {
    database = await temporaryStorage();
    keys = new KeyStore(database.storage, log);
  });
  beforeEach(async () => {
    // A test must not lie across two minutes.
    const left = 60_000 - (Date.now() % 60_000);
    if (left < 3_000) await sleep(left + 10);
    const store = new LeaseStore(database.storage);
    replicas = [new KeyLimiter(store, log), new KeyLimiter(store, log)];
    keyId = (await keys.create('limited', ['generate'], 'tester')).info.id;
  });
  afterEach(() => Promise.all(replicas.map((one) => one.onModuleDestroy())));
  after(async () => {
    await keys.onModuleDestroy();
    await database.remove();
  });

  const replica = (index: number): KeyLimiter => replicas[index % 2] ?? assert.fail();
  const enter = (index: number, limits: Partial<KeyLimits>): Promise<Ticket> =>
    replica(index).enter(keyId, { ...NO_LIMITS, ...limits });

  /** So many entries at once, spread over both replicas. */
  async function burst(
    count: number,
    limits: Partial<KeyLimits>,
  ): Promise<{ in: Ticket[]; out: ServiceError[] }> {
    const entries = await Promise.allSettled(Array.from({ length: count }, (_, i) => enter(i, limits)));
    return {
      in: entries.flatMap((entry) => (entry.status === 'fulfilled' ? [entry.value] : [])),
      out: entries.flatMap((entry) => (entry.status === 'rejected' ? [entry.reason as ServiceError] : [])),
    };
  }

  it('lets exactly so many requests of a minute in, whichever replica they come to', async () => {
    const { in: entered, out } = await burst(120, { requestsPerMinute: 50 });
    assert.equal(entered.length, 50);
    for (const error of out) {
      assert.equal(error.code, ErrorCode.RATE_LIMITED);
      assert.ok((error.retryAfterSeconds ?? 0) >= 1 && (error.retryAfterSeconds ?? 0) <= 60);
    }
    assert.match(out[0]?.message ?? '', /its 50 requests of this minute; try again in \d+ s/);
    const headers = replica(0).headers(keyId);
    assert.equal(headers['x-ratelimit-limit-requests'], '50');
    assert.equal(headers['x-ratelimit-remaining-requests'], '0');
    assert.match(headers['x-ratelimit-reset-requests'] ?? '', /^\d+s$/);
  });

  it('lets so many run at once over both replicas, and gives idle places to who needs them', async () => {
    const limits = { concurrentRequests: 6 };
    const { in: entered, out } = await burst(20, limits);
    assert.equal(entered.length, 6);
    assert.match(out[0]?.message ?? '', /its 6 requests under way/);
    await assert.rejects(enter(0, limits), { code: ErrorCode.RATE_LIMITED });
    for (const ticket of entered) {
      ticket.leave(0);
      ticket.leave(0); // Once is all that counts.
    }
    await replica(0).flush();
    await replica(1).flush();
    await sleep(150); // A refusal is good for a moment without asking again.
    const alone = await Promise.allSettled(Array.from({ length: 8 }, () => enter(1, limits)));
    assert.equal(alone.filter(({ status }) => status === 'fulfilled').length, 6);
  });

  it('keeps the places of a replica that died only until its lease ends', async () => {
    const store = new LeaseStore(database.storage);
    assert.equal(await store.hold(keyId, 'dead', 4, 4, 200), 4);
    await assert.rejects(enter(0, { concurrentRequests: 4 }), { code: ErrorCode.RATE_LIMITED });
    await sleep(250);
    await enter(0, { concurrentRequests: 4 });
  });

  it('counts tokens when requests end, and knows within a flush what other replicas have counted', async () => {
    const limits = { tokensPerMinute: 100, tokenBudget: 150 };
    (await enter(0, limits)).leave(60);
    (await enter(1, limits)).leave(50);
    await replica(0).flush();
    await replica(1).flush();
    await assert.rejects(enter(1, limits), { message: /its 100 tokens of this minute/ });
    assert.equal(replica(1).headers(keyId)['x-ratelimit-remaining-tokens'], '0');

    const more = { ...limits, tokensPerMinute: 1000 };
    (await enter(1, more)).leave(40);
    await assert.rejects(enter(1, more), {
      code: ErrorCode.RATE_LIMITED,
      openaiCode: 'insufficient_quota',
      retryable: false,
      message: /its budget of 150 tokens/,
    });
    await replica(1).flush();
    const later = new KeyLimiter(new LeaseStore(database.storage), log);
    await assert.rejects(later.enter(keyId, { ...NO_LIMITS, ...limits }), {
      openaiCode: 'insufficient_quota',
    });
    await later.onModuleDestroy();
  });

  it('asks the database for few of many entries, and for none of those it refuses', async () => {
    let draws = 0;
    const real = new LeaseStore(database.storage);
    const counting = new KeyLimiter(
      {
        draw: (...args) => {
          draws += 1;
          return real.draw(...args);
        },
        spend: (...args) => real.spend(...args),
        hold: (...args) => real.hold(...args),
        sweep: (...args) => real.sweep(...args),
      },
      log,
    );
    const limits = { ...NO_LIMITS, requestsPerMinute: 40 };
    const entries = await Promise.allSettled(
      Array.from({ length: 200 }, () => counting.enter(keyId, limits)),
    );
    assert.equal(entries.filter(({ status }) => status === 'fulfilled').length, 40);
    assert.ok(draws <= 20, `${draws} draws`);
    await counting.onModuleDestroy();
  });

  it('follows a limit that is changed', async () => {
    for (let i = 0; i < 3; i++) await enter(0, { requestsPerMinute: 3 });
    await assert.rejects(enter(0, { requestsPerMinute: 3 }));
    await enter(0, { requestsPerMinute: 4 });
    await assert.rejects(enter(0, { requestsPerMinute: 2 }));
  });

  it('asks nothing for keys without limits, and where no key is needed', async () => {
    const never = (): never => assert.fail('the database was asked');
    const none = new KeyLimiter({ draw: never, spend: never, hold: never, sweep: never }, log);
    (await none.enter(undefined, NO_LIMITS)).leave(10);
    (await none.enter(keyId, NO_LIMITS)).leave(10);
    assert.deepEqual(none.headers(keyId), {});
  });

  it('limits each replica alone while the database is away, and counts nothing twice when it is back', async () => {
    let away = true;
    const real = new LeaseStore(database.storage);
    const unless = <T>(work: () => Promise<T>): Promise<T> =>
      away ? Promise.reject(new Error('away')) : work();
    const limiter = new KeyLimiter(
      {
        draw: (...args) => unless(() => real.draw(...args)),
        spend: (...args) => unless(() => real.spend(...args)),
        hold: (...args) => unless(() => real.hold(...args)),
        sweep: (...args) => unless(() => real.sweep(...args)),
      },
      log,
    );
    const limits = { ...NO_LIMITS, requestsPerMinute: 5, concurrentRequests: 2, tokenBudget: 1000 };
    for (let i = 0; i < 5; i++) (await limiter.enter(keyId, limits)).leave(10);
    await assert.rejects(limiter.enter(keyId, limits), { message: /5 requests of this minute/ });
    await limiter.flush();
    away = false;
    await limiter.flush();
    await limiter.flush();
    assert.equal((await real.spend(keyId, 1, 0)).life, 50);
    await limiter.onModuleDestroy();
  });
});
