// A6: derives codes of cached blocks anew for a slot that has another artifact, in the background: batches of blocks go
// between steps, as many as rehash-pace.ts allows. Blocks of the prefix cache are all there is to do: what a running
// request alone holds is scored by the slot it is pinned to, and comes here once it is cached.
import { BLOCK_SIZE, toEngineError } from '@spotlight/cuda';
import type { BlockId, Engine, SlotId } from '@spotlight/cuda';
import type { Logger } from 'pino';
import type { BlockManager } from '../kv/block-manager.js';
import { RehashPace } from './rehash-pace.js';

const SLOTS = [0, 1] as const;
/** A search that found nothing is not repeated before: blocks turn up one by one, as running requests fill them. */
const LOOK_AGAIN_MS = 500;

export class Rehasher {
  readonly #pace: RehashPace;
  readonly #cached = (block: BlockId): boolean => this.blocks.cache.has(block);
  /** Slots with an artifact, and how often it has changed: a batch begun for an older one counts nothing. */
  readonly #epochs = new Map<SlotId, number>();
  #running = false;
  #stopped = false;
  #wake: (() => void) | undefined;
  #lookAgainAt = 0;
  #rehashedBlocks = 0;
  #seconds = 0;

  constructor(
    private readonly native: Pick<Engine, 'rehash'>,
    private readonly blocks: BlockManager,
    share: number,
    /** Whether a request runs. */
    private readonly busy: () => boolean,
    private readonly log: Logger,
  ) {
    this.#pace = new RehashPace(share);
  }

  /** Blocks rehashed since the start, and the seconds the native engine spent on them. */
  get spent(): { readonly blocks: number; readonly seconds: number } {
    return { blocks: this.#rehashedBlocks, seconds: this.#seconds };
  }

  /** The slot has another artifact from now on, or none. */
  changed(slot: SlotId, loaded: boolean): void {
    const { stale } = this.blocks;
    if (loaded) {
      stale.changed(slot);
      this.#epochs.set(slot, (this.#epochs.get(slot) ?? 0) + 1);
    } else {
      stale.emptied(slot);
      this.#epochs.delete(slot);
    }
    this.#lookAgainAt = 0;
    this.resume();
  }

  /** Share of the cached blocks that carry codes of the slot's artifact; 0 for an empty slot, 1 when nothing is cached. */
  rehashed(slot: SlotId): number {
    if (!this.#epochs.has(slot)) return 0;
    const { cache, stale } = this.blocks;
    return cache.size === 0 ? 1 : 1 - stale.count(slot, this.#cached) / cache.size;
  }

  /** A step has retired: time has been earned, and newly cached blocks may be stale. */
  stepped(seconds: number): void {
    this.#pace.stepped(seconds);
    this.resume();
  }

  /** Looks again whether there is something to do: the loop has come to rest, or more may be spent. */
  resume(): void {
    this.#wake?.();
    if (this.#running || this.#stopped || this.#epochs.size === 0) return;
    if (performance.now() < this.#lookAgainAt) return;
    this.#running = true;
    void this.#run();
  }

  /** No batch is begun any more. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        if (this.#next(1) === undefined) return;
        const busy = this.busy();
        const count = this.#pace.blocks(busy);
        if (count === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
        else await this.#batch(count, busy);
        if (this.#stopped) return;
      }
    } catch (error) {
      // A dead engine tells every request by itself; rehashing just ends.
      this.#stopped = true;
      this.log.error({ err: toEngineError(error) }, 'rehashing has ended');
    } finally {
      this.#running = false;
      this.#lookAgainAt = performance.now() + LOOK_AGAIN_MS;
    }
  }

  async #batch(count: number, busy: boolean): Promise<void> {
    const next = this.#next(count);
    if (next === undefined) return;
    const { slot, blocks } = next;
    const epoch = this.#epochs.get(slot);
    const seconds = await this.native.rehash(
      slot,
      blocks,
      blocks.map(() => BLOCK_SIZE),
    );
    this.#pace.spent(seconds, blocks.length, busy);
    this.#rehashedBlocks += blocks.length;
    this.#seconds += seconds;
    if (this.#epochs.get(slot) === epoch) this.blocks.stale.rehashed(slot, blocks);
  }

  #next(most: number): { readonly slot: SlotId; readonly blocks: BlockId[] } | undefined {
    for (const slot of SLOTS) {
      if (!this.#epochs.has(slot)) continue;
      const blocks = this.blocks.stale.some(slot, most, this.#cached);
      if (blocks.length > 0) return { slot, blocks };
    }
    return undefined;
  }
}
