import assert from 'node:assert/strict';
import { ErrorCode } from '@spotlight/proto';
import { DrizzleQueryError } from 'drizzle-orm';
import { databaseError, isTransient } from './database-error.js';

function coded(code: string, message = 'x'): Error {
  return Object.assign(new Error(message), { code });
}

describe('databaseError', () => {
  it('finds the code below what drizzle wraps around it', () => {
    const error = databaseError(new DrizzleQueryError('select 1', [], coded('ECONNREFUSED')));
    assert.equal(error?.code, ErrorCode.UNAVAILABLE);
    assert.ok(error.retryable);
  });

  it('says what the operator can do', () => {
    assert.match(
      databaseError(coded('28P01'))?.message ?? '',
      /refuses the password; correct --database-url/,
    );
    assert.match(databaseError(coded('53100'))?.message ?? '', /no disk left/);
  });

  it('counts a time-out of the pool as passing', () => {
    assert.ok(isTransient(new Error('timeout exceeded when trying to connect')));
  });

  it('leaves a constraint or a syntax error alone', () => {
    for (const code of ['23505', '42601', '']) assert.equal(databaseError(coded(code)), undefined, code);
    assert.equal(databaseError('text'), undefined);
  });
});
