// Chooses how each layer attends: the least a decode step can read within a bound on the loss of perplexity. Greedy and measured, not
// modelled: from the strictest settings (every layer dense) one layer after another takes the cheapest of its ways that keeps the
// whole model within the bound, the layers whose selections keep most mass first. The search is pure over a `loss` that runs texts.
import type { LayerSettings } from '@spotlight/cuda';

export type Layers = readonly LayerSettings[];

export interface Calibration {
  readonly layers: Layers;
  /** Perplexity against dense, minus 1. */
  readonly loss: number;
  /** How often texts were run. */
  readonly runs: number;
}

export interface Search {
  readonly layers: number;
  /** Ways of a layer, cheapest first; dense is always the last resort. */
  readonly ways: readonly LayerSettings[];
  /** Layers in the order in which they may leave dense attention, easiest first. */
  readonly order: readonly number[];
  readonly bound: number;
  /** Perplexity of these settings over dense attention's, minus 1. */
  readonly loss: (layers: Layers) => Promise<number>;
  readonly say: (line: string) => void;
}

const DENSE: LayerSettings = { mode: 'dense' };

/**
 * [async] All layers at the cheapest way at once where the bound allows; else the largest group of easiest layers that does, found by
 * bisection, then the next way for the rest, and so on: about log2(layers) runs a way.
 */
export async function calibrate({ layers, ways, order, bound, loss, say }: Search): Promise<Calibration> {
  const chosen: LayerSettings[] = Array.from({ length: layers }, () => DENSE);
  let best = 0;
  let runs = 0;
  let left = order;
  for (const way of ways) {
    const settings = (count: number): LayerSettings[] => {
      const tried = [...chosen];
      for (const layer of left.slice(0, count)) tried[layer] = way;
      return tried;
    };
    let low = 0;
    let high = left.length;
    let kept = best;
    while (low < high) {
      const middle = low === 0 && high === left.length ? high : Math.ceil((low + high) / 2);
      const found = await loss(settings(middle));
      runs += 1;
      say(`${describe(way)} in ${middle} of ${left.length} layers: ${(found * 100).toFixed(2)}% above dense`);
      if (found <= bound) [low, kept] = [middle, found];
      else high = middle - 1;
    }
    for (const [layer, settled] of settings(low).entries()) chosen[layer] = settled;
    best = kept;
    left = left.slice(low);
    if (left.length === 0) break;
  }
  return { layers: chosen, loss: best, runs };
}

export function describe({ mode, fraction }: LayerSettings): string {
  return fraction === undefined ? mode : `${mode} ${Number((fraction * 100).toPrecision(3))}%`;
}
