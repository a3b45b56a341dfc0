// ppl and iou: windows of text in which every token runs as decode does. One pass gives both: at some positions the selection of
// every layer and KV head is compared with the exact top-k.
import type { Quality } from '@spotlight/cuda';
import type { Document } from '../sources.js';
import { SourceError } from '../sources.js';
import type { Case, Measured } from '../trial.js';
import { runWindow } from '../window.js';
import { encode } from './task.js';
import type { Lab } from './task.js';

export interface WindowTask {
  readonly documents: readonly Document[];
  /** Windows of a document. */
  readonly windows: number;
  /** Leading tokens of a window that attend densely and are not scored. */
  readonly densePrefix: number;
  readonly denseLayers: number;
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
  for (const { name, text } of documents) {
    const ids = await encode(lab, text);
    const whole = Math.min(windows, Math.floor(ids.length / length));
    if (whole === 0)
      throw new SourceError(
        `${name}: has ${ids.length} tokens, a window has ${length}: give less by --length`,
      );
    for (let w = 0; w < whole; w++) {
      const window = ids.slice(w * length, (w + 1) * length);
      yield {
        task: perplexity ? 'ppl' : 'iou',
        name: `${name} window ${w + 1}/${whole}`,
        context: length,
        async run({ method, attention }) {
          const dense = method.name === 'dense';
          // What reads everything has nothing to compare.
          if (dense && !perplexity) return { measured: [], rowsRead: undefined };
          const { nll, probes, rowsRead } = await runWindow(engine, window, {
            phase: dense ? 'prompt' : 'generated',
            attention,
            densePrefix,
            probes: iou && !dense ? probePositions(length, densePrefix) : [],
          });
          const measured: Measured[] = perplexity ? [{ group: name, metric: 'nll', value: nll }] : [];
          if (probes.length > 0) measured.push(...qualities(probes, task.denseLayers));
          return { measured, rowsRead };
        },
      };
    }
  }
}

/** IoU and kept mass over all, by layer, and by position; over all and by layer in the later half, where contexts are long. */
function qualities(
  probes: readonly { readonly position: number; readonly quality: readonly Quality[] }[],
  denseLayers: number,
): Measured[] {
  const later = probes.slice(probes.length / 2).flatMap(({ quality }) => quality);
  const sparse = (all: readonly Quality[]): Quality[] => all.filter(({ layer }) => layer >= denseLayers);
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
