// Tells an operator's trouble with the database (down, full, refused) from a bug in a query, and words the former.
// Drizzle wraps what `pg` throws, so the cause chain is searched for the first SQLSTATE or system error code.
import { ErrorCode } from '@spotlight/proto';
import { ServiceError } from '../errors/service-error.js';

/** May pass by itself: connection refused, reset or timed out, server starting or shutting down, too many connections. */
const TRANSIENT = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN'],
  ...['08000', '08001', '08003', '08006', '57P01', '57P02', '57P03', '53300'],
]);

const REFUSED: Readonly<Record<string, string>> = {
  '28P01': 'refuses the password; correct --database-url',
  '28000': 'refuses this user; correct --database-url',
  '3D000': 'has no such database; create it, or correct --database-url',
  '42501': 'lets this user not do that; grant it, or use another user in --database-url',
  '53100': 'has no disk left; free some and try again',
  '53200': 'has no memory left; free some and try again',
  '25006': 'is read-only; point --database-url at the primary',
};

function codeOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'string') return at.code;
    if (/timeout exceeded when trying to connect|Query read timeout|Connection terminated/.test(at.message)) {
      return 'ETIMEDOUT';
    }
  }
  return '';
}

export function isTransient(error: unknown): boolean {
  return TRANSIENT.has(codeOf(error));
}

/** Undefined for an error that says something about the query rather than about the database. */
export function databaseError(error: unknown): ServiceError | undefined {
  const code = codeOf(error);
  if (isTransient(error)) {
    return new ServiceError(ErrorCode.UNAVAILABLE, `The database does not answer (${code}); try again.`, {
      cause: error,
    });
  }
  const reason = REFUSED[code];
  if (reason === undefined) return undefined;
  return new ServiceError(ErrorCode.FAILED_PRECONDITION, `The database ${reason} (${code}).`, {
    cause: error,
  });
}
