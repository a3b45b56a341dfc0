// How the engine says no: the wire's error message, made in one place so that `retryable` follows from the code.
import { ErrorCode } from '@spotlight/proto';
import type { Error as WireError } from '@spotlight/proto';

const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  ErrorCode.OVERLOADED,
  ErrorCode.UNAVAILABLE,
  ErrorCode.WORKER_LOST,
]);

/** `field` names the request field at fault, as the wire spells it; '' when none is. */
export function refusal(code: ErrorCode, message: string, field = ''): WireError {
  return { code, message, field, retryable: RETRYABLE.has(code) };
}

export function invalid(field: string, message: string): WireError {
  return refusal(ErrorCode.INVALID_ARGUMENT, `${field} ${message}`, field);
}
