// One worker seen from this side of the hop: a connection of its own and one Serve stream, over which every request runs.
// Knows nothing of the fleet, so the CLI uses it alone. When the stream breaks all its requests are lost at once, because the
// worker frees what a broken stream had asked for; a new stream is opened until close() or retire().
import type { ClientDuplexStream, ServiceError as GrpcError } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import type {
  DescribeResponse,
  EncodeRequest,
  EncodeResponse,
  Load,
  ReadArtifactResponse,
  RequestUpdate,
  ServeRequest,
  ServeResponse,
  Submit,
  ValidateResponse,
} from '@spotlight/proto';
import { ErrorCode, WorkerClient } from '@spotlight/proto';
import { Transport } from '@spotlight/proto/transport';
import { ServiceError } from '../errors/service-error.js';
import type { CallListener, WorkerCall } from './api.js';
import { fromGrpc } from './from-grpc.js';

export interface ChannelEvents {
  /** With every message. `stepped`: a step has ended; else it is news outside a step, such as a refusal. */
  onLoad?(load: Load, stepped: boolean): void;
  /** The stream opened (true), or broke or could not be opened (false, with the reason). */
  onConnected?(connected: boolean, reason: string): void;
  /** A listener threw; its request has been cancelled, the others run on. */
  onFault?(error: unknown): void;
}

const OPTIONS = {
  // A prompt of a million tokens is several MiB; the admission limit of the doors is the one that counts.
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.enable_http_proxy': 0,
  // A stream is never retried by the library: only we know which requests may run twice.
  'grpc.enable_retries': 0,
  // A worker that restarts on its old port must not inherit the old connection's back-off.
  'grpc.use_local_subchannel_pool': 1,
} as const;

const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2_000;
const DIAL_MS = 5_000;

type ServeStream = ClientDuplexStream<ServeRequest, ServeResponse>;

export class WorkerChannel {
  readonly #client: WorkerClient;
  readonly #calls = new Map<string, CallListener>();
  #stream: ServeStream | undefined;
  #backoffMs = FIRST_BACKOFF_MS;
  #redial: NodeJS.Timeout | undefined;
  #state: 'open' | 'retired' | 'closed' = 'open';
  #reason = 'it has not been reached yet';
  #waiters: (() => void)[] = [];

  /** @param address host:port of Worker.Serve; dialled at once, in the background */
  constructor(
    readonly address: string,
    private readonly events: ChannelEvents = {},
    transport = Transport.plain,
  ) {
    const options = { ...OPTIONS, ...transport.channelOptions() };
    this.#client = new WorkerClient(address, transport.channelCredentials(), options);
    this.#dial();
  }

  /** Requests submitted whose last update has not come. */
  get inFlight(): number {
    return this.#calls.size;
  }

  get connected(): boolean {
    return this.#stream !== undefined;
  }

