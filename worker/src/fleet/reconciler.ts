// A5-A7: brings the artifact slots to what is wanted, one action of plan.ts at a time: fetch, load, wait for the background rehash,
// flip, let the old one go. Holds nothing but what is wanted and why something failed; all else is read anew each time.
import type { ArtifactInfo, SlotId } from '@spotlight/cuda';
import { toEngineError } from '@spotlight/cuda';
import { ArtifactSlot, SlotState } from '@spotlight/proto';
import type { Logger } from 'pino';
import type { SlotTable } from '../artifact/slots.js';
import type { ArtifactStore } from '../artifact/store.js';
import { StoreError } from '../artifact/store.js';
import { misfit } from '../artifact/suits.js';
import type { BackoffLimits } from './backoff.js';
import { waitBefore } from './backoff.js';
import type { Action, Plan, SlotView, WantedArtifact } from './plan.js';
import { plan } from './plan.js';

/** How often a state that depends on running requests or on rehashing is looked at again. */
const LOOK_MS = 50;
/** Errors of a file that will be the same the next time. */
const LASTING = ['ARTIFACT_MISMATCH', 'ARTIFACT_CORRUPT'];

/** What the engine's loop says of a slot. */
export interface SlotUse {
  /** Requests pinned to it, running and waiting. */
  pinned(slot: SlotId): number;
  /** Share of the cached blocks whose codes are of its artifact. */
  rehashed(slot: SlotId): number;
  /** Native sequences of ended requests are still to be closed. */
  readonly closing: boolean;
}

export interface ReconcilerOptions {
  readonly slots: SlotTable;
  readonly store: Pick<ArtifactStore, 'find' | 'fetch' | 'discard' | 'prune'>;
  readonly inspect: (path: string) => Promise<ArtifactInfo>;
  readonly use: SlotUse;
  readonly log: Logger;
  readonly backoff?: BackoffLimits;
}

interface Failure {
  readonly message: string;
  readonly attempts: number;
  /** performance.now() of the next try; Infinity: not before another directive. */
  readonly retryAt: number;
}

