// The Worker service as grpc-js takes it: Serve opens a stream of its own, Describe and Encode answer at once,
// Validate when it has measured, ReadArtifact sends a file.
import type { sendUnaryData, ServerUnaryCall } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type {
  DescribeRequest,
  DescribeResponse,
  EncodeRequest,
  EncodeResponse,
  ValidateRequest,
  ValidateResponse,
  WorkerServer,
} from '@spotlight/proto';
import type { Logger } from 'pino';
import type { RequestEngine } from '../engine/api.js';
import { PromptError } from '../tokenizer/errors.js';
import type { PromptEncoder } from './prompt.js';
import { encodePrompt } from './prompt.js';
import { readArtifact } from './read-artifact.js';
import { ServeStream } from './serve-stream.js';
import type { ValidateArtifact } from './validate-call.js';
import { validateCall } from './validate-call.js';

export interface ServiceParts {
  readonly engine: RequestEngine;
  readonly tokenizer: PromptEncoder & { bytes(tokenId: number): Uint8Array };
  readonly describe: () => DescribeResponse;
  /** Why no new request is taken now; undefined when they are. */
  readonly closedFor: () => string | undefined;
  readonly validate: ValidateArtifact;
  /** The file of an artifact this worker came with. */
  readonly artifactPath: (digest: string) => string | undefined;
  readonly log: Logger;
}

/** @param streams every open Serve stream, kept here so that a shutdown can end them */
export function workerService(
  { engine, tokenizer, describe, validate, closedFor, artifactPath, log }: ServiceParts,
  streams: Set<ServeStream>,
): WorkerServer {
  return {
    serve: (call) => {
      log.info({ peer: call.getPeer() }, 'serve stream opened');
      const stream = new ServeStream(call, engine, tokenizer, closedFor, log);
      streams.add(stream);
      call.on('close', () => {
        streams.delete(stream);
        log.info({ peer: call.getPeer() }, 'serve stream closed');
      });
    },
    describe: (
      _call: ServerUnaryCall<DescribeRequest, DescribeResponse>,
      reply: sendUnaryData<DescribeResponse>,
    ) => {
      reply(null, describe());
    },
    encode: (call: ServerUnaryCall<EncodeRequest, EncodeResponse>, reply: sendUnaryData<EncodeResponse>) => {
      const { prompt, addSpecialTokens } = call.request;
      encodePrompt(prompt, tokenizer, addSpecialTokens === undefined ? {} : { addSpecialTokens }).then(
        (ids) => {
          reply(null, { tokenIds: [...ids], tokens: ids.map((id) => Buffer.from(tokenizer.bytes(id))) });
        },
        (error: unknown) => {
          const fault = error instanceof PromptError;
          if (!fault) log.error({ err: error }, 'encoding failed');
          reply({
            code: fault ? status.INVALID_ARGUMENT : status.INTERNAL,
            details: fault ? error.message : 'the worker failed to encode the prompt; see its log',
          });
        },
      );
    },
    validate: (call: ServerUnaryCall<ValidateRequest, ValidateResponse>, reply) => {
      validateCall(call, reply, validate, log);
    },
    readArtifact: (call) => {
      void readArtifact(call, artifactPath, log);
    },
  };
}
