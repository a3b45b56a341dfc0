// The one error every room throws on purpose. Both doors render it through errors/table.ts; anything else that
// reaches a door is a bug and becomes INTERNAL with its message kept for the log, not for the client.
import type { Error as WireError } from '@spotlight/proto';
import { ErrorCode as Code } from '@spotlight/proto';
import type { ErrorRow, KnownErrorCode } from './table.js';
import { ERROR_TABLE, knownErrorCode } from './table.js';

export interface ServiceErrorOptions {
  /** The request field at fault, as the client wrote it: `max_tokens`, `messages[2].content`. */
  readonly field?: string | undefined;
  /** `error.code` of the OpenAI body, where it is finer than the table's: `model_not_found`. */
  readonly openaiCode?: string | undefined;
  /** Seconds until trying again can help; becomes Retry-After. */
  readonly retryAfterSeconds?: number | undefined;
  /** Overrides the table, for an error relayed from a worker that knows better. */
  readonly retryable?: boolean | undefined;
  readonly cause?: unknown;
}

export class ServiceError extends Error {
  override readonly name = 'ServiceError';
  readonly field: string | undefined;
  readonly openaiCode: string | null;
  readonly retryAfterSeconds: number | undefined;
  readonly retryable: boolean;

  /** @param message one sentence that says what is wrong and what to do */
  constructor(
    readonly code: KnownErrorCode,
    message: string,
    options: ServiceErrorOptions = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const row = ERROR_TABLE[code];
    this.field = options.field;
    this.openaiCode = options.openaiCode ?? row.openaiCode;
    this.retryable = options.retryable ?? row.retryable;
    this.retryAfterSeconds =
      options.retryAfterSeconds ?? (this.retryable ? row.retryAfterSeconds : undefined);
  }

  get row(): ErrorRow {
    return ERROR_TABLE[this.code];
  }

  toWire(): WireError {
    return { code: this.code, message: this.message, field: this.field ?? '', retryable: this.retryable };
  }

  /** The same error under another name of its field, for a door that calls it otherwise. */
  withField(field: string): ServiceError {
    const { code, message, openaiCode, retryAfterSeconds, retryable, cause } = this;
    return new ServiceError(code, message, {
      field,
      openaiCode: openaiCode ?? undefined,
      retryAfterSeconds,
      retryable,
      cause,
    });
  }

  static fromWire(error: WireError): ServiceError {
    return new ServiceError(knownErrorCode(error.code), error.message, {
      field: error.field === '' ? undefined : error.field,
      retryable: error.retryable,
    });
  }
}

/** What a door answers for anything thrown. An unforeseen error keeps its own text in `cause` only. */
export function toServiceError(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  return new ServiceError(Code.INTERNAL, 'The server failed on this request; its log has the reason.', {
    cause: error,
  });
}

export function invalidArgument(field: string, message: string, openaiCode?: string): ServiceError {
  return new ServiceError(Code.INVALID_ARGUMENT, message, { field, openaiCode });
}
