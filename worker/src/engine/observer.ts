// What the engine tells telemetry. Per-token values arrive once a step as one array: a call a token into a metrics
// library would cost more than the token's share of the step. Every time is in seconds.
import type { ErrorCode, FinishReason } from '@spotlight/proto';

/** One retired step. */
export interface StepObservation {
  readonly rows: number;
  /** Tokens of rows that fill prompts or run known tokens again. */
  readonly promptTokens: number;
  /** Tokens of rows that drew a token after a single new one. */
  readonly decodeTokens: number;
  /** Duration as the native engine measured it. */
  readonly seconds: number;
}

/** What one step drew for the requests of one artifact. */
export interface TokenObservation {
  /** '' when they attend densely. */
  readonly artifactDigest: string;
  readonly drawn: number;
  /** The first `gapCount` entries: time since the previous token of a choice, one entry a token. The array is reused. */
  readonly gaps: Float64Array;
  readonly gapCount: number;
}

/** What retrieval gave one row in one layer and KV head (Quality of the native engine). */
export interface QualityObservation {
  readonly artifactDigest: string;
  readonly iou: number;
  readonly keptMass: number;
}

/** One request that has ended, by whichever way. */
export interface RequestObservation {
  /** '' when it attended densely. */
  readonly artifactDigest: string;
  /** Of each choice, in order of choice. */
  readonly finishReasons: readonly FinishReason[];
  /** Set when the request ended with an error. */
  readonly error: ErrorCode | undefined;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly choices: number;
  readonly maxTokens: number;
  readonly preemptions: number;
  /** Submit to the end. */
  readonly endToEnd: number;
  /** Submit to first admission; undefined when never admitted. */
  readonly queued: number | undefined;
  /** First admission to first token. */
  readonly prefill: number | undefined;
  /** First token to the end. */
  readonly decode: number | undefined;
}

export interface EngineObserver {
  stepped(step: StepObservation): void;
  /** Submit to the first drawn token of a request. */
  firstToken(seconds: number, artifactDigest: string): void;
  /** Once a step and artifact that drew. */
  tokens(tokens: TokenObservation): void;
  /** A sampled row. */
  quality(sample: QualityObservation): void;
  finished(request: RequestObservation): void;
  preempted(): void;
  /** Once an admission that may use the cache: prompt tokens looked up and found. */
  prefixLookup(queried: number, found: number): void;
  /** submit() refused a request. */
  rejected(code: ErrorCode): void;
  /** A row's logits held nothing finite; its request has ended with an error. */
  corrupted(): void;
  /** The idle audit found blocks lost or held twice. */
  auditFailed(problem: string): void;
}

/** Hears nothing: for tests and benches. */
export const silentObserver: EngineObserver = {
  stepped: () => undefined,
  firstToken: () => undefined,
  tokens: () => undefined,
  quality: () => undefined,
  finished: () => undefined,
  preempted: () => undefined,
  prefixLookup: () => undefined,
  rejected: () => undefined,
  corrupted: () => undefined,
  auditFailed: () => undefined,
};

/** All goes to `all`, and to `some` what it listens to. */
export function alsoTo(
  all: EngineObserver,
  some: Pick<EngineObserver, 'firstToken' | 'tokens' | 'quality' | 'finished'>,
): EngineObserver {
  return {
    stepped: all.stepped.bind(all),
    preempted: all.preempted.bind(all),
    prefixLookup: all.prefixLookup.bind(all),
    rejected: all.rejected.bind(all),
    corrupted: all.corrupted.bind(all),
    auditFailed: all.auditFailed.bind(all),
    firstToken: (seconds, artifactDigest) => {
      all.firstToken(seconds, artifactDigest);
      some.firstToken(seconds, artifactDigest);
    },
    tokens: (tokens) => {
      all.tokens(tokens);
      some.tokens(tokens);
    },
    quality: (sample) => {
      all.quality(sample);
      some.quality(sample);
    },
    finished: (request) => {
      all.finished(request);
      some.finished(request);
    },
  };
}
