// A unary call's gRPC error as our one error, with the worker's own words. Several codes share a status (a prompt too long is an
// invalid argument), so this is a table of its own and not the inverse of errors/table.ts.
import type { ServiceError as GrpcError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import type { KnownErrorCode } from '../errors/table.js';

const CODES: Readonly<Partial<Record<status, KnownErrorCode>>> = {
  [status.INVALID_ARGUMENT]: ErrorCode.INVALID_ARGUMENT,
  [status.NOT_FOUND]: ErrorCode.NOT_FOUND,
  [status.FAILED_PRECONDITION]: ErrorCode.FAILED_PRECONDITION,
  [status.RESOURCE_EXHAUSTED]: ErrorCode.OVERLOADED,
  [status.UNAVAILABLE]: ErrorCode.UNAVAILABLE,
  [status.DEADLINE_EXCEEDED]: ErrorCode.DEADLINE_EXCEEDED,
  [status.CANCELLED]: ErrorCode.CANCELLED,
};

export function fromGrpc(error: GrpcError): ServiceError {
  const message =
    error.code === status.UNAVAILABLE ? `The worker cannot be reached (${error.details}).` : error.details;
  return new ServiceError(CODES[error.code] ?? ErrorCode.INTERNAL, message, { cause: error });
}
