// The beat of every replica: lead if nobody does, then look; know the rollouts; tell the workers. In this order, so that a replica has
// stopped its canary's share before its workers are told to let the canary go.
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';
import { LeaderLock } from '../storage/leader-lock.js';
import { Storage } from '../storage/storage.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { DesiredState } from '../workers/desired-state.js';
import { LiveRollouts } from './live-rollouts.js';
import { Reconciler } from './reconciler.js';

/** "rollouts" in ASCII, cut to 63 bits. */
const LOCK = 0x726f6c6c6f7574n;

@Injectable()
export class RolloutLoop implements OnModuleInit, OnModuleDestroy {
  readonly #lock: LeaderLock;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #closed = false;
  #failing = false;

  constructor(
    @Inject(Storage) storage: Storage,
    @Inject(Reconciler) private readonly reconciler: Pick<Reconciler, 'look'>,
    @Inject(LiveRollouts) private readonly live: Pick<LiveRollouts, 'refresh'>,
    @Inject(DesiredState) private readonly desired: Pick<DesiredState, 'refresh'>,
    @Inject(CONFIG) private readonly config: Pick<Config, 'rolloutInterval'>,
    @Inject(LOG) private readonly log: Log,
  ) {
    this.#lock = new LeaderLock(storage, LOCK, log);
  }

  onModuleInit(): void {
    this.#later();
  }

  async onModuleDestroy(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
    await this.#lock.release();
  }

  /** [async] Looks now, after whatever runs; never rejects. */
  beat(): Promise<void> {
    clearTimeout(this.#timer);
    this.#running = this.#running
      .then(() => this.#beat())
      .then(() => {
        this.#later();
      });
    return this.#running;
  }

  #later(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.beat(), this.config.rolloutInterval).unref();
  }

  async #beat(): Promise<void> {
    if (this.#closed) return;
    const failures: unknown[] = [];
    // A look that fails must not keep this replica from knowing and telling what others have written.
    for (const part of [() => this.#lead(), () => this.live.refresh(), () => this.desired.refresh()]) {
      await part().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0 && !this.#failing) {
      this.log.warn({ err: failures[0] }, 'rollouts could not be looked after; trying again');
    }
    this.#failing = failures.length > 0;
  }

  async #lead(): Promise<void> {
    if (await this.#lock.held()) await this.reconciler.look();
  }
}
