// What went wrong, as one line that says what to do. Known causes are recognised by their codes, never by their texts;
// anything unknown keeps its stack, because a line without a cause would hide a bug.
import { status } from '@grpc/grpc-js';

/** Exit statuses: the work failed, the command line was wrong, the user pressed Ctrl-C. */
export const EXIT = { failure: 1, usage: 2, interrupted: 130 } as const;

export class CliError extends Error {
  override readonly name = 'CliError';
  constructor(
    message: string,
    readonly exitCode: number = EXIT.failure,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

interface CodedError extends Error {
  readonly code?: unknown;
  readonly path?: string;
  readonly port?: number;
  readonly details?: string;
}

const GRPC_ADVICE = new Map<number, string>([
  [
    status.UNAVAILABLE,
    'Is the server running? Start one with "spotlight serve", or name another with --url.',
  ],
  [status.UNAUTHENTICATED, 'Give a key with --api-key or SPOTLIGHT_API_KEY.'],
  [status.PERMISSION_DENIED, 'The key may not do this; use another with --api-key.'],
  [status.DEADLINE_EXCEEDED, 'It took too long; try again, or raise --timeout.'],
]);

/** One line for a known cause; undefined when the error is a bug whose stack is wanted. */
export function describeFailure(error: unknown): string | undefined {
  if (error instanceof CliError) return error.message;
  if (!(error instanceof Error)) return undefined;
  const { code, path, port, details } = error as CodedError;
  const what = path ?? 'file';
  switch (code) {
    case 'ENOENT':
      return `${what} does not exist. Check the path.`;
    case 'EACCES':
    case 'EPERM':
      return port === undefined
        ? `No permission for ${what}. Check its owner and mode.`
        : `No permission for port ${port}. Choose one above 1023.`;
    case 'EISDIR':
      return `${what} is a folder, a file is wanted.`;
    case 'ENOSPC':
      return 'No space left on the disk. Make room, or point --data or SPOTLIGHT_CACHE at another disk.';
    case 'EADDRINUSE':
      return `Port ${port ?? ''} is already in use. Stop what uses it, or choose another with --http-port, --grpc-port or --metrics-port.`;
    case 'EADDRNOTAVAIL':
      return 'This machine has no such address. Check --host.';
    default:
  }
  if (typeof code === 'number' && details !== undefined) {
    const advice = GRPC_ADVICE.get(code);
    return advice === undefined ? details : `${details}. ${advice}`;
  }
  // Errors of the native module and of the services are already written for the user.
  if (error.name === 'EngineError' || error.name === 'ServiceError') return error.message;
  return undefined;
}
