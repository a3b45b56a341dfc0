// Artifacts as the engine's loop sees them: requests pinned for life, cached blocks rehashed between steps, rows measured.
import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import type { BlockId, Quality, SlotId } from '@spotlight/cuda';
import { AttentionSettings, ErrorCode } from '@spotlight/proto';
import { silentObserver } from '@spotlight/worker/engine/observer.js';
import type { QualityObservation, RequestObservation } from '@spotlight/worker/engine/observer.js';
import { FakeEngine } from '../fakes/engine.js';
import { Harness } from './harness.js';

/** Remembers what it rehashed. */
class RehashingEngine extends FakeEngine {
  readonly rehashed: { readonly slot: SlotId; readonly blocks: readonly BlockId[] }[] = [];

  override async rehash(
    slot: SlotId,
    blocks: readonly BlockId[],
    filled: readonly number[],
  ): Promise<number> {
    const seconds = await super.rehash(slot, blocks, filled);
    assert.ok(
      filled.every((tokens) => tokens === 64),
      'only full blocks are cached',
    );
    this.rehashed.push({ slot, blocks });
    return seconds;
  }
}

const endless = { promptTokens: [1, 2, 3], sampling: { maxTokens: 1000, ignoreEos: true } };
const long = (salt: number): number[] => Array.from({ length: 330 }, (_, i) => 1 + ((i * 7 + salt) % 200));

