// R1, the door for gRPC clients: spotlight.v1.Generation over the same path as the HTTP routes. The handlers only translate;
// back-pressure is the call's own buffer on one side and the worker's credits on the other.
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { Inject, Injectable } from '@nestjs/common';
import type {
  GenerateRequest,
  GenerateResponse,
  GenerationServer,
  ListModelsRequest,
  ListModelsResponse,
  TokenizeRequest,
  TokenizeResponse,
} from '@spotlight/proto';
import { SamplingParams } from '@spotlight/proto';
import { AuthService } from '../auth/auth.service.js';
import { grpcError } from '../errors/grpc-error.js';
import { toServiceError } from '../errors/service-error.js';
import { CREDIT_WINDOW, CreditWindow } from '../inference/credit-window.js';
import type { Generation, GenerationRequest } from '../inference/generation-request.js';
import { InferenceService } from '../inference/inference.service.js';
import { validatePrompt } from '../inference/validate.js';
import { ModelsService } from '../models/models.service.js';
import type { Log } from '../telemetry/log.js';
import { LOG } from '../telemetry/log.js';
import { RequestLog, requestIdFrom, RequestRecord } from '../telemetry/request-log.js';
import { TokenizeService } from '../tokenize/tokenize.service.js';

type GenerateCall = ServerWritableStream<GenerateRequest, GenerateResponse>;

@Injectable()
export class GenerationHandlers {
  constructor(
    @Inject(AuthService) private readonly auth: Pick<AuthService, 'authenticateCall'>,
    @Inject(InferenceService) private readonly inference: Pick<InferenceService, 'generate'>,
    @Inject(TokenizeService) private readonly tokenizer: Pick<TokenizeService, 'tokenize'>,
    @Inject(ModelsService) private readonly models: Pick<ModelsService, 'served'>,
    @Inject(RequestLog) private readonly requests: RequestLog,
    @Inject(LOG) private readonly log: Log,
  ) {}

  get handlers(): GenerationServer {
    const generate: handleServerStreamingCall<GenerateRequest, GenerateResponse> = (call) => {
      void this.#generate(call);
    };
    const tokenize: handleUnaryCall<TokenizeRequest, TokenizeResponse> = (call, callback) => {
      void this.#unary('Generation/Tokenize', call, callback, ({ model, prompt, addSpecialTokens }) =>
        this.tokenizer.tokenize(model, prompt, addSpecialTokens),
      );
    };
    const listModels: handleUnaryCall<ListModelsRequest, ListModelsResponse> = (call, callback) => {
      void this.#unary('Generation/ListModels', call, callback, () =>
        Promise.resolve({ models: this.models.served() }),
      );
    };
    return { generate, tokenize, listModels };
  }

  async #generate(call: GenerateCall): Promise<void> {
    const record = new RequestRecord('grpc', requestIdFrom(call.request.requestId || undefined));
    let generation: Generation | undefined;
    let over = false;
    const end = (error: unknown): void => {
      if (over) return;
      over = true;
      generation?.cancel();
      if (error === undefined) call.end();
      else call.emit('error', this.#failed(record, error));
    };
    // grpc-js also emits `cancelled` after a normal end; `over` is set by then.
    call.on('cancelled', () => {
      if (!over) record.outcome = 'cancelled';
      over = true;
      generation?.cancel();
      this.requests.ended(record, 'Generation/Generate', call.cancelled ? status.CANCELLED : status.OK);
    });
    try {
      await this.auth.authenticateCall(call.metadata, 'generate');
      if (over) return;
      const window = new CreditWindow((steps) => {
        generation?.credit(steps);
      });
      let open = true;
      let artifactDigest = '';
      call.on('drain', () => {
        open = true;
        window.release();
      });
      generation = this.inference.generate(generationRequest(call, record), {
        onUpdate: ({ deltas, usage, artifactDigest: digest, done }) => {
          if (generation === undefined || over) return;
          record.model = generation.model.id;
          record.workerId = generation.workerId;
          record.usage = usage ?? record.usage;
          if (digest !== '') artifactDigest = digest;
          open = call.write({
            requestId: record.requestId,
            model: generation.model.id,
            deltas,
            usage: record.usage,
            artifactDigest,
            seed: generation.seed,
          });
          if (done) end(undefined);
          else if (deltas.length > 0) window.consumed(open);
        },
        onError: end,
      });
    } catch (error) {
      end(error);
    }
  }

  async #unary<Request, Response>(
    route: string,
    call: ServerUnaryCall<Request, Response>,
    callback: (error: ReturnType<typeof grpcError> | null, response?: Response) => void,
    work: (request: Request) => Promise<Response>,
  ): Promise<void> {
    const record = new RequestRecord('grpc', requestIdFrom(undefined));
    try {
      await this.auth.authenticateCall(call.metadata, 'generate');
      callback(null, await work(call.request));
      this.requests.ended(record, route, status.OK);
    } catch (error) {
      const failure = this.#failed(record, error);
      callback(failure);
      this.requests.ended(record, route, failure.code);
    }
  }

  #failed(record: RequestRecord, error: unknown): ReturnType<typeof grpcError> {
    const known = toServiceError(error);
    record.outcome = known.row.name;
    if (known.cause !== undefined)
      this.log.error({ err: known.cause, requestId: record.requestId }, 'request failed');
    return grpcError(known);
  }
}

function generationRequest(call: GenerateCall, record: RequestRecord): GenerationRequest {
  const { request } = call;
  validatePrompt(request.prompt);
  const deadline = call.getDeadline();
  const leftMs = (deadline instanceof Date ? deadline.getTime() : deadline) - Date.now();
  const timeoutMs = Math.min(request.timeoutMs ?? Number.POSITIVE_INFINITY, leftMs);
  return {
    requestId: record.requestId,
    model: request.model,
    prompt: request.prompt,
    sampling: request.sampling ?? SamplingParams.fromPartial({}),
    attention: request.attention,
    sessionId: request.sessionId === '' ? undefined : request.sessionId,
    timeoutMs: Number.isFinite(timeoutMs) ? Math.max(1, timeoutMs) : undefined,
    receivedAt: record.receivedAt,
    credits: CREDIT_WINDOW,
  };
}
