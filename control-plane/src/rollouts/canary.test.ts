import assert from 'node:assert/strict';
import { ErrorCode } from '@spotlight/proto';
import type { LiveRollout } from './canary.js';
import { bucketOf, pinOf } from './canary.js';
import { CANDIDATE, STABLE } from './rollout.fixture.js';

const live = (change: Partial<LiveRollout> = {}): LiveRollout => ({
  id: 'r1',
  modelId: 'm',
  stable: STABLE,
  candidate: CANDIDATE,
  phase: 'canary',
  share: 0.1,
  ...change,
});
const keys = Array.from({ length: 20_000 }, (_, i) => `request-${i}`);
const share = (rollout: LiveRollout): number =>
  keys.filter((key) => pinOf([rollout], key, {}).digest === CANDIDATE).length / keys.length;

describe('canary', () => {
  it('takes its share of the requests', () => {
    assert.ok(Math.abs(share(live()) - 0.1) < 0.01);
    assert.ok(Math.abs(share(live({ share: 0.5, phase: 'waves' })) - 0.5) < 0.02);
    assert.equal(share(live({ share: 1 })), 1);
    assert.equal(share(live({ share: 0 })), 0);
  });

  it('takes none before it, while it is taken back, or when there is none', () => {
    assert.equal(share(live({ phase: 'staging' })), 0);
    assert.equal(share(live({ phase: 'rolling_back' })), 0);
    assert.deepEqual(pinOf([], 'r', {}), { digest: '', required: false });
  });

  it('takes the same keys every time, and others in the next rollout', () => {
    const both = keys.filter((key) => bucketOf('r1', key) < 0.1 && bucketOf('r2', key) < 0.1).length;
    assert.ok(both / keys.length < 0.02);
    assert.equal(bucketOf('r1', 'k'), bucketOf('r1', 'k'));
  });

  it('goes by the key a client gives instead of the request', () => {
    const digests = new Set(keys.map((key) => pinOf([live()], key, { canaryKey: 'user-7' }).digest));
    assert.equal(digests.size, 1);
  });

  it('is overruled by a wish', () => {
    const pin = (artifact: string, rollouts = [live()]): unknown => pinOf(rollouts, 'r', { artifact });
    assert.deepEqual(pin('canary', [live({ phase: 'staging' })]), { digest: CANDIDATE, required: false });
    assert.deepEqual(pin('stable', [live({ share: 1 })]), { digest: STABLE, required: false });
    assert.deepEqual(pin('c'.repeat(64)), { digest: 'c'.repeat(64), required: true });
    assert.deepEqual(pin('canary', []), { digest: '', required: false });
    assert.deepEqual(pin('canary', [live({ phase: 'rolling_back' })]), { digest: '', required: false });
    assert.throws(() => pin('newest'), { code: ErrorCode.INVALID_ARGUMENT, field: 'x-spotlight-artifact' });
  });
});
