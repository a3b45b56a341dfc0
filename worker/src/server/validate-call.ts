// Worker.Validate: measures an artifact and answers with its quality, or with the reason why it cannot be measured here.
import type { sendUnaryData, ServerUnaryCall } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { ValidateRequest, ValidateResponse } from '@spotlight/proto';
import type { Logger } from 'pino';
import { MeasureError } from '../fleet/reconciler.js';
import { PromptError } from '../tokenizer/errors.js';

export type ValidateArtifact = (digest: string) => Promise<ValidateResponse>;

export function validateCall(
  call: ServerUnaryCall<ValidateRequest, ValidateResponse>,
  reply: sendUnaryData<ValidateResponse>,
  validate: ValidateArtifact,
  log: Logger,
): void {
  const { artifactDigest } = call.request;
  if (!/^[0-9a-f]{64}$/.test(artifactDigest)) {
    const details = `artifact_digest must be 64 lower-case hex digits, not "${artifactDigest.slice(0, 80)}"`;
    reply({ code: status.INVALID_ARGUMENT, details });
    return;
  }
  validate(artifactDigest).then(
    (response) => {
      reply(null, response);
    },
    (error: unknown) => {
      if (error instanceof MeasureError) {
        reply({ code: status[error.code], details: error.message });
      } else if (error instanceof PromptError) {
        reply({
          code: status.FAILED_PRECONDITION,
          details: `the validation text does not fit: ${error.message}`,
        });
      } else {
        log.error({ err: error, artifact: artifactDigest }, 'validation failed');
        reply({ code: status.INTERNAL, details: 'the worker failed to validate the artifact; see its log' });
      }
    },
  );
}
