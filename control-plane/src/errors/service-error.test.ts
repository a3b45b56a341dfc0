import assert from 'node:assert/strict';
import { ErrorCode } from '@spotlight/proto';
import { ServiceError, toServiceError } from './service-error.js';
import { ERROR_TABLE, knownErrorCode } from './table.js';

describe('ServiceError', () => {
  it('has a row for every code of the proto', () => {
    const codes = Object.values(ErrorCode).filter((code): code is ErrorCode => typeof code === 'number');
    for (const code of codes) {
      if (code === ErrorCode.UNSPECIFIED || code === ErrorCode.UNRECOGNIZED) continue;
      assert.equal(knownErrorCode(code), code, `code ${code} has no row`);
    }
    assert.equal(knownErrorCode(ErrorCode.UNSPECIFIED), ErrorCode.INTERNAL);
    assert.equal(knownErrorCode(ErrorCode.UNRECOGNIZED), ErrorCode.INTERNAL);
  });

  it('names every row once and sends Retry-After exactly on the retryable ones', () => {
    const rows = Object.values(ERROR_TABLE);
    assert.equal(new Set(rows.map((row) => row.name)).size, rows.length);
    for (const row of rows) assert.equal(row.retryable, row.retryAfterSeconds !== undefined, row.name);
  });

  it('survives the wire with its field and its retryable flag', () => {
    const sent = new ServiceError(ErrorCode.WORKER_LOST, 'The worker died; try again.', { field: 'prompt' });
    const got = ServiceError.fromWire(sent.toWire());
    assert.deepEqual(
      [got.code, got.message, got.field, got.retryable],
      [ErrorCode.WORKER_LOST, 'The worker died; try again.', 'prompt', true],
    );
    const plain = ServiceError.fromWire({
      code: ErrorCode.INTERNAL,
      message: 'x',
      field: '',
      retryable: false,
    });
    assert.equal(plain.field, undefined);
  });

  it('hides the text of an unforeseen error from the client and keeps it as cause', () => {
    const cause = new TypeError('secret path /etc/x');
    const error = toServiceError(cause);
    assert.equal(error.code, ErrorCode.INTERNAL);
    assert.ok(!error.message.includes('secret'));
    assert.equal(error.cause, cause);
    assert.equal(toServiceError(error), error);
  });
});
