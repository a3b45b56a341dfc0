// What requests met under each artifact since the start: sums that only grow, told to control planes in every report (a rollout's
// gates compare two of them) and to Prometheus as `spotlight:artifact_*`. Per token only typed arrays are touched.
import { ErrorCode, FinishReason } from '@spotlight/proto';
import type { ArtifactStats as ArtifactStatsMessage, LatencyHistogram } from '@spotlight/proto';
import type { Registry } from 'prom-client';
import { Counter } from 'prom-client';
import type {
  EngineObserver,
  QualityObservation,
  RequestObservation,
  TokenObservation,
} from '../engine/observer.js';
import { FIRST_TOKEN_SECONDS, TOKEN_SECONDS } from './buckets.js';

/** Ends that are the worker's or the artifact's fault; refusals, cancels and deadlines are not. */
const FAILURES: ReadonlySet<ErrorCode> = new Set([ErrorCode.INTERNAL, ErrorCode.WORKER_LOST]);
const WELL: ReadonlySet<FinishReason> = new Set([FinishReason.STOP, FinishReason.LENGTH]);
/** Finer than vLLM's below 50 ms: gates compare percentiles, and a bucket is as far as they can see. */
const GAP_SECONDS = [
  ...new Set([0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, ...TOKEN_SECONDS]),
].sort((a, b) => a - b);

/** Artifacts kept count of: after a hundred swaps nobody asks for the first. */
const MOST = 32;

interface Tally {
  finished: number;
  failed: number;
  tokens: number;
  samples: number;
  iou: number;
  keptMass: number;
  readonly firstToken: Buckets;
  readonly interToken: Buckets;
}

/** Counts by upper bound. */
class Buckets {
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(private readonly bounds: readonly number[]) {
    this.#counts = new Float64Array(bounds.length + 1);
  }

  add(value: number): void {
    let at = 0;
    while (at < this.bounds.length && value > (this.bounds[at] ?? 0)) at++;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sum += value;
  }

  get message(): LatencyHistogram {
    return { bounds: [...this.bounds], counts: Array.from(this.#counts, BigInt), sum: this.#sum };
  }
}

export class ArtifactStats implements Pick<EngineObserver, 'firstToken' | 'tokens' | 'quality' | 'finished'> {
  readonly #tallies = new Map<string, Tally>();

  firstToken(seconds: number, artifactDigest: string): void {
    this.#tally(artifactDigest).firstToken.add(seconds);
  }

  tokens({ artifactDigest, drawn, gaps, gapCount }: TokenObservation): void {
    const tally = this.#tally(artifactDigest);
    tally.tokens += drawn;
    for (let i = 0; i < gapCount; i++) tally.interToken.add(gaps[i] ?? 0);
  }

  quality({ artifactDigest, iou, keptMass }: QualityObservation): void {
    const tally = this.#tally(artifactDigest);
    tally.samples++;
    tally.iou += iou;
    tally.keptMass += keptMass;
  }

  finished({ artifactDigest, error, finishReasons }: RequestObservation): void {
    const tally = this.#tally(artifactDigest);
    // The one used last stands last.
    this.#tallies.delete(artifactDigest);
    this.#tallies.set(artifactDigest, tally);
    if (error === undefined) tally.finished += Number(finishReasons.every((reason) => WELL.has(reason)));
    else tally.failed += Number(FAILURES.has(error));
  }

  /** As they go out in a report. */
  list(): ArtifactStatsMessage[] {
    return [...this.#tallies].map(([artifactDigest, tally]) => ({
      artifactDigest,
      requestsFinished: BigInt(tally.finished),
      requestsFailed: BigInt(tally.failed),
      tokens: BigInt(tally.tokens),
      timeToFirstToken: tally.firstToken.message,
      interToken: tally.interToken.message,
      qualitySamples: BigInt(tally.samples),
      iouSum: tally.iou,
      keptMassSum: tally.keptMass,
    }));
  }

  /** Counters with the digest as label. */
  register(registry: Registry, modelName: string): void {
    const read = (name: string, help: string, value: (tally: Tally) => number): void => {
      const counter: Counter = new Counter({
        name: `spotlight:artifact_${name}_total`,
        help: `${help}, by artifact; digest "" is served dense`,
        labelNames: ['model_name', 'engine', 'digest'],
        registers: [registry],
        collect: () => {
          counter.reset();
          for (const [digest, tally] of this.#tallies)
            counter.inc({ model_name: modelName, engine: '0', digest }, value(tally));
        },
      });
    };
    read('requests_finished', 'Requests that ended well', (tally) => tally.finished);
    read('requests_failed', 'Requests that ended by an error of the worker', (tally) => tally.failed);
    read('tokens', 'Tokens generated', (tally) => tally.tokens);
    read('quality_samples', 'Rows measured against the exact softmax', (tally) => tally.samples);
    read('iou_sum', 'Sum over the samples of the overlap with the exact top', (tally) => tally.iou);
    read('kept_mass_sum', 'Sum over the samples of the softmax mass read', (tally) => tally.keptMass);
  }

  #tally(digest: string): Tally {
    let tally = this.#tallies.get(digest);
    if (tally === undefined) {
      tally = {
        finished: 0,
        failed: 0,
        tokens: 0,
        samples: 0,
        iou: 0,
        keptMass: 0,
        firstToken: new Buckets(FIRST_TOKEN_SECONDS),
        interToken: new Buckets(GAP_SECONDS),
      };
      const [oldest] = this.#tallies.keys();
      if (this.#tallies.size >= MOST && oldest !== undefined) this.#tallies.delete(oldest);
      this.#tallies.set(digest, tally);
    }
    return tally;
  }
}
