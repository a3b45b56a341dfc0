// One Generate call from its request to its status. It ends once, by whichever comes first: the last chunk, an error, or the
// client's cancel; grpc-js emits `cancelled` after all of them, which is where the call is counted.
import type { ServerWritableStream } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { GenerateRequest, GenerateResponse, RequestUpdate } from '@spotlight/proto';
import { SamplingParams } from '@spotlight/proto';
import { grpcError } from '../errors/grpc-error.js';
import { toServiceError } from '../errors/service-error.js';
import { CREDIT_WINDOW, CreditWindow } from '../inference/credit-window.js';
import type { Generation, GenerationRequest } from '../inference/generation-request.js';
import type { InferenceService } from '../inference/inference.service.js';
import { validatePrompt } from '../inference/validate.js';
import { requestIdFrom, RequestRecord } from '../telemetry/request-log.js';

export type GenerateStream = ServerWritableStream<GenerateRequest, GenerateResponse>;

export class GenerateCall {
  readonly record: RequestRecord;
  readonly #window = new CreditWindow((steps) => {
    this.#generation?.credit(steps);
  });
  #generation: Generation | undefined;
  #artifactDigest = '';
  #over = false;

  constructor(
    private readonly stream: GenerateStream,
    onEnded: (record: RequestRecord, status: number) => void,
  ) {
    const { requestId } = stream.request;
    const record = new RequestRecord('grpc', requestIdFrom(requestId === '' ? undefined : requestId));
    this.record = record;
    let code = status.OK;
    stream.on('error', (error: { code?: status }) => {
      code = error.code ?? status.INTERNAL;
    });
    stream.on('drain', () => {
      this.#window.release();
    });
    stream.on('cancelled', () => {
      if (!this.#over) {
        record.outcome = 'cancelled';
        code = status.CANCELLED;
      }
      this.#over = true;
      record.usage = this.#generation?.usage ?? record.usage;
      this.#generation?.cancel();
      onEnded(record, code);
    });
  }

  get over(): boolean {
    return this.#over;
  }

  /** Starts the request; its chunks follow. Throws ServiceError when it is not taken. */
  run(inference: Pick<InferenceService, 'generate'>): void {
    if (this.#over) return; // The client left while its key was looked up.
    this.#generation = inference.generate(this.#request(), {
      onUpdate: (update) => {
        this.#relay(update);
      },
      onError: (error) => {
        this.end(error);
      },
    });
  }

  /** Idempotent. */
  end(error?: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#generation?.cancel();
    if (error === undefined) {
      this.stream.end();
      return;
    }
    const known = toServiceError(error);
    this.record.fail(known);
    this.stream.emit('error', grpcError(known));
  }

  #relay({ deltas, usage, artifactDigest, done }: RequestUpdate): void {
    const generation = this.#generation;
    if (generation === undefined || this.#over) return;
    const { record } = this;
    record.model = generation.model.id;
    record.workerId = generation.workerId;
    record.replays = generation.replays;
    record.usage = usage ?? record.usage;
    if (artifactDigest !== '') this.#artifactDigest = artifactDigest;
    const open = this.stream.write({
      requestId: record.requestId,
      model: generation.model.id,
      deltas,
      usage: record.usage,
      artifactDigest: this.#artifactDigest,
      seed: generation.seed,
    });
    if (done) this.end();
    else if (deltas.length > 0) this.#window.consumed(open);
  }

  /** Of the call's metadata. */
  #header(name: string): string | undefined {
    const [value] = this.stream.metadata.get(name);
    return typeof value === 'string' ? value : undefined;
  }

  #request(): GenerationRequest {
    const { request } = this.stream;
    validatePrompt(request.prompt);
    const deadline = this.stream.getDeadline();
    const leftMs = (deadline instanceof Date ? deadline.getTime() : deadline) - Date.now();
    const timeoutMs = Math.min(request.timeoutMs ?? Number.POSITIVE_INFINITY, leftMs);
    return {
      requestId: this.record.requestId,
      model: request.model,
      prompt: request.prompt,
      sampling: request.sampling ?? SamplingParams.fromPartial({}),
      attention: request.attention,
      sessionId: request.sessionId === '' ? undefined : request.sessionId,
      wish: {
        artifact: this.#header('x-spotlight-artifact'),
        canaryKey: this.#header('x-spotlight-canary-key'),
      },
      caller: this.record.caller,
      timeoutMs: Number.isFinite(timeoutMs) ? Math.max(1, timeoutMs) : undefined,
      receivedAt: this.record.receivedAt,
      credits: CREDIT_WINDOW,
    };
  }
}
