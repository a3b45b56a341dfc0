// A ServiceError as gRPC tells it: the status of the table, one sentence, and the whole Error in a trailer, since a status
// alone does not name the field or say whether trying again can help.
import type { ServiceError as GrpcStatus } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import { Error as WireError } from '@spotlight/proto';
import type { ServiceError } from './service-error.js';

/** Trailing metadata with the encoded spotlight.v1.Error. */
export const ERROR_TRAILER = 'spotlight-error-bin';

export function grpcError(error: ServiceError): GrpcStatus {
  const metadata = new Metadata();
  metadata.set(ERROR_TRAILER, Buffer.from(WireError.encode(error.toWire()).finish()));
  if (error.retryAfterSeconds !== undefined) {
    // gRPC's own push-back: clients with a retry policy wait this long.
    metadata.set('grpc-retry-pushback-ms', String(Math.ceil(error.retryAfterSeconds * 1000)));
  }
  return Object.assign(new Error(error.message), { code: error.row.grpc, details: error.message, metadata });
}
