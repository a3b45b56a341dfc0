// Rollouts and workers for tests, in good order unless told otherwise: a canary in its hold on two workers that hold both artifacts.
import type { Counters, Mark, WorkerCounters } from './counters.js';
import { NOTHING } from './counters.js';
import type { RolloutState, RolloutWorker } from './decide.js';
import type { Plan } from './rollout.js';
import { PLAN } from './rollout.js';

export const STABLE = 'a'.repeat(64);
export const CANDIDATE = 'b'.repeat(64);
export const START = 1_000_000;
export const BOUNDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32];

export function plan(change: Partial<Omit<Plan, 'gates'>> & { gates?: Partial<Plan['gates']> } = {}): Plan {
  return PLAN.parse({ holdMs: 60_000, timeoutMs: 600_000, waves: [0.5, 1], ...change });
}

export const EMPTY_MARK: Mark = { atMs: START, workers: {} };

export function rollout(change: Partial<RolloutState> = {}): RolloutState {
  return {
    stable: STABLE,
    candidate: CANDIDATE,
    active: STABLE,
    phase: 'canary',
    paused: false,
    forced: false,
    wave: 0,
    plan: plan(),
    outcome: null,
    phaseStartedMs: START,
    heldSinceMs: START,
    mark: EMPTY_MARK,
    origin: EMPTY_MARK,
    ...change,
  };
}

/** Counters of `requests` requests of 10 tokens each that were answered as asked. */
export function counted(
  requests: number,
  change: Partial<Counters> & { ms?: number; kept?: number } = {},
): Counters {
  const { ms = 15, kept = 0.9, ...rest } = change;
  const at = BOUNDS.findIndex((bound) => ms / 1000 <= bound);
  const counts = (n: number): number[] => [...BOUNDS, 0].map((_, i) => (i === at ? n : 0));
  const qualitySamples = requests * 10;
  return {
    ...NOTHING,
    finished: requests,
    qualitySamples,
    keptMassSum: kept * qualitySamples,
    iouSum: 0.4 * qualitySamples,
    firstToken: { bounds: BOUNDS, counts: counts(requests) },
    interToken: { bounds: BOUNDS, counts: counts(requests * 9) },
    ...rest,
  };
}

export function counters(stable: Counters, candidate: Counters, startedMs = START): WorkerCounters {
  return { startedMs, byArtifact: { [STABLE]: stable, [CANDIDATE]: candidate } };
}

export function worker(id: string, change: Partial<RolloutWorker> = {}): RolloutWorker {
  return {
    id,
    ready: true,
    holds: [STABLE, CANDIDATE],
    active: STABLE,
    inForce: true,
    failure: undefined,
    counters: counters(counted(100), counted(100)),
    ...change,
  };
}
