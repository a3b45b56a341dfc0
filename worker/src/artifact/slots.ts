// Owner of the two artifact slots: what is loaded where, which one new requests are pinned to, and which may be pinned at
// all. A slot is closed to requests while its artifact changes or is only being measured; the other goes on serving.
import type { ArtifactInfo, Engine, SlotId } from '@spotlight/cuda';

export const SLOTS: readonly SlotId[] = [0, 1];

/** One slot as it is now. */
export interface HeldSlot {
  readonly slot: SlotId;
  /** undefined: empty, or closed to requests. */
  readonly artifact: ArtifactInfo | undefined;
  readonly active: boolean;
  /** Counts what was loaded into the slot. */
  readonly epoch: bigint;
}

/** Hears of every change of a slot's artifact that requests may be pinned to, before one can be. */
export type SlotListener = (slot: SlotId, loaded: boolean) => void;

export class SlotTable {
  readonly #epochs = new Map<SlotId, bigint>();
  readonly #closed = new Set<SlotId>();
  readonly #listeners: SlotListener[] = [];
  #active: SlotId = 0;

  constructor(private readonly native: Pick<Engine, 'artifacts' | 'loadArtifact' | 'unloadArtifact'>) {}

  /** The slot new requests are pinned to. */
  get active(): SlotId {
    return this.#active;
  }

  /** The active artifact; undefined when requests are served dense. */
  get artifact(): ArtifactInfo | undefined {
    return this.#open(this.#active);
  }

  onChange(listener: SlotListener): void {
    this.#listeners.push(listener);
  }

  list(): HeldSlot[] {
    return SLOTS.map((slot) => ({
      slot,
      artifact: this.#open(slot),
      active: slot === this.#active,
      epoch: this.#epochs.get(slot) ?? 0n,
    }));
  }

  /** The slot a request may be pinned to by digest. */
  find(digest: string): SlotId | undefined {
    return SLOTS.find((slot) => this.#open(slot)?.digest === digest);
  }

  /**
   * [async] Loads a file into a slot that no request is pinned to. `closed`: no request may be pinned to it until open().
   * @throws EngineError ARTIFACT_*, and INVALID_ARGUMENT while sequences are open in the slot
   */
  async load(slot: SlotId, path: string, { closed = false } = {}): Promise<ArtifactInfo> {
    this.#closed.add(slot);
    try {
      const info = await this.native.loadArtifact(slot, path);
      this.#epochs.set(slot, (this.#epochs.get(slot) ?? 0n) + 1n);
      if (!closed) this.#tell(slot, true);
      return info;
    } finally {
      if (!closed) this.#closed.delete(slot);
    }
  }

  /** [async] Empties a slot that is not active and that no request is pinned to. Throws as load() does. */
  async unload(slot: SlotId): Promise<void> {
    if (slot === this.#active) throw new RangeError(`slot ${slot} is active and cannot be emptied`);
    this.#closed.add(slot);
    try {
      await this.native.unloadArtifact(slot);
      this.#tell(slot, false);
    } finally {
      this.#closed.delete(slot);
    }
  }

  /** New requests go to this slot from now on; those running keep theirs. @throws RangeError for a closed slot */
  activate(slot: SlotId): void {
    if (this.#closed.has(slot)) throw new RangeError(`slot ${slot} is closed and cannot be made active`);
    this.#active = slot;
  }

  #open(slot: SlotId): ArtifactInfo | undefined {
    return this.#closed.has(slot) ? undefined : this.native.artifacts[slot];
  }

  #tell(slot: SlotId, loaded: boolean): void {
    for (const listener of this.#listeners) listener(slot, loaded);
  }
}
