// Live quality: which row of a step is measured against the exact softmax, and in which layer and KV head. About one step in
// 1 / rate has one such row: what it costs is a look at every key of one head's context.
import type { Quality, SlotId } from '@spotlight/cuda';
import type { Plan } from './batch.js';

export interface Probe {
  /** Of the plan. */
  readonly row: number;
  readonly layer: number;
  readonly kvHead: number;
}

/** Whether something was left out: what attends densely (a short context, a dense layer) says nothing of an artifact. */
export function hasRetrieved({ iou, keptMass, bestMass }: Quality): boolean {
  return iou < 1 || keptMass < 1 || bestMass < 1;
}

export class QualitySampler {
  /**
   * @param rate share of the steps that are sampled, in [0, 1]
   * @param layers those a slot's artifact has codes of
   * @param draw in [0, 1)
   */
  constructor(
    private readonly rate: number,
    private readonly layers: (slot: SlotId) => readonly number[],
    private readonly kvHeads: number,
    private readonly draw: () => number = Math.random,
  ) {}

  /** The row to measure, if any: artifacts take turns by chance, so that one with little traffic is measured as well. */
  choose(plan: Plan): Probe | undefined {
    if (this.rate === 0 || this.draw() >= this.rate) return undefined;
    const rows = new Map<string, number[]>();
    for (let row = 0; row < plan.rows; row++) {
      const request = plan.choices[row]?.request;
      if (request?.retrieves !== true || request.measure !== undefined) continue;
      if (plan.draws[row] !== 1 || plan.count[row] !== 1) continue;
      const own = rows.get(request.artifactDigest);
      if (own === undefined) rows.set(request.artifactDigest, [row]);
      else own.push(row);
    }
    const row = this.#oneOf(this.#oneOf([...rows.values()]) ?? []);
    const slot = row === undefined ? undefined : plan.choices[row]?.request.slot;
    const layer = slot === undefined ? undefined : this.#oneOf(this.layers(slot));
    if (row === undefined || layer === undefined) return undefined;
    return { row, layer, kvHead: Math.floor(this.draw() * this.kvHeads) };
  }

  #oneOf<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.draw() * from.length)];
  }
}
