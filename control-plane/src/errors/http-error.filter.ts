// Everything thrown on the HTTP side ends here, in OpenAI's shape. What express and Nest throw themselves (bad JSON, no such
// route, body too large) keeps its status; an unforeseen error goes to the log with the request's line and is told as one sentence.
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { Catch } from '@nestjs/common';
import { ErrorCode } from '@spotlight/proto';
import type { ServerResponse } from 'node:http';
import { recordOf } from '../telemetry/request-log.js';
import type { OpenAiErrorBody } from './openai-error.js';
import { errorHeaders, openAiErrorBody } from './openai-error.js';
import { ServiceError, toServiceError } from './service-error.js';

interface HttpAnswer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: OpenAiErrorBody;
  readonly error: ServiceError;
}

@Catch()
export class HttpErrorFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<ServerResponse>();
    const answer = httpAnswer(error);
    recordOf(response).fail(answer.error);
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const text = JSON.stringify(answer.body);
    response
      .writeHead(answer.status, {
        ...answer.headers,
        'content-type': 'application/json; charset=utf-8',
        'content-length': Buffer.byteLength(text),
      })
      .end(text);
  }
}

/** Pure, for tests: what the client gets for anything thrown. */
export function httpAnswer(thrown: unknown): HttpAnswer {
  const error = unwrapped(thrown);
  const status = foreignStatus(error);
  const known = status === undefined ? toServiceError(error) : describeForeign(status, error);
  return {
    status: status ?? known.row.http,
    headers: errorHeaders(known),
    body: openAiErrorBody(known),
    error: known,
  };
}

/** Nest puts its own exception around what an express middleware throws. */
function unwrapped(error: unknown): unknown {
  if (error instanceof ServiceError || !(error instanceof Error)) return error;
  return error.cause instanceof ServiceError ? error.cause : error;
}

/** The 4xx of an HttpException or of an express middleware error. */
function foreignStatus(error: unknown): number | undefined {
  if (error instanceof ServiceError || !(error instanceof Error)) return undefined;
  const { status, getStatus } = error as { status?: unknown; getStatus?: () => unknown };
  const value = typeof getStatus === 'function' ? getStatus.call(error) : status;
  return typeof value === 'number' && value >= 400 && value < 500 ? value : undefined;
}

function describeForeign(status: number, error: unknown): ServiceError {
  const detail = error instanceof Error ? error.message : String(error);
  switch (status) {
    case 404:
      return new ServiceError(ErrorCode.NOT_FOUND, `${detail}; no such route.`, {
        openaiCode: 'unknown_url',
      });
    case 413:
      return new ServiceError(
        ErrorCode.INVALID_ARGUMENT,
        'The body is larger than this server takes (--max-body).',
        {
          openaiCode: 'request_too_large',
        },
      );
    case 415:
      return new ServiceError(ErrorCode.INVALID_ARGUMENT, `${detail}; send JSON in UTF-8.`, {
        openaiCode: 'unsupported_media_type',
      });
    default:
      return new ServiceError(ErrorCode.INVALID_ARGUMENT, `The request could not be read: ${detail}`, {
        openaiCode: 'invalid_request',
      });
  }
}
