// Reads JSON bodies, up to tens of megabytes for long prompts. Invalid UTF-8 is refused: express would turn the bytes into
// U+FFFD and the model would answer a prompt nobody wrote.
import express from 'express';
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { invalidArgument } from '../errors/service-error.js';

type Middleware = ReturnType<typeof express.json>;

/** @param limit bytes, inflated; above it 413 */
export function jsonBody(limit: number): Middleware {
  return express.json({ limit, strict: false, verify: refuseInvalidUtf8 });
}

function refuseInvalidUtf8(
  _request: IncomingMessage,
  _response: ServerResponse,
  body: Buffer,
  encoding: string,
): void {
  if (encoding === 'utf-8' && !isUtf8(body)) {
    throw invalidArgument('', 'The body is not valid UTF-8; encode it as UTF-8.', 'invalid_utf8');
  }
}