/** Why an artifact cannot be measured here. */
export class MeasureError extends Error {
  override readonly name = 'MeasureError';
  constructor(
    readonly code: 'NOT_FOUND' | 'FAILED_PRECONDITION' | 'UNAVAILABLE',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export class Reconciler {
  #wanted: readonly WantedArtifact[] = [];
  readonly #failures = new Map<string, Failure>();
  /** Epochs whose cached blocks have all been rehashed once. */
  readonly #ready = new Map<SlotId, bigint>();
  readonly #listeners: (() => void)[] = [];
  #step: { readonly slot: SlotId; readonly digest: string; readonly state: SlotState } | undefined;
  #measured: SlotId | undefined;
  #running = false;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #told = '';

  constructor(private readonly options: ReconcilerOptions) {}

  /** These artifacts are to be held from now on. `fresh`: what has failed is tried again. */
  want(wanted: readonly WantedArtifact[], fresh: boolean): void {
    this.#wanted = wanted;
    if (fresh) this.#failures.clear();
    this.#kick();
  }

  /** Whether every wanted artifact is ready and the active one takes new requests. */
  get inForce(): boolean {
    return this.#plan().inForce;
  }

  /** What keeps the wanted artifacts from being there; '' when nothing does. */
  get message(): string {
    const { pending } = this.#plan();
    const lines = pending.map(({ digest, waitsFor }) => {
      const failure = this.#failures.get(digest);
      if (failure !== undefined) return failure.message;
      return waitsFor === '' ? `artifact ${digest} is on its way` : `artifact ${digest} waits: ${waitsFor}`;
    });
    return lines.join('; ');
  }

  /** Calls back after every change of a slot. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The slots as they go out in Describe, Hello and reports. */
  list(): ArtifactSlot[] {
    const { pending } = this.#plan();
    const { slots, use } = this.options;
    return slots.list().map(({ slot, artifact, active, epoch }) => {
      const next = pending.find((each) => each.slot === slot);
      const failure = next === undefined ? undefined : this.#failures.get(next.digest);
      const acting = this.#step?.slot === slot ? this.#step : undefined;
      const state =
        acting?.state ??
        (failure !== undefined
          ? SlotState.FAILED
          : next !== undefined
            ? SlotState.LOADING
            : this.#settledState(slot, artifact, epoch));
      return ArtifactSlot.fromPartial({
        slot,
        artifactDigest: artifact?.digest ?? '',
        active,
        epoch,
        encoder: artifact?.encoder ?? '',
        bits: artifact?.bits ?? 0,
        rehashed: artifact === undefined ? 0 : use.rehashed(slot),
        state,
        message: acting === undefined ? (failure?.message ?? next?.waitsFor ?? '') : '',
        pendingDigest: acting?.digest ?? next?.digest ?? '',
        requests: use.pinned(slot),
      });
    });
  }

  /**
   * [async] Runs `work` on a slot that holds the artifact: the one that has it, or the free one, which is empty again afterwards
   * and takes no request meanwhile. @throws MeasureError
   */
  async measure<T>(digest: string, work: (slot: SlotId) => Promise<T>): Promise<T> {
    const { slots } = this.options;
    if (this.#measured !== undefined) throw busy('an artifact is being measured already');
    const held = slots.find(digest);
    if (held !== undefined) return this.#measuring(held, () => work(held));
    const path = await this.#fetchToMeasure(digest);
    const slot = this.#freeSlot();
    return this.#measuring(slot, async () => {
      await this.#loadToMeasure(slot, path);
      try {
        return await work(slot);
      } finally {
        await this.#unloadMeasured(slot);
      }
    });
  }

  /** Nothing is begun any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  // ---- what is ------------------------------------------------------------------------------------------------------

  #plan(): Plan {
    const now = performance.now();
    const failed = new Set<string>();
    for (const [digest, { retryAt }] of this.#failures) if (retryAt > now) failed.add(digest);
    return plan(this.#wanted, this.#views(), failed);
  }

  #views(): SlotView[] {
    const { slots, use } = this.options;
    return slots.list().map(({ slot, artifact, active, epoch }) => ({
      slot,
      digest: artifact?.digest ?? '',
      active,
      requests: use.pinned(slot) + Number(this.#measured === slot),
      ready: artifact !== undefined && this.#isReady(slot, epoch),
    }));
  }

  /** Once all has been rehashed a slot stays ready: stragglers that turn up are rehashed before they are used. */
  #isReady(slot: SlotId, epoch: bigint): boolean {
    if (this.#ready.get(slot) === epoch) return true;
    if (this.options.use.rehashed(slot) < 1) return false;
    this.#ready.set(slot, epoch);
    return true;
  }

  #settledState(slot: SlotId, artifact: ArtifactInfo | undefined, epoch: bigint): SlotState {
    if (artifact === undefined) return this.#measured === slot ? SlotState.LOADING : SlotState.EMPTY;
    return this.#isReady(slot, epoch) ? SlotState.READY : SlotState.REHASHING;
  }

  // ---- what is done -------------------------------------------------------------------------------------------------

  #kick(): void {
    if (this.#running || this.#stopped) return;
    clearTimeout(this.#timer);
    void this.#run();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    this.#running = true;
    let settled = false;
    try {
      while (!this.#stopped) {
        const next = this.#plan();
        this.#tellChanges();
        settled = next.settled;
        if (next.action === undefined || !(await this.#act(next.action))) break;
      }
    } catch (error) {
      settled = false;
      this.options.log.error({ err: error }, 'an artifact slot could not be changed, trying again');
    }
    this.#running = false;
    this.#lookAgain(settled);
  }

  /** What is waited for gives no sign of its own. */
  #lookAgain(settled: boolean): void {
    clearTimeout(this.#timer);
    if (settled || this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#kick();
    }, LOOK_MS);
    this.#timer.unref();
  }

  /** False: not now, look again later. */
  async #act(action: Action): Promise<boolean> {
    const { slots, log } = this.options;
    switch (action.kind) {
      case 'activate':
        slots.activate(action.slot);
        log.info({ slot: action.slot, digest: slots.artifact?.digest }, 'artifact active');
        return true;
      case 'unload':
        if (this.options.use.closing) return false;
        await slots.unload(action.slot);
        log.info({ slot: action.slot }, 'artifact let go');
        return true;
      case 'load':
        return this.#load(action.slot, action.digest);
    }
  }

  async #load(slot: SlotId, digest: string): Promise<boolean> {
    const { store, slots, log } = this.options;
    try {
      let path = await store.find(digest);
      if (path === undefined) {
        this.#begin(slot, digest, SlotState.FETCHING);
        path = await store.fetch(digest);
      }
      this.#begin(slot, digest, SlotState.LOADING);
      const info = await this.options.inspect(path);
      await this.#check(info, digest);
      // The world may have moved on while bytes came.
      const { action } = this.#plan();
      if (action?.kind !== 'load' || action.slot !== slot || action.digest !== digest) return true;
      if (this.options.use.closing) return false;
      await slots.load(slot, path);
      this.#failures.delete(digest);
      log.info({ slot, digest, encoder: info.encoder, bits: info.bits }, 'artifact loaded');
      await store.prune(new Set(slots.list().flatMap(({ artifact }) => artifact?.digest ?? [])));
      return true;
    } catch (error) {
      await this.#fail(digest, error);
      return true;
    } finally {
      this.#step = undefined;
    }
  }

  #begin(slot: SlotId, digest: string, state: SlotState): void {
    this.#step = { slot, digest, state };
    this.#tellChanges();
  }

