// The gates: the candidate's counters against those of the artifact it replaces. Each gate gives a reading, which the API shows, and
// falls, holds, or says that it cannot tell yet. Pure.
import type { Counters } from './counters.js';
import { quantile, requestsOf, samplesOf } from './counters.js';
import type { Gates } from './rollout.js';

export const GATE_NAMES = [
  'requests',
  'error_rate',
  'kept_mass',
  'iou',
  'first_token',
  'inter_token',
] as const;

export interface Reading {
  readonly gate: (typeof GATE_NAMES)[number];
  readonly verdict: 'holds' | 'fell' | 'too_few_samples';
  /** Shares, or seconds; null without a sample. */
  readonly candidate: number | null;
  readonly stable: number | null;
  /** What the candidate's value may not pass; null while the other's is unknown. */
  readonly limit: number | null;
  /** Of the candidate. */
  readonly samples: number;
  /** What is too much or too little, in words. */
  readonly text: string;
}

const P95 = 0.95;
/** Standard deviations that 95% of a normal distribution lie below. */
const ONE_SIDED_95 = 1.645;
/** Steps jitter by this much on any machine: a ratio of two tiny times says nothing. */
const JITTER_S = 0.002;
/** Fewer samples than these make no percentile. */
const MIN_LATENCIES = 20;

/**
 * One reading a gate that is switched on.
 * @param stable the other artifact in the same time
 * @param stableBefore the same since the rollout's canary began: for the last wave, in which nobody is left to run under it
 */
export function readGates(
  gates: Gates,
  candidate: Counters,
  stable: Counters,
  stableBefore: Counters = stable,
): Reading[] {
  const before = against(gates, candidate, stableBefore);
  return against(gates, candidate, stable).map((reading, i) =>
    reading.verdict === 'too_few_samples' ? (before[i] ?? reading) : reading,
  );
}

function against(gates: Gates, candidate: Counters, stable: Counters): Reading[] {
  const readings = [requests(gates, candidate)];
  if (gates.errorRateRise !== null) readings.push(errorRate(gates, gates.errorRateRise, candidate, stable));
  if (gates.keptMassDrop !== null)
    readings.push(quality('kept_mass', 'keptMassSum', gates.keptMassDrop, gates, candidate, stable));
  if (gates.iouDrop !== null)
    readings.push(quality('iou', 'iouSum', gates.iouDrop, gates, candidate, stable));
  if (gates.firstTokenRatio !== null)
    readings.push(latency('first_token', 'firstToken', gates.firstTokenRatio, candidate, stable));
  if (gates.interTokenRatio !== null)
    readings.push(latency('inter_token', 'interToken', gates.interTokenRatio, candidate, stable));
  return readings;
}

function requests(gates: Gates, candidate: Counters): Reading {
  const samples = requestsOf(candidate);
  return {
    gate: 'requests',
    verdict: samples >= gates.minRequests ? 'holds' : 'too_few_samples',
    candidate: samples,
    stable: null,
    limit: gates.minRequests,
    samples,
    text: `${samples} of ${gates.minRequests} requests`,
  };
}

/** Judged against the requests it is to have at least, so that an artifact that fails them all falls at once. */
function errorRate(gates: Gates, rise: number, candidate: Counters, stable: Counters): Reading {
  const samples = requestsOf(candidate);
  const judged = candidate.failed / Math.max(samples, gates.minRequests, 1);
  const others = requestsOf(stable) === 0 ? 0 : stable.failed / requestsOf(stable);
  const limit = others + rise;
  return {
    gate: 'error_rate',
    verdict: judged > limit ? 'fell' : 'holds',
    candidate: samples === 0 ? null : candidate.failed / samples,
    stable: requestsOf(stable) === 0 ? null : others,
    limit,
    samples,
    text: `${candidate.failed} of ${samples} requests failed, against ${percent(others)} under the artifact it replaces`,
  };
}

function quality(
  gate: 'kept_mass' | 'iou',
  sum: 'keptMassSum' | 'iouSum',
  drop: number,
  { minQualitySamples }: Gates,
  candidate: Counters,
  stable: Counters,
): Reading {
  const ours = mean(candidate[sum], candidate.qualitySamples);
  const others = mean(stable[sum], stable.qualitySamples);
  const enough = candidate.qualitySamples >= minQualitySamples && stable.qualitySamples >= minQualitySamples;
  const limit = others === null ? null : others - drop - chance(others, candidate, stable);
  const name = gate === 'iou' ? 'IoU' : 'kept mass';
  return {
    gate,
    verdict: !enough || ours === null || limit === null ? 'too_few_samples' : ours < limit ? 'fell' : 'holds',
    candidate: ours,
    stable: others,
    limit,
    samples: candidate.qualitySamples,
    text: enough
      ? `${name} ${fixed(ours)}, at least ${fixed(limit)} is asked of ${candidate.qualitySamples} samples (${fixed(others)} under the artifact it replaces)`
      : `${candidate.qualitySamples} and ${stable.qualitySamples} of ${minQualitySamples} samples of the ${name}`,
  };
}

/**
 * How far apart two means of shares may be by chance, at 95%. Workers tell sums alone, so the spread is bounded from above by that of
 * samples that are all or nothing: few samples only take back what is plainly bad, more of them find less.
 */
function chance(mean: number, candidate: Counters, stable: Counters): number {
  const variance = Math.max(0, mean * (1 - mean));
  return ONE_SIDED_95 * Math.sqrt(variance * (1 / candidate.qualitySamples + 1 / stable.qualitySamples));
}

function latency(
  gate: 'first_token' | 'inter_token',
  histogram: 'firstToken' | 'interToken',
  ratio: number,
  candidate: Counters,
  stable: Counters,
): Reading {
  const ours = quantile(candidate[histogram], P95) ?? null;
  const others = quantile(stable[histogram], P95) ?? null;
  const samples = samplesOf(candidate[histogram]);
  const enough = Math.min(samples, samplesOf(stable[histogram])) >= MIN_LATENCIES;
  const limit = others === null ? null : others * ratio + JITTER_S;
  const name = gate === 'first_token' ? 'time to the first token' : 'time between tokens';
  return {
    gate,
    verdict: !enough || ours === null || limit === null ? 'too_few_samples' : ours > limit ? 'fell' : 'holds',
    candidate: ours,
    stable: others,
    limit,
    samples,
    text: enough
      ? `95% of the ${name} are within ${ms(ours)}, at most ${ms(limit)} is asked (${ms(others)} under the artifact it replaces)`
      : `${samples} and ${samplesOf(stable[histogram])} of ${MIN_LATENCIES} samples of the ${name}`,
  };
}

function mean(sum: number, samples: number): number | null {
  return samples === 0 ? null : sum / samples;
}

function fixed(value: number | null): string {
  return value === null ? 'unknown' : value.toFixed(3);
}

function ms(seconds: number | null): string {
  return seconds === null ? 'unknown' : `${(seconds * 1000).toFixed(1)} ms`;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)}%`;
}
