// What the inference path needs of the fleet: candidates to route over, and a call on the one chosen.
// Callbacks instead of async iterators: a microtask a token a stream would be the gateway's largest cost.
import type {
  ArtifactSlot,
  EncodeRequest,
  EncodeResponse,
  Load,
  ModelDescription,
  RequestUpdate,
  Submit,
} from '@spotlight/proto';
import type { ServiceError } from '../errors/service-error.js';

/** One worker at this moment; an immutable copy made when it reports. */
export interface WorkerSnapshot {
  readonly workerId: string;
  /** Names this joining: a worker that joins again, as a new process under its old id does, has another. */
  readonly incarnation: string;
  readonly address: string;
  readonly metricsAddress: string;
  readonly model: ModelDescription;
  readonly slots: readonly ArtifactSlot[];
  readonly state: 'starting' | 'ready' | 'degraded' | 'draining' | 'dead';
  readonly load: Load;
  /** Requests this replica has sent and not seen end; corrects a load report that is a step old. */
  readonly inFlight: number;
  readonly maxRequests: number;
  readonly maxWaiting: number;
  readonly blockSize: number;
  readonly device: string;
  /** Of the hardware, such as "NVIDIA H200". */
  readonly deviceName: string;
  readonly lastStepAgeMs: number;
  /** performance.now() of the last step known to have ended, or of the last report that no work waits. */
  readonly steppedAt: number;
}

export interface CallListener {
  /** In order; the last one has done = true or an error. */
  onUpdate(update: RequestUpdate): void;
  /** The stream to the worker is gone; the request may be retried elsewhere (WORKER_LOST). Called at most once, instead of a last update. */
  onLost(error: ServiceError): void;
}

export interface WorkerCall {
  /** Idempotent: frees the request's blocks on the worker. No callback follows. */
  cancel(): void;
  /** Lets the worker send so many more steps with deltas of this request. */
  credit(steps: number): void;
}

export interface WorkerFleet {
  snapshots(): readonly WorkerSnapshot[];
  /** Throws ServiceError UNAVAILABLE when the worker has just gone. */
  call(workerId: string, submit: Submit, listener: CallListener): WorkerCall;
  /** Token ids and bytes of a text or a chat, from the worker's tokenizer. Rejects with a ServiceError. */
  encode(workerId: string, request: EncodeRequest): Promise<EncodeResponse>;
  /** Called after a worker joined, left or changed its state (not on every load report). Returns the unsubscribe. */
  onChange(listener: () => void): () => void;
}

/** What Nest injects a WorkerFleet by: an interface has no value at run time. */
export const WORKER_FLEET = Symbol('WorkerFleet');

/** What the router looks at of a request. */
export interface RouteRequest {
  readonly model: string;
  readonly sessionId: string | undefined;
  /** Hashes of the prompt's canonical bytes in chunks, each including those before it. */
  readonly prefixHashes: readonly bigint[];
  readonly promptBytes: number;
  /** Incarnations of workers that have failed this request. */
  readonly exclude: ReadonlySet<string>;
  /** Only workers that hold this artifact; empty: any. */
  readonly artifactDigest: string;
  /** What a worker must be like to go on with what another began; undefined: nothing has begun. */
  readonly replay: ReplayNeeds | undefined;
}

/** An absent field asks for nothing. */
export interface ReplayNeeds {
  /** The model's. */
  readonly fingerprint?: string;
  /** Of the deployment's attention settings. */
  readonly settingsDigest?: string;
  /** The worker has ended a step since then; performance.now(). */
  readonly steppedSince?: number;
}