  /** @throws MeasureError, StoreError */
  async #check(info: ArtifactInfo, digest: string): Promise<void> {
    if (info.digest !== digest) {
      await this.options.store.discard(digest);
      throw new StoreError(
        'MISMATCH',
        `the file of artifact ${digest} has digest ${info.digest}: it is fetched anew`,
      );
    }
    for (const { artifact } of this.options.slots.list()) {
      const reason = artifact === undefined ? undefined : misfit(info, artifact);
      if (reason !== undefined) throw new MeasureError('FAILED_PRECONDITION', reason);
    }
  }

  async #fail(digest: string, thrown: unknown): Promise<void> {
    const { code, message } = thrown as { code?: string; message: string };
    if (code === 'ARTIFACT_CORRUPT') await this.options.store.discard(digest);
    const attempts = (this.#failures.get(digest)?.attempts ?? 0) + 1;
    const lasting = thrown instanceof MeasureError || LASTING.includes(code ?? '') || code === 'INVALID';
    const { backoff = { firstMs: 500, mostMs: 30_000 } } = this.options;
    const retryAt = lasting ? Infinity : performance.now() + waitBefore(attempts, Math.random(), backoff);
    this.#failures.set(digest, { message, attempts, retryAt });
    this.options.log.warn({ digest, code, attempts, lasting, reason: message }, 'an artifact cannot be held');
  }

  /** Tells listeners when what list() says has changed, whole percents of rehashing counted. */
  #tellChanges(): void {
    const { inForce } = this;
    const facts = this.list().map((slot) => [
      slot.artifactDigest,
      slot.active,
      slot.state,
      slot.pendingDigest,
      slot.message,
    ]);
    const now = JSON.stringify([inForce, facts]);
    if (now === this.#told) return;
    this.#told = now;
    for (const listener of this.#listeners) listener();
  }

  // ---- measuring ----------------------------------------------------------------------------------------------------

  async #measuring<T>(slot: SlotId, work: () => Promise<T>): Promise<T> {
    this.#measured = slot;
    try {
      return await work();
    } finally {
      this.#measured = undefined;
      this.#kick();
    }
  }

  async #fetchToMeasure(digest: string): Promise<string> {
    try {
      const path = await this.options.store.fetch(digest);
      await this.#check(await this.options.inspect(path), digest);
      return path;
    } catch (error) {
      throw this.#explain(error);
    }
  }

  /** @throws MeasureError UNAVAILABLE */
  #freeSlot(): SlotId {
    const { slots, use } = this.options;
    // Looked at again: fetching took its time.
    if (this.#measured !== undefined) throw busy('an artifact is being measured already');
    const { pending } = this.#plan();
    for (const { slot, artifact, active } of slots.list()) {
      const isFree = artifact === undefined && !active && use.pinned(slot) === 0;
      if (isFree && this.#step === undefined && pending.length === 0) return slot;
    }
    throw busy('both artifact slots are taken');
  }

  async #loadToMeasure(slot: SlotId, path: string): Promise<void> {
    try {
      await this.options.slots.load(slot, path, { closed: true });
    } catch (error) {
      // Refused before anything changed: the slot is empty, and open again.
      await this.#unloadMeasured(slot);
      throw this.#explain(error);
    }
  }

  async #unloadMeasured(slot: SlotId): Promise<void> {
    while (this.options.use.closing) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    await this.options.slots.unload(slot);
  }

  #explain(error: unknown): unknown {
    if (error instanceof MeasureError) return error;
    if (error instanceof StoreError) {
      const code = error.code === 'UNREACHABLE' ? 'UNAVAILABLE' : 'NOT_FOUND';
      return new MeasureError(error.code === 'MISMATCH' ? 'FAILED_PRECONDITION' : code, error.message, {
        cause: error,
      });
    }
    const { code, message } = toEngineError(error);
    return LASTING.includes(code)
      ? new MeasureError('FAILED_PRECONDITION', message, { cause: error })
      : error;
  }
}

function busy(why: string): MeasureError {
  return new MeasureError('UNAVAILABLE', `${why}: try again later, or on another worker`);
}
