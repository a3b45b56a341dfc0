// One row per proto ErrorCode: what each door answers and whether trying again can help.
// OVERLOADED and UNAVAILABLE are both 503: OpenAI clients back off alike on either, while 429 stays the caller's own limit.
import { status } from '@grpc/grpc-js';
import { ErrorCode } from '@spotlight/proto';

export interface ErrorRow {
  /** Stable name in logs and metric labels. */
  readonly name: string;
  readonly grpc: status;
  readonly http: number;
  /** `error.type` of an OpenAI error body. */
  readonly type: string;
  /** `error.code` of an OpenAI error body when the thrower names none. */
  readonly openaiCode: string | null;
  readonly retryable: boolean;
  /** Seconds of the Retry-After header when the thrower names none; undefined sends no header. */
  readonly retryAfterSeconds: number | undefined;
}

export type KnownErrorCode = Exclude<ErrorCode, ErrorCode.UNSPECIFIED | ErrorCode.UNRECOGNIZED>;

function row(
  name: string,
  grpc: status,
  http: number,
  type: string,
  openaiCode: string | null,
  retryAfterSeconds?: number,
): ErrorRow {
  return {
    name,
    grpc,
    http,
    type,
    openaiCode,
    retryable: retryAfterSeconds !== undefined,
    retryAfterSeconds,
  };
}

const INVALID_REQUEST = 'invalid_request_error';

export const ERROR_TABLE: Readonly<Record<KnownErrorCode, ErrorRow>> = {
  [ErrorCode.INVALID_ARGUMENT]: row('invalid_argument', status.INVALID_ARGUMENT, 400, INVALID_REQUEST, null),
  [ErrorCode.NOT_FOUND]: row('not_found', status.NOT_FOUND, 404, INVALID_REQUEST, 'not_found'),
  [ErrorCode.PROMPT_TOO_LONG]: row(
    'prompt_too_long',
    status.INVALID_ARGUMENT,
    400,
    INVALID_REQUEST,
    'context_length_exceeded',
  ),
  [ErrorCode.UNAUTHENTICATED]: row(
    'unauthenticated',
    status.UNAUTHENTICATED,
    401,
    'authentication_error',
    'invalid_api_key',
  ),
  [ErrorCode.PERMISSION_DENIED]: row(
    'permission_denied',
    status.PERMISSION_DENIED,
    403,
    'permission_error',
    'permission_denied',
  ),
  [ErrorCode.RATE_LIMITED]: row(
    'rate_limited',
    status.RESOURCE_EXHAUSTED,
    429,
    'rate_limit_error',
    'rate_limit_exceeded',
    1,
  ),
  [ErrorCode.OVERLOADED]: row('overloaded', status.RESOURCE_EXHAUSTED, 503, 'server_error', 'overloaded', 1),
  [ErrorCode.UNAVAILABLE]: row('unavailable', status.UNAVAILABLE, 503, 'server_error', 'unavailable', 2),
  [ErrorCode.WORKER_LOST]: row('worker_lost', status.UNAVAILABLE, 503, 'server_error', 'worker_lost', 1),
  [ErrorCode.DEADLINE_EXCEEDED]: row(
    'deadline_exceeded',
    status.DEADLINE_EXCEEDED,
    504,
    'timeout_error',
    'deadline_exceeded',
  ),
  [ErrorCode.CANCELLED]: row('cancelled', status.CANCELLED, 499, INVALID_REQUEST, 'cancelled'),
  [ErrorCode.FAILED_PRECONDITION]: row(
    'failed_precondition',
    status.FAILED_PRECONDITION,
    400,
    INVALID_REQUEST,
    'failed_precondition',
  ),
  [ErrorCode.CONFLICT]: row('conflict', status.ABORTED, 409, INVALID_REQUEST, 'conflict'),
  [ErrorCode.INTERNAL]: row('internal', status.INTERNAL, 500, 'server_error', 'internal_error'),
};

/** The row of a code off the wire; one this build does not know reads as INTERNAL. */
export function knownErrorCode(code: ErrorCode): KnownErrorCode {
  return code in ERROR_TABLE ? (code as KnownErrorCode) : ErrorCode.INTERNAL;
}
