// R1, the door for gRPC clients: spotlight.v1.Generation over the same path as the HTTP routes. Handlers check the key and
// translate; a Generate call's life is generate-call.ts.
import type { handleServerStreamingCall, handleUnaryCall, ServerUnaryCall } from '@grpc/grpc-js';
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
import { AuthService } from '../auth/auth.service.js';
import type { Ticket } from '../auth/key-limiter.js';
import { KeyLimiter } from '../auth/key-limiter.js';
import { grpcError } from '../errors/grpc-error.js';
import { toServiceError } from '../errors/service-error.js';
import { InferenceService } from '../inference/inference.service.js';
import { ModelsService } from '../models/models.service.js';
import { RequestLog, requestIdFrom, RequestRecord } from '../telemetry/request-log.js';
import { TokenizeService } from '../tokenize/tokenize.service.js';
import type { GenerateStream } from './generate-call.js';
import { GenerateCall } from './generate-call.js';

@Injectable()
export class GenerationHandlers {
  constructor(
    @Inject(AuthService) private readonly auth: Pick<AuthService, 'authenticateCall'>,
    @Inject(KeyLimiter) private readonly limiter: Pick<KeyLimiter, 'enter'>,
    @Inject(InferenceService) private readonly inference: Pick<InferenceService, 'generate'>,
    @Inject(TokenizeService) private readonly tokenizer: Pick<TokenizeService, 'tokenize'>,
    @Inject(ModelsService) private readonly models: Pick<ModelsService, 'served'>,
    @Inject(RequestLog) private readonly requests: RequestLog,
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

  async #generate(stream: GenerateStream): Promise<void> {
    let ticket: Ticket | undefined;
    const call = new GenerateCall(stream, (record, code) => {
      ticket?.leave(record.tokens);
      this.requests.ended(record, 'Generation/Generate', code);
    });
    const { record } = call;
    try {
      record.from(await this.auth.authenticateCall(stream.metadata, 'generate'));
      ticket = await this.limiter.enter(record.caller, record.limits);
      // A client that has left meanwhile has been counted out already, without a ticket.
      if (call.over) ticket.leave(0);
      else call.run(this.inference);
    } catch (error) {
      call.end(error);
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
      record.from(await this.auth.authenticateCall(call.metadata, 'generate'));
      callback(null, await work(call.request));
      this.requests.ended(record, route, status.OK);
    } catch (error) {
      const known = toServiceError(error);
      record.fail(known);
      callback(grpcError(known));
      this.requests.ended(record, route, known.row.grpc);
    }
  }
}
