// A port that cannot be bound, told so that the next command can be typed.
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from './service-error.js';

const FLAGS = { HTTP: '--http-port', gRPC: '--grpc-port', metrics: '--metrics-port' } as const;

export type Door = keyof typeof FLAGS;

/** @param error of net.Server or of grpc-js, which carries the system's code only in its text */
export function bindError(door: Door, host: string, port: number, error: unknown): ServiceError {
  const text = error instanceof Error ? error.message : String(error);
  const flag = FLAGS[door];
  const at = `${host}:${port}`;
  if (text.includes('EADDRINUSE') || text.includes('No address added')) {
    return new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      `The ${door} port ${at} is in use; stop what uses it or give another with ${flag} (0 picks a free one).`,
      { field: flag, cause: error },
    );
  }
  if (text.includes('EACCES')) {
    return new ServiceError(
      ErrorCode.FAILED_PRECONDITION,
      `The ${door} port ${at} may not be bound by this user; give one above 1023 with ${flag}.`,
      { field: flag, cause: error },
    );
  }
  return new ServiceError(ErrorCode.FAILED_PRECONDITION, `The ${door} door cannot bind ${at}: ${text}`, {
    field: '--host',
    cause: error,
  });
}
