// Enforces the limits of API keys over all replicas. Requests and places are leased before use and so never exceed their limit; tokens
// are known when a request ends, so a key that still has one left may begin, and what runs is not cut.
// A database that is away is no outage: each replica then goes by what it knows, and tells the rest when it is back.
import { randomUUID } from 'node:crypto';
import type { OnModuleDestroy } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { KeyMeter } from './key-meter.js';
import { LeaseStore } from './lease-store.js';
import type { KeyLimits } from './limits.js';
import { budgetSpent, isLimited, minuteOf, overRate, rateHeaders, sliceOf, tooManyAtOnce } from './limits.js';

/** How often use is written and leases are renewed. */
const WRITE_MS = 1_000;
const HELD_MS = 15_000;
const RENEW_MS = 5_000;
/** How long a key without a free place is refused without asking again. */
const FULL_MS = 100;

/** One request that was let in. */
export interface Ticket {
  /** The request has ended, having used so many tokens. Idempotent. */
  leave(tokens: number): void;
}

const OPEN: Ticket = Object.freeze({ leave: () => undefined });

@Injectable()
export class KeyLimiter implements OnModuleDestroy {
  readonly #holder = randomUUID();
  readonly #meters = new Map<string, KeyMeter>();
  #timer: NodeJS.Timeout | undefined;
  #renewedAt = 0;
  #writing: Promise<void> = Promise.resolve();
  #away = false;

  constructor(
    @Inject(LeaseStore) private readonly store: Pick<LeaseStore, 'draw' | 'spend' | 'hold' | 'sweep'>,
    @Inject(LOG) private readonly log: Log,
  ) {}

  /**
   * Lets one request in; `leave` lets it out.
   * @param keyId undefined where no key is needed
   * @throws ServiceError RATE_LIMITED with the time to wait, as a rejection
   */
  async enter(keyId: string | undefined, limits: KeyLimits): Promise<Ticket> {
    if (keyId === undefined || !isLimited(limits)) return OPEN;
    let meter = this.#meters.get(keyId);
    if (meter === undefined) this.#meters.set(keyId, (meter = new KeyMeter(limits)));
    meter.limits = limits;
    const mine = meter;
    mine.entering += 1;
    const entered = mine.turn
      .then(() => this.#admit(keyId, mine))
      .finally(() => {
        mine.entering -= 1;
      });
    mine.turn = entered.catch(() => undefined);
    this.#timer ??= setInterval(() => void this.flush(), WRITE_MS).unref();
    return entered;
  }

  /** x-ratelimit-* for a key as things are: an answer of 429 has them too. */
  headers(keyId: string | undefined): Record<string, string> {
    const meter = keyId === undefined ? undefined : this.#meters.get(keyId);
    return meter === undefined ? {} : rateHeaders(meter.limits, meter, Date.now());
  }

  /** Writes what was used, renews or gives back what is held. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async onModuleDestroy(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
    await this.#ask(() => this.store.sweep(minuteOf(Date.now()), this.#holder, [...this.#meters.keys()]));
  }

  async #admit(keyId: string, meter: KeyMeter): Promise<Ticket> {
    const now = Date.now();
    meter.enter(minuteOf(now));
    const { tokenBudget, tokensPerMinute, concurrentRequests, requestsPerMinute } = meter.limits;
    if (tokenBudget !== null || tokensPerMinute !== null) {
      meter.spentBefore ??= await this.#ask(() => this.store.spend(keyId, meter.minute, 0));
    }
    if (tokenBudget !== null && meter.spent >= tokenBudget) throw budgetSpent(tokenBudget);
    if (tokensPerMinute !== null && meter.tokensUsed >= tokensPerMinute) {
      throw overRate('tokens', tokensPerMinute, now);
    }
    if (concurrentRequests !== null) await this.#place(keyId, meter, concurrentRequests);
    if (requestsPerMinute !== null) await this.#take(keyId, meter, requestsPerMinute, now);
    meter.inUse += 1;
    let left = false;
    return {
      leave: (tokens) => {
        if (left) return;
        left = true;
        meter.inUse -= 1;
        meter.unwritten += tokens;
      },
    };
  }

  /** Makes sure that one more request has a place. */
  async #place(keyId: string, meter: KeyMeter, limit: number): Promise<void> {
    if (meter.inUse < Math.min(meter.held, limit)) return;
    const now = performance.now();
    if (now < meter.fullUntil) throw tooManyAtOnce(limit);
    const wanted = Math.min(limit, meter.inUse + sliceOf(limit));
    const held = await this.#ask(() => this.store.hold(keyId, this.#holder, wanted, limit, HELD_MS));
    meter.held = held ?? limit;
    if (meter.inUse < meter.held) return;
    meter.fullUntil = now + FULL_MS;
    throw tooManyAtOnce(limit);
  }

  async #take(keyId: string, meter: KeyMeter, limit: number, now: number): Promise<void> {
    // A minute that is used up stays so: refusals cost no query.
    if (meter.taken >= meter.leased && meter.drawn < limit) {
      const drawn = await this.#ask(() => this.store.draw(keyId, meter.minute, sliceOf(limit), limit));
      if (drawn === undefined) meter.leased = limit;
      else {
        meter.leased += drawn.granted;
        meter.drawn = drawn.used;
      }
    }
    if (meter.taken >= Math.min(meter.leased, limit)) throw overRate('requests', limit, now);
    meter.taken += 1;
  }

  async #write(): Promise<void> {
    const now = Date.now();
    const minute = minuteOf(now);
    const renew = now - this.#renewedAt >= RENEW_MS;
    if (renew) this.#renewedAt = now;
    for (const [keyId, meter] of this.#meters) {
      await this.#writeTokens(keyId, meter, minute);
      if (renew && meter.held > 0) await this.#renew(keyId, meter);
      // What else it knows is of a minute that has passed; the next request reads it anew.
      if (meter.idle && meter.minute !== minute) this.#meters.delete(keyId);
    }
    if (renew && this.#meters.size > 0) await this.#ask(() => this.store.sweep(minute, this.#holder, []));
  }

  async #writeTokens(keyId: string, meter: KeyMeter, minute: number): Promise<void> {
    const { unwritten } = meter;
    const fresh = meter.minute === minute && meter.spentBefore !== undefined;
    // While it is in use, what other replicas have used is read along.
    if (unwritten === 0 && !(fresh && meter.inUse > 0)) return;
    const spent = await this.#ask(() => this.store.spend(keyId, minute, unwritten));
    if (spent === undefined) return;
    meter.unwritten -= unwritten;
    if (meter.minute === minute) meter.spentBefore = spent;
  }

  /** Idle places go back: another replica may have use for them. In the key's turn, so that no entry counts on them. */
  async #renew(keyId: string, meter: KeyMeter): Promise<void> {
    const renewed = meter.turn.then(async () => {
      const limit = meter.limits.concurrentRequests ?? 0;
      const held = await this.#ask(() => this.store.hold(keyId, this.#holder, meter.inUse, limit, HELD_MS));
      if (held !== undefined) meter.held = held;
    });
    meter.turn = renewed;
    await renewed;
  }

  /** undefined when the database is away, which is said once. */
  async #ask<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      const answer = await work();
      if (this.#away) this.log.info('the database answers again: limits of keys hold over all replicas');
      this.#away = false;
      return answer;
    } catch (error) {
      if (!this.#away) {
        this.log.warn(
          { err: error },
          'limits of keys hold for each replica alone while the database is away',
        );
      }
      this.#away = true;
      return undefined;
    }
  }
}
