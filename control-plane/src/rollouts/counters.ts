// Arithmetic on what workers count by artifact. Workers report sums since they started; a mark is a copy of them at one moment, and
// what happened since is the difference. A worker that has started again since the mark begins from zero. All pure, all JSON.
import type { ArtifactStats, LatencyHistogram } from '@spotlight/proto';

export interface Histogram {
  /** Upper bounds in seconds, ascending. */
  readonly bounds: readonly number[];
  /** One more than bounds. */
  readonly counts: readonly number[];
}

/** Of one artifact over some time. */
export interface Counters {
  readonly finished: number;
  readonly failed: number;
  readonly qualitySamples: number;
  readonly iouSum: number;
  readonly keptMassSum: number;
  readonly firstToken: Histogram;
  readonly interToken: Histogram;
}

/** What one worker has counted since it started, by artifact digest. */
export interface WorkerCounters {
  readonly startedMs: number;
  readonly byArtifact: Readonly<Record<string, Counters>>;
}

/** Every worker's counters at one moment, by worker id. */
export interface Mark {
  readonly atMs: number;
  readonly workers: Readonly<Record<string, WorkerCounters>>;
}

const NO_HISTOGRAM: Histogram = { bounds: [], counts: [] };
export const NOTHING: Counters = {
  finished: 0,
  failed: 0,
  qualitySamples: 0,
  iouSum: 0,
  keptMassSum: 0,
  firstToken: NO_HISTOGRAM,
  interToken: NO_HISTOGRAM,
};

export function countersOf(startedMs: number, stats: readonly ArtifactStats[]): WorkerCounters {
  return {
    startedMs,
    byArtifact: Object.fromEntries(
      stats.map((each) => [
        each.artifactDigest,
        {
          finished: Number(each.requestsFinished),
          failed: Number(each.requestsFailed),
          qualitySamples: Number(each.qualitySamples),
          iouSum: each.iouSum,
          keptMassSum: each.keptMassSum,
          firstToken: histogramOf(each.timeToFirstToken),
          interToken: histogramOf(each.interToken),
        },
      ]),
    ),
  };
}

/**
 * What happened under an artifact since the mark, over all workers. A worker that the mark does not know counts when it started after
 * it; one that was merely away then does not, since its sums hold older times too.
 */
export function since(mark: Mark, now: Readonly<Record<string, WorkerCounters>>, digest: string): Counters {
  let total = NOTHING;
  for (const [workerId, current] of Object.entries(now)) {
    const counted = current.byArtifact[digest];
    if (counted === undefined) continue;
    const marked = mark.workers[workerId];
    if (marked?.startedMs === current.startedMs) {
      total = combine(total, counted, 1);
      total = combine(total, marked.byArtifact[digest] ?? NOTHING, -1);
    } else if (marked !== undefined || current.startedMs >= mark.atMs) {
      total = combine(total, counted, 1);
    }
  }
  return total;
}

export function requestsOf(counters: Counters): number {
  return counters.finished + counters.failed;
}

export function samplesOf(histogram: Histogram): number {
  return histogram.counts.reduce((sum, count) => sum + count, 0);
}

/**
 * The q-quantile in seconds, interpolated within its bucket; what lies above the last bound counts as that bound.
 * undefined without samples.
 */
export function quantile({ bounds, counts }: Histogram, q: number): number | undefined {
  const wanted = q * counts.reduce((sum, count) => sum + count, 0);
  if (wanted <= 0) return undefined;
  let below = 0;
  for (const [bucket, count] of counts.entries()) {
    const upper = bounds[bucket];
    if (upper === undefined) break;
    if (below + count >= wanted) {
      const lower = bounds[bucket - 1] ?? 0;
      return lower + ((wanted - below) / count) * (upper - lower);
    }
    below += count;
  }
  return bounds.at(-1);
}

function histogramOf(histogram: LatencyHistogram | undefined): Histogram {
  if (histogram === undefined) return NO_HISTOGRAM;
  return { bounds: histogram.bounds, counts: histogram.counts.map(Number) };
}

function combine(a: Counters, b: Counters, sign: 1 | -1): Counters {
  return {
    finished: a.finished + sign * b.finished,
    failed: a.failed + sign * b.failed,
    qualitySamples: a.qualitySamples + sign * b.qualitySamples,
    iouSum: a.iouSum + sign * b.iouSum,
    keptMassSum: a.keptMassSum + sign * b.keptMassSum,
    firstToken: combineHistograms(a.firstToken, b.firstToken, sign),
    interToken: combineHistograms(a.interToken, b.interToken, sign),
  };
}

/** Workers of two versions may cut their buckets otherwise; then the first one's stand, and the other's samples are left out. */
function combineHistograms(a: Histogram, b: Histogram, sign: 1 | -1): Histogram {
  if (b.counts.length === 0) return a;
  if (a.counts.length === 0) return { bounds: b.bounds, counts: b.counts.map((count) => sign * count) };
  if (a.bounds.length !== b.bounds.length || a.bounds.some((bound, i) => bound !== b.bounds[i])) return a;
  return { bounds: a.bounds, counts: a.counts.map((count, i) => count + sign * (b.counts[i] ?? 0)) };
}
