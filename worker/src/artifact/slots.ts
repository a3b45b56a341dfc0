// Owner of the two artifact slots: what is loaded where, and which one new requests are pinned to.
import type { ArtifactInfo, Engine, SlotId } from '@spotlight/cuda';
import { ArtifactSlot, SlotState } from '@spotlight/proto';

const SLOTS: readonly SlotId[] = [0, 1];

export class SlotTable {
  private readonly epochs = new Map<SlotId, bigint>();
  private activeSlot: SlotId = 0;

  constructor(private readonly native: Pick<Engine, 'artifacts' | 'loadArtifact'>) {}

  /** The slot new requests are pinned to. */
  get active(): SlotId {
    return this.activeSlot;
  }

  /** The active artifact; undefined when requests are served dense. */
  get artifact(): ArtifactInfo | undefined {
    return this.native.artifacts[this.activeSlot];
  }

  /** [async] Loads a file into a slot. @throws EngineError ARTIFACT_* */
  async load(slot: SlotId, path: string): Promise<ArtifactInfo> {
    const info = await this.native.loadArtifact(slot, path);
    this.epochs.set(slot, (this.epochs.get(slot) ?? 0n) + 1n);
    return info;
  }

  /** New requests go to this slot from now on; those running keep theirs. @throws RangeError for a slot there is not */
  activate(slot: number): void {
    const found = SLOTS.find((candidate) => candidate === slot);
    if (found === undefined) throw new RangeError(`slot is ${slot}, there are slots 0 and 1`);
    this.activeSlot = found;
  }

  list(): ArtifactSlot[] {
    return SLOTS.map((slot) => {
      const info = this.native.artifacts[slot];
      return ArtifactSlot.fromPartial({
        slot,
        artifactDigest: info?.digest ?? '',
        active: slot === this.activeSlot,
        epoch: this.epochs.get(slot) ?? 0n,
        encoder: info?.encoder ?? '',
        bits: info?.bits ?? 0,
        // Codes are made as keys are stored, so what is cached is of the artifact that is loaded.
        rehashed: info === undefined ? 0 : 1,
        state: info === undefined ? SlotState.EMPTY : SlotState.READY,
      });
    });
  }
}
