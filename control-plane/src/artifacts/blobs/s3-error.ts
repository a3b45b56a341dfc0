// What S3 says, as the operator's trouble (bucket, rights, credentials), as a passing one (away, throttled), or as a bug.
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../../errors/service-error.js';

const REFUSED: Readonly<Record<string, string>> = {
  NoSuchBucket: 'names a bucket that does not exist; create it, or correct --artifact-store',
  AccessDenied: 'may not be used with these credentials; grant reading, writing, listing and deleting',
  InvalidAccessKeyId: 'refuses the access key; correct AWS_ACCESS_KEY_ID',
  SignatureDoesNotMatch: 'refuses the signature; correct AWS_SECRET_ACCESS_KEY',
  CredentialsProviderError:
    'needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile',
  PermanentRedirect: 'lies in another region; correct AWS_REGION',
};

interface S3Failure {
  readonly name: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

export function isMissingObject(error: unknown): boolean {
  const { name, $metadata } = error as Partial<S3Failure>;
  // A HEAD has no body to name the bucket's absence in; whatever is done next will tell it.
  return (
    name === 'NotFound' || name === 'NoSuchKey' || (name === undefined && $metadata?.httpStatusCode === 404)
  );
}

export function s3Error(place: string, error: unknown): unknown {
  if (error instanceof ServiceError || !(error instanceof Error)) return error;
  const { name, $metadata } = error as S3Failure & Error;
  const reason = REFUSED[name];
  if (reason !== undefined) {
    return new ServiceError(ErrorCode.FAILED_PRECONDITION, `The artifact store ${place} ${reason}.`, {
      cause: error,
    });
  }
  const status = $metadata?.httpStatusCode;
  // Without a status no answer came: refused, reset, timed out, no such host.
  if (status === undefined ? 'code' in error || name === 'TimeoutError' : status >= 500 || status === 429) {
    return new ServiceError(
      ErrorCode.UNAVAILABLE,
      `The artifact store ${place} does not answer (${name}); try again.`,
      { cause: error },
    );
  }
  return error;
}
