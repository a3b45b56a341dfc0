// R3 as three tiny interfaces: filters leave the workers that may take a request, scorers rate each in [0, 1], one picker chooses.
// All are pure over snapshots; what routing learns from its own choices lives in prefix-index.ts and is fed by routing.service.ts.
import type { RouteRequest, WorkerSnapshot } from '../workers/api.js';

export interface Filter {
  readonly name: string;
  keeps(worker: WorkerSnapshot, request: RouteRequest): boolean;
}

export interface Scorer {
  readonly name: string;
  /** One score in [0, 1] a worker, in order; 1 is best. Workers is never empty. */
  score(workers: readonly WorkerSnapshot[], request: RouteRequest): readonly number[];
}

export interface WeightedScorer {
  readonly scorer: Scorer;
  readonly weight: number;
}

/** Index of the chosen one; workers is never empty and scores has its length. */
export type Picker = (
  workers: readonly WorkerSnapshot[],
  scores: readonly number[],
  request: RouteRequest,
) => number;

/** Weighted sums of all scorers, one a worker. Scorers of weight 0 are not asked. */
export function totalScores(
  scorers: readonly WeightedScorer[],
  workers: readonly WorkerSnapshot[],
  request: RouteRequest,
): number[] {
  const totals = workers.map(() => 0);
  for (const { scorer, weight } of scorers) {
    if (weight === 0) continue;
    const scores = scorer.score(workers, request);
    for (let i = 0; i < totals.length; i++) totals[i] = (totals[i] ?? 0) + weight * (scores[i] ?? 0);
  }
  return totals;
}