  /** @throws ServiceError (as a rejection) UNAVAILABLE when the worker cannot be reached in time */
  async whenConnected(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!this.connected) {
      const left = deadline - performance.now();
      if (left <= 0 || this.#state !== 'open') throw this.#unreachable();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiters.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** @throws ServiceError UNAVAILABLE without a stream, CONFLICT when the request id runs already */
  submit(submit: Submit, listener: CallListener): WorkerCall {
    const { requestId } = submit;
    if (this.#stream === undefined || this.#state !== 'open') throw this.#unreachable();
    if (this.#calls.has(requestId)) {
      throw new ServiceError(
        ErrorCode.CONFLICT,
        `A request with the id "${requestId}" is running already; send another id, or none.`,
        { field: 'request_id' },
      );
    }
    this.#calls.set(requestId, listener);
    this.#write({ $case: 'submit', value: submit });
    return {
      cancel: () => {
        // By identity: the id may by now belong to a later request.
        if (this.#calls.get(requestId) !== listener) return;
        this.#forget(requestId);
        this.#write({ $case: 'cancel', value: { requestId } });
      },
      credit: (steps) => {
        if (this.#calls.get(requestId) !== listener) return;
        this.#write({ $case: 'credit', value: { requestId, credits: steps } });
      },
    };
  }

  encode(request: EncodeRequest, timeoutMs: number): Promise<EncodeResponse> {
    return new Promise((resolve, reject) => {
      this.#client.encode(
        request,
        new Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error, response) => {
          if (error) reject(fromGrpc(error));
          else resolve(response);
        },
      );
    });
  }

  describe(timeoutMs: number): Promise<DescribeResponse> {
    return new Promise((resolve, reject) => {
      this.#client.describe({}, new Metadata(), { deadline: Date.now() + timeoutMs }, (error, response) => {
        if (error) reject(fromGrpc(error));
        else resolve(response);
      });
    });
  }

  /** Measures an artifact on the worker's own text; the worker fetches it first where it has to. */
  validate(artifactDigest: string, timeoutMs: number): Promise<ValidateResponse> {
    return new Promise((resolve, reject) => {
      this.#client.validate(
        { artifactDigest },
        new Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error, response) => {
          if (error) reject(fromGrpc(error));
          else resolve(response);
        },
      );
    });
  }

  /** The bytes of an artifact the worker came with, as they arrive, until `signal` aborts. Iterating rejects with a ServiceError. */
  async *readArtifact(
    artifactDigest: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    const call = this.#client.readArtifact({ artifactDigest }, new Metadata(), {
      deadline: Date.now() + timeoutMs,
    });
    const cancel = (): void => {
      call.cancel();
    };
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      for await (const { chunk } of call as AsyncIterable<ReadArtifactResponse>) yield chunk;
    } catch (error) {
      throw isGrpcError(error) ? fromGrpc(error) : error;
    } finally {
      signal.removeEventListener('abort', cancel);
      cancel();
    }
  }

  /** Takes nothing new; what runs may end, then the connection closes. */
  retire(): void {
    if (this.#state !== 'open') return;
    this.#state = 'retired';
    clearTimeout(this.#redial);
    if (this.#calls.size === 0) this.close('it left');
  }

  /** Ends everything now: what runs is lost. Idempotent. */
  close(reason: string): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearTimeout(this.#redial);
    const stream = this.#stream;
    this.#drop(reason);
    stream?.cancel();
    this.#client.close();
    this.#wake();
  }

  #dial(): void {
    this.#client.waitForReady(Date.now() + DIAL_MS, (error) => {
      if (this.#state !== 'open') return;
      if (error) this.#failed(`it does not answer at ${this.address}`);
      else this.#open();
    });
  }

  #open(): void {
    const stream = this.#client.serve();
    this.#stream = stream;
    stream.on('data', (message: ServeResponse) => {
      if (this.#stream !== stream) return;
      this.#backoffMs = FIRST_BACKOFF_MS;
      if (message.load) this.events.onLoad?.(message.load, message.step > 0n);
      // Youngest first, and workers name the oldest first: somebody waits for a first token, a later one is read behind others.
      for (const update of message.updates.reverse()) this.#relay(update);
    });
    const ended = (reason: string): void => {
      if (this.#stream === stream) this.#failed(reason);
    };
    stream.on('error', (error: GrpcError) => {
      ended(error.details);
    });
    stream.on('end', () => {
      ended('it ended the stream');
    });
    this.events.onConnected?.(true, '');
    this.#wake();
  }

  #relay(update: RequestUpdate): void {
    const listener = this.#calls.get(update.requestId);
    // Cancelled while the update was under way.
    if (listener === undefined) return;
    const last = update.done || update.error !== undefined;
    try {
      if (last) this.#forget(update.requestId);
      listener.onUpdate(update);
    } catch (error) {
      this.events.onFault?.(error);
      if (last) return;
      this.#forget(update.requestId);
      this.#write({ $case: 'cancel', value: { requestId: update.requestId } });
    }
  }

  #forget(requestId: string): void {
    this.#calls.delete(requestId);
    if (this.#state === 'retired' && this.#calls.size === 0) {
      // Not now: the cancel that made it empty is still to be written.
      setImmediate(() => {
        this.close('it left');
      });
    }
  }

  #failed(reason: string): void {
    this.#drop(reason);
    if (this.#state !== 'open') {
      this.close(reason);
      return;
    }
    this.#redial = setTimeout(() => {
      this.#dial();
    }, this.#backoffMs);
    this.#redial.unref();
    this.#backoffMs = Math.min(2 * this.#backoffMs, MAX_BACKOFF_MS);
  }

  #drop(reason: string): void {
    this.#reason = reason;
    this.#stream = undefined;
    const lost = [...this.#calls.values()];
    this.#calls.clear();
    this.events.onConnected?.(false, reason);
    for (const listener of lost) {
      try {
        listener.onLost(
          new ServiceError(
            ErrorCode.WORKER_LOST,
            `The worker that ran this request was lost (${reason}); try again.`,
          ),
        );
      } catch (error) {
        this.events.onFault?.(error);
      }
    }
  }

  #write(message: NonNullable<ServeRequest['message']>): void {
    this.#stream?.write({ message });
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }

  #unreachable(): ServiceError {
    return new ServiceError(
      ErrorCode.UNAVAILABLE,
      `The worker at ${this.address} cannot take requests (${this.#reason}); try again.`,
    );
  }
}

function isGrpcError(error: unknown): error is GrpcError {
  return error instanceof Error && 'code' in error && 'details' in error;
}