describe('artifacts in the loop', function () {
  this.timeout(20_000);
  let harness: Harness;
  afterEach(async () => {
    await harness.stop();
  });
  const native = (): RehashingEngine => {
    assert.ok(harness.native instanceof RehashingEngine);
    return harness.native;
  };
  const rehashedBlocks = (): BlockId[] => native().rehashed.flatMap(({ blocks }) => [...blocks]);

  async function until(ready: () => boolean): Promise<void> {
    for (let tries = 0; !ready(); tries++) {
      assert.ok(tries < 1000, 'it never came');
      await setTimeout(5);
    }
  }

  it('rehashes what is cached for a slot that has another artifact, every block once, as soon as nothing runs', async () => {
    harness = new Harness({ artifacts: ['a'] }, {}, RehashingEngine);
    for (const salt of [0, 1]) await harness.start({ promptTokens: long(salt) }).done;
    await harness.idle();
    assert.equal(harness.engine.rehashed(1), 0, 'an empty slot has no codes');
    await native().loadArtifact(1, 'b');
    harness.engine.rehasher.changed(1, true);
    assert.equal(harness.engine.rehashed(1), 0);
    await until(() => harness.engine.rehashed(1) === 1);
    const { cached } = harness.engine.blockCounts();
    assert.ok(cached >= 10);
    assert.equal(rehashedBlocks().length, cached);
    assert.equal(new Set(rehashedBlocks()).size, cached);
    assert.ok(native().rehashed.every(({ slot }) => slot === 1));
    assert.equal(harness.engine.rehashed(0), 1, 'the other slot has its own');
    assert.equal(harness.engine.rehasher.spent.blocks, cached);
    // What comes from now on has both: nothing more to do.
    await harness.start({ promptTokens: long(2) }).done;
    await setTimeout(600);
    await harness.start({ promptTokens: long(3) }).done;
    assert.equal(rehashedBlocks().length, cached);
    assert.equal(harness.engine.rehashed(1), 1);
  });

  it('takes no more than its share of the time while requests run', async () => {
    harness = new Harness(
      { artifacts: ['a'], stepMs: 10, blocks: 256 },
      { rehashShare: 0.05 },
      RehashingEngine,
    );
    for (const salt of [0, 1, 2, 3]) await harness.start({ promptTokens: long(salt) }).done;
    const running = harness.start(endless);
    await until(() => running.updates.length > 3);
    await native().loadArtifact(1, 'b');
    harness.engine.rehasher.changed(1, true);
    const before = native().stats();
    await until(() => native().stats().steps - before.steps >= 100);
    const seconds = native().stats().busySeconds - before.busySeconds;
    const spent = harness.engine.rehasher.spent.seconds;
    assert.ok(spent > 0, 'it goes on while requests run');
    // The first guess of what a block takes is earned before anything is known of it.
    assert.ok(spent <= 0.05 * seconds + 0.021, `${spent} s of ${seconds} s`);
    assert.ok(Math.max(...native().rehashed.map(({ blocks }) => blocks.length)) <= 20);
    harness.engine.cancel(running.id, harness.consumer);
    await running.done;
    await until(() => harness.engine.rehashed(1) === 1);
  });

  it('pins a request by digest for life, counts it, and refuses an unknown one retryably', async () => {
    let active: SlotId = 0;
    const digests = ['a', 'b'];
    harness = new Harness(
      { artifacts: digests },
      {
        slots: {
          get active() {
            return active;
          },
          find: (digest) => ([0, 1] as const).find((slot) => digests[slot] === digest),
        },
      },
    );
    const pinned = harness.start({ ...endless, artifactDigest: 'b' });
    const first = harness.start(endless);
    active = 1;
    const second = harness.start(endless);
    const all = [pinned, first, second];
    await until(() => all.every(({ updates }) => updates.length > 0));
    assert.deepEqual(
      all.map(({ updates }) => updates[0]?.artifactDigest),
      ['b', 'a', 'b'],
    );
    assert.deepEqual([harness.engine.pinned(0), harness.engine.pinned(1)], [1, 2]);
    const refused = harness.engine.submit(harness.request({ artifactDigest: 'c' }), harness.consumer);
    assert.equal(refused?.code, ErrorCode.FAILED_PRECONDITION);
    assert.ok(refused.retryable);
    for (const { id } of all) harness.engine.cancel(id, harness.consumer);
    await Promise.all(all.map(({ done }) => done));
    assert.deepEqual([harness.engine.pinned(0), harness.engine.pinned(1)], [0, 0]);
    await harness.idle();
    assert.ok(!harness.engine.closing);
  });

  it('measures about as many steps as it is told to, of every artifact that draws', async () => {
    const samples: QualityObservation[] = [];
    let steps = 0;
    harness = new Harness(
      { artifacts: ['a', 'b'] },
      {
        qualityRate: 0.5,
        observer: { ...silentObserver, quality: (sample) => samples.push(sample), stepped: () => steps++ },
      },
    );
    // Many under one, one under the other, and one that attends densely.
    const seen = [...Array<string>(9).fill('a'), 'b'].map((artifactDigest) =>
      harness.start({ promptTokens: [4, 5], artifactDigest, sampling: { maxTokens: 400, ignoreEos: true } }),
    );
    const dense = AttentionSettings.fromPartial({ backend: 'dense' });
    seen.push(
      harness.start({
        promptTokens: [4, 5],
        attention: dense,
        sampling: { maxTokens: 400, ignoreEos: true },
      }),
    );
    await Promise.all(seen.map(({ done }) => done));
    assert.ok(
      samples.length > 0.4 * steps && samples.length < 0.6 * steps,
      `${samples.length} of ${steps} steps`,
    );
    const of = (digest: string): number =>
      samples.filter((sample) => sample.artifactDigest === digest).length;
    assert.equal(of('a') + of('b'), samples.length);
    assert.ok(of('b') > 0.35 * samples.length, 'little traffic is measured as well');
  });

  it('measures a text in rows of its own, as nobody’s request', async () => {
    const finished: RequestObservation[] = [];
    let looked = 0;
    harness = new Harness(
      { artifacts: ['a', 'b'], blocks: 64 },
      {
        observer: {
          ...silentObserver,
          finished: (request) => finished.push(request),
          prefixLookup: () => looked++,
        },
      },
    );
    for (const round of [0, 1]) {
      const samples: Quality[] = [];
      const seen = harness.start({
        promptTokens: long(5),
        attention: AttentionSettings.fromPartial({ backend: 'spotlight', densePrefixTokens: 250 }),
        sampling: { maxTokens: 0 },
        artifactDigest: 'b',
        measure: { slot: 1, rowTokens: 16, take: (sample) => samples.push(sample) },
      });
      await seen.done;
      assert.equal(seen.error, undefined);
      assert.equal(seen.choice(0).tokens.length, 0);
      const { layers, kvHeads } = harness.native.info.model;
      assert.equal(samples.length, Math.ceil(80 / 16) * layers * kvHeads, `round ${round}: every row anew`);
    }
    assert.deepEqual([finished.length, looked], [0, 0]);
    await harness.idle();
  });
});
