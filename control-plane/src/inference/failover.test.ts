// The rules as a table, one row a situation.
import { ErrorCode } from '@spotlight/proto';
import assert from 'node:assert/strict';
import { ServiceError } from '../errors/service-error.js';
import type { KnownErrorCode } from '../errors/table.js';
import type { Decision, Standing } from './failover.js';
import { decide, isHung } from './failover.js';

const LIMITS = { replayLimit: 2, replayMaxTokens: 10, hedgeAfter: 100 };
const start: Standing = { begun: false, silent: true, retries: 0, replays: 0, kept: true, remainingMs: 1 };
const midway: Standing = { ...start, begun: true, silent: false };
const resumed: Standing = { ...midway, silent: true, replays: 1 };

const CASES: readonly (readonly [string, Standing, KnownErrorCode, Decision])[] = [
  ['lost before any token', start, ErrorCode.WORKER_LOST, 'retry'],
  ['full before any token', start, ErrorCode.OVERLOADED, 'retry'],
  ['full twice', { ...start, retries: 1 }, ErrorCode.OVERLOADED, 'end'],
  ['a bad request', start, ErrorCode.INVALID_ARGUMENT, 'end'],
  ['a bad request after a retry', { ...start, retries: 1 }, ErrorCode.INVALID_ARGUMENT, 'end'],
  ['no time left', { ...midway, remainingMs: 0 }, ErrorCode.WORKER_LOST, 'end'],
  ['lost midway', midway, ErrorCode.WORKER_LOST, 'replay'],
  ['stopping midway', midway, ErrorCode.UNAVAILABLE, 'replay'],
  ['broken midway', midway, ErrorCode.INTERNAL, 'end'],
  ['late midway', midway, ErrorCode.DEADLINE_EXCEEDED, 'end'],
  ['lost midway after a retry at the start', { ...midway, retries: 1 }, ErrorCode.WORKER_LOST, 'replay'],
  ['lost again', { ...midway, replays: 1 }, ErrorCode.WORKER_LOST, 'replay'],
  ['lost once too often', { ...midway, replays: 2 }, ErrorCode.WORKER_LOST, 'end: limit'],
  ['too long to be kept', { ...midway, kept: false }, ErrorCode.WORKER_LOST, 'end: length'],
  ['a replay that is refused', resumed, ErrorCode.INVALID_ARGUMENT, 'replay'],
  ['a replay without its artifact', resumed, ErrorCode.FAILED_PRECONDITION, 'replay'],
  ['a replay that is late', resumed, ErrorCode.DEADLINE_EXCEEDED, 'end'],
  ['a replay refused at the limit', { ...resumed, replays: 2 }, ErrorCode.INVALID_ARGUMENT, 'end: limit'],
];

describe('failover', () => {
  for (const [name, standing, code, expected] of CASES) {
    it(`${name}: ${expected}`, () => {
      assert.equal(decide(standing, new ServiceError(code, 'x'), LIMITS), expected);
    });
  }

  it('replays nothing when its limit is 0, and still retries', () => {
    const lost = new ServiceError(ErrorCode.WORKER_LOST, 'x');
    assert.equal(decide(midway, lost, { ...LIMITS, replayLimit: 0 }), 'end: limit');
    assert.equal(decide(start, lost, { ...LIMITS, replayLimit: 0 }), 'retry');
  });

  it('takes a worker for hung when both the wait and its last step are old', () => {
    const hung = (since: number, steppedAt: number | undefined): boolean =>
      isHung({ now: 1000, since, steppedAt }, 100);
    assert.ok(hung(899, 899));
    assert.ok(hung(899, undefined));
    assert.ok(!hung(950, 100), 'news came lately: it is another request that waits');
    assert.ok(!hung(100, 950), 'it steps: the request waits behind others');
    assert.ok(!hung(900, 900), 'on the mark is not past it');
  });
});
