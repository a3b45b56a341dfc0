import { NotFoundException } from '@nestjs/common';
import { Error as WireError, ErrorCode } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { bindError } from './bind-error.js';
import { ERROR_TRAILER, grpcError } from './grpc-error.js';
import { httpAnswer } from './http-error.filter.js';
import { invalidArgument, ServiceError } from './service-error.js';

describe('errors at the doors', () => {
  it('words a ServiceError as OpenAI does', () => {
    const { status, body, headers } = httpAnswer(invalidArgument('max_tokens', 'Too few.', 'invalid_value'));
    assert.equal(status, 400);
    assert.deepEqual(body, {
      error: {
        message: 'Too few.',
        type: 'invalid_request_error',
        param: 'max_tokens',
        code: 'invalid_value',
      },
    });
    assert.equal(headers['x-should-retry'], 'false');
  });

  it('drops the proto name of a sampling field', () => {
    const { body } = httpAnswer(invalidArgument('sampling.top_p', 'sampling.top_p is 0.'));
    assert.deepEqual([body.error.param, body.error.message], ['top_p', 'top_p is 0.']);
  });

  it('sends Retry-After in whole seconds with what may be tried again', () => {
    const error = new ServiceError(ErrorCode.RATE_LIMITED, 'Slow down.', { retryAfterSeconds: 1.2 });
    const { status, headers } = httpAnswer(error);
    assert.deepEqual([status, headers['retry-after'], headers['x-should-retry']], [429, '2', 'true']);
  });

  it('keeps the 4xx of Nest and express and takes our own error out of their wrapping', () => {
    assert.equal(httpAnswer(new NotFoundException('Cannot GET /x')).status, 404);
    assert.equal(
      httpAnswer(Object.assign(new Error('too big'), { status: 413 })).body.error.code,
      'request_too_large',
    );
    const wrapped = new Error('outer', { cause: invalidArgument('a', 'Own words.') });
    assert.equal(httpAnswer(Object.assign(wrapped, { status: 403 })).status, 400);
  });

  it('says nothing of an unforeseen error', () => {
    const { status, body, error } = httpAnswer(
      new TypeError('undefined is not a function at /srv/secret.js'),
    );
    assert.deepEqual([status, body.error.code], [500, 'internal_error']);
    assert.ok(error.cause instanceof TypeError, 'the log would not know what happened');
    assert.ok(!JSON.stringify(body).includes('secret'));
  });

  it('carries the whole error in the gRPC trailers', () => {
    const error = new ServiceError(ErrorCode.PROMPT_TOO_LONG, 'At most 10.', { field: 'prompt' });
    const told = grpcError(error);
    const [bytes] = told.metadata.get(ERROR_TRAILER);
    assert.ok(Buffer.isBuffer(bytes));
    assert.deepEqual(WireError.decode(bytes), error.toWire());
    assert.equal(told.details, 'At most 10.');
  });

  it('names the port in use and the flag that changes it', () => {
    const taken = bindError(
      'HTTP',
      '127.0.0.1',
      8000,
      new Error('listen EADDRINUSE: address already in use'),
    );
    assert.match(taken.message, /127\.0\.0\.1:8000 is in use.*--http-port/);
    assert.match(bindError('gRPC', '::1', 80, new Error('EACCES')).message, /above 1023 with --grpc-port/);
  });
});
