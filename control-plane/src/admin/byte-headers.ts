// The headers of requests whose body is bytes, checked before a byte is read.
import type { Request } from 'express';
import { invalidArgument } from '../errors/service-error.js';

/** The body as it streams in. @throws ServiceError when it was declared as something else, which a parser may have eaten */
export function bytesOf(request: Request): Request {
  const type = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (type === 'application/octet-stream' && encoding === 'identity') return request;
  throw invalidArgument(
    'content-type',
    'The body must be the bytes of the file; send them with Content-Type: application/octet-stream, not compressed.',
    'unsupported_media_type',
  );
}

/** @throws ServiceError INVALID_ARGUMENT `length_required` */
export function lengthOf(request: Request): number {
  const length = optionalLength(request);
  if (length !== undefined && length > 0) return length;
  throw invalidArgument(
    'content-length',
    'The size must be known before the first byte; send Content-Length above 0.',
    'length_required',
  );
}

export function optionalLength(request: Request): number | undefined {
  const length = request.headers['content-length'];
  return length === undefined ? undefined : Number(length);
}

/** Of `Upload-Offset: N`. */
export function offsetOf(request: Request): number {
  const given = request.headers['upload-offset'];
  if (typeof given === 'string' && /^\d{1,15}$/.test(given)) return Number(given);
  throw invalidArgument(
    'upload-offset',
    'The header Upload-Offset must say at which byte the range begins.',
    'invalid_value',
  );
}

/** Of `Range: bytes=N-`; any other range may be answered with the whole, and is. */
export function rangeStart(range: string | undefined): number | undefined {
  const match = /^bytes=(\d{1,15})-$/.exec(range ?? '');
  return match === null ? undefined : Number(match[1]);
}
