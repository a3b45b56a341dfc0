// The error body every OpenAI client reads, and the headers that go with it.
import type { ServiceError } from './service-error.js';

export interface OpenAiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export function openAiErrorBody(error: ServiceError): OpenAiErrorBody {
  const param = error.field === undefined || error.field === '' ? null : error.field;
  return { error: { message: error.message, type: error.row.type, param, code: error.openaiCode } };
}

/** x-should-retry is what the official clients obey before their own list of statuses. */
export function errorHeaders(error: ServiceError): Record<string, string> {
  return {
    'x-should-retry': String(error.retryable),
    ...(error.retryAfterSeconds === undefined
      ? {}
      : { 'retry-after': String(Math.ceil(error.retryAfterSeconds)) }),
    ...(error.row.http === 401 ? { 'www-authenticate': 'Bearer' } : {}),
  };
}
