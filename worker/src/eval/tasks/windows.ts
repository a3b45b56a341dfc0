// ppl and iou: windows of text in which every token runs as decode does. One pass gives both: at some positions the selection of
// every layer and KV head is compared with the exact top-k.
import type { AttentionSettings, Quality } from '@spotlight/cuda';
import { modeOf } from '../methods.js';
import type { Document } from '../sources.js';
import type { Case, Measured } from '../trial.js';
import { runWindow } from '../window.js';
import { windowsOf } from './task.js';
import type { Lab } from './task.js';

export interface WindowTask {
  readonly documents: readonly Document[];
  /** Windows of a document. */
  readonly windows: number;
  /** Leading tokens of a window that attend densely and are not scored. */
  readonly densePrefix: number;
  readonly perplexity: boolean;
  readonly iou: boolean;
}

/** Positions compared with the exact top-k in a window. */
const PROBES = 16;

/** Evenly spaced, the last token among them, none in the dense prefix. */
export function probePositions(length: number, densePrefix: number): number[] {
  const span = length - densePrefix;
  return Array.from({ length: PROBES }, (_, i) => densePrefix + Math.floor((span * (i + 1)) / PROBES) - 1);
}

export async function* windowCases(lab: Lab, task: WindowTask): AsyncGenerator<Case> {
  const { engine, length } = lab;
  const { documents, windows, densePrefix, perplexity, iou } = task;
  for (const { name, place, ids } of await windowsOf(lab, documents, windows)) {
    yield {
      task: perplexity ? 'ppl' : 'iou',
      name: `${name} ${place}`,
      context: length,
      async run({ method, attention }) {
        const dense = method.name === 'dense';
        // What reads everything has nothing to compare.
        if (dense && !perplexity) return { measured: [], rowsRead: undefined };
        const { nll, probes, rowsRead } = await runWindow(engine, ids, {
          phase: dense ? 'prompt' : 'generated',
          attention,
          densePrefix,
          probes: iou && !dense ? probePositions(length, densePrefix) : [],
        });
        const measured: Measured[] = perplexity ? [{ group: name, metric: 'nll', value: nll }] : [];
        if (probes.length > 0) measured.push(...qualities(probes, attention));
        return { measured, rowsRead };
      },
    };
  }
}

/** IoU and kept mass of the layers that select, over all, by layer, and by position; over all and by layer in the later half, where contexts are long. */
function qualities(
  probes: readonly { readonly position: number; readonly quality: readonly Quality[] }[],
  attention: Partial<AttentionSettings>,
): Measured[] {
  const later = probes.slice(probes.length / 2).flatMap(({ quality }) => quality);
  const sparse = (all: readonly Quality[]): Quality[] =>
    all.filter(({ layer }) => modeOf(layer, attention) !== 'dense');
  const layers = [...new Set(sparse(later).map(({ layer }) => layer))];
  return [
    ...both('all', sparse(later)),
    ...layers.flatMap((layer) =>
      both(
        `layer ${layer}`,
        later.filter((one) => one.layer === layer),
        true,
      ),
    ),
    ...probes.flatMap(({ position, quality }) => both(`position ${position + 1}`, sparse(quality), true)),
  ];
}

function both(group: string, all: readonly Quality[], detail?: true): Measured[] {
  if (all.length === 0) return [];
  const mean = (of: (one: Quality) => number): number =>
    all.reduce((sum, one) => sum + of(one), 0) / all.length;
  return [
    { task: 'iou', group, metric: 'IoU', value: mean(({ iou }) => iou), ...(detail && { detail }) },
    {
      task: 'iou',
      group,
      metric: 'kept mass',
      value: mean(({ keptMass }) => keptMass),
      ...(detail && { detail }),
    },
  ];
}
