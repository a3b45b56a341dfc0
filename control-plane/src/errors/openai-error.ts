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
  const param = error.field === undefined || error.field === '' ? null : ownName(error.field);
  const message = ownName(error.message);
  return { error: { message, type: error.row.type, param, code: error.openaiCode } };
}

/** Sampling parameters are a message of their own in the proto, and top-level fields of an OpenAI body. */
function ownName(text: string): string {
  return text.startsWith('sampling.') ? text.slice('sampling.'.length) : text;
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
