// A validation's verdict: a pure function of what a worker measured and of what it is held against, the active artifact on the same
// text, or fixed floors where there is none. With the default model random projections reach about 0.20 and 0.72 there, trained ones 0.54
// and 0.93: the floors stand between.
import type { ArtifactQuality } from '../storage/schema.js';

export type Measurement = Pick<ArtifactQuality, 'iou' | 'keptMass' | 'layers'>;

export interface Bar {
  /** Of the active artifact; undefined when the deployment has none. */
  readonly baseline: Pick<Measurement, 'iou' | 'keptMass'> | undefined;
  /** Least share of the baseline, in (0, 1]. */
  readonly leastQuality: number;
}

export const FLOOR = { iou: 0.3, keptMass: 0.8 } as const;

/** Measurements come as 32-bit floats. */
const ROUNDING = 1e-6;

const NAMES = { iou: 'IoU', keptMass: 'kept mass' } as const;

/** One sentence for what falls short; undefined when the artifact passes. */
export function whyRejected(measured: Measurement, { baseline, leastQuality }: Bar): string | undefined {
  for (const { iou, keptMass } of [measured, ...measured.layers]) {
    if (!isShare(iou) || !isShare(keptMass))
      return `the worker measured IoU ${iou} and kept mass ${keptMass}`;
  }
  if (measured.layers.length === 0) return 'the worker measured no layer';
  const short = (['iou', 'keptMass'] as const).flatMap((name) => {
    const least = baseline === undefined ? FLOOR[name] : leastQuality * baseline[name];
    if (measured[name] >= least - ROUNDING) return [];
    const of =
      baseline === undefined
        ? 'the floor without an active artifact'
        : `${percent(leastQuality)} of the active artifact's ${shown(baseline[name])}`;
    return [`${NAMES[name]} ${shown(measured[name])} is below ${shown(least)}, ${of}`];
  });
  return short.length === 0 ? undefined : short.join('; ');
}

function isShare(value: number): boolean {
  return value >= 0 && value <= 1;
}

function shown(value: number): string {
  return value.toFixed(3);
}

function percent(share: number): string {
  return `${Number((100 * share).toFixed(1))}%`;
}
