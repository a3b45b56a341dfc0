// A unary call's gRPC error as our one error: the first table row with that status, and the worker's own words.
import type { ServiceError as GrpcError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';
import { ERROR_TABLE, knownErrorCode } from '../errors/table.js';

export function fromGrpc(error: GrpcError): ServiceError {
  const code = Object.entries(ERROR_TABLE).find(([, row]) => row.grpc === error.code)?.[0];
  const known = code === undefined ? ErrorCode.INTERNAL : knownErrorCode(Number(code));
  const message =
    error.code === status.UNAVAILABLE ? `The worker cannot be reached (${error.details}).` : error.details;
  return new ServiceError(known, message, { cause: error });
}
