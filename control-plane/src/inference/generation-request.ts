// The one record that travels the inference path; both doors make it and nothing behind them sees a door's own shapes.
// Prompts and parameters are the wire's messages, so that a request is built once and sent to the worker as it is.
import type {
  AttentionSettings,
  ModelDescription,
  RequestUpdate,
  SamplingParams,
  Submit,
  Usage,
} from '@spotlight/proto';
import type { ServiceError } from '../errors/service-error.js';
import type { ArtifactWish } from '../rollouts/canary.js';

export type Prompt = NonNullable<Submit['prompt']>;

export interface GenerationRequest {
  /** The client's own id or one made at the door; on every answer and log line. */
  readonly requestId: string;
  /** As the client named it; empty is the only model served. */
  readonly model: string;
  readonly prompt: Prompt;
  readonly sampling: SamplingParams;
  readonly attention: AttentionSettings | undefined;
  readonly sessionId: string | undefined;
  /** Which artifact it would rather run under. */
  readonly wish?: ArtifactWish;
  /** Id of the API key; undefined where none is needed. */
  readonly caller: string | undefined;
  /** Milliseconds the caller will wait; the configured limit holds besides. */
  readonly timeoutMs: number | undefined;
  /** performance.now() when the door took the request. */
  readonly receivedAt: number;
  /** Steps with deltas the worker may send before `credit` grants more; 0 is unlimited, for an answer sent whole. */
  readonly credits: number;
}

/** Where a request's news go. After `onError`, or an update with done = true, nothing follows. */
export interface GenerationSink {
  onUpdate(update: RequestUpdate): void;
  onError(error: ServiceError): void;
}

/** A request under way. */
export interface Generation {
  readonly model: ModelDescription;
  /** The seed in use, the client's or one drawn here: the same request with it gives the same tokens. */
  readonly seed: bigint;
  /** The worker that serves it now. */
  readonly workerId: string;
  /** How often another worker has gone on with it. */
  readonly replays: number;
  /** So far; undefined before the first news. */
  readonly usage: Usage | undefined;
  credit(steps: number): void;
  /** The client is gone: frees the request's blocks. Idempotent; no callback follows. */
  cancel(): void;
}
