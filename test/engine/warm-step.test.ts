// The steps before ready, on the fake engine, which refuses what breaks a rule of the ABI.
import assert from 'node:assert/strict';
import type { Batch, StepId } from '@spotlight/cuda';
import { warmStep } from '@spotlight/worker/warm-step.js';
import { fakeSettings } from '../fakes/engine-info.js';
import { FakeEngine } from '../fakes/engine.js';
import type { FakeEngineOptions } from '../fakes/engine.js';

class Recording extends FakeEngine {
  readonly batches: Batch[] = [];
  override submit(batch: Batch): StepId {
    const step = super.submit(batch);
    if (batch.rows.length > 0) this.batches.push(batch);
    return step;
  }
}

async function warmed(options: FakeEngineOptions): Promise<Recording> {
  const engine = new Recording(options);
  await warmStep(engine, { ...fakeSettings, ...options.attention });
  const { inFlight, openSequences } = engine.stats();
  assert.deepEqual([inFlight, openSequences], [0, 0]);
  assert.ok(
    engine.tables.every((count) => count === 0),
    'a block is still held',
  );
  return engine;
}

/** Rows, and first position of the first: of the steps behind the prompt and its token. */
const decodes = ({ batches }: Recording): [number, number][] =>
  batches.slice(2).map(({ rows }) => [rows.length, rows[0]?.position ?? -1]);

describe('warm step', () => {
  it('is a prompt of one token and one more where nothing is kept by size', async () => {
    const engine = await warmed({ blocks: 4 });
    assert.deepEqual(
      engine.batches.map(({ rows }) => rows.map(({ position, tokens }) => [position, tokens.length])),
      [[[0, 1]], [[1, 1]]],
    );
  });

  it('runs every size twice, greedy and not, densely and retrieving, the largest first', async () => {
    const engine = await warmed({
      ...{ blocks: 64, maxSequences: 3, maxBatchTokens: 100, decodeSizes: [1, 2, 4] },
      ...{ artifacts: ['a'], attention: { ...fakeSettings, crossover: 1000 } },
    });
    assert.equal(engine.batches[0]?.rows[0]?.tokens.length, 100, 'a whole chunk');
    // 1,024 tokens are in front of the first token that sees the crossover's 1,000.
    const expected = [3, 2, 1].flatMap((rows) =>
      [0, 1024].flatMap((position) => Array.from({ length: 4 }, () => [rows, position])),
    );
    assert.deepEqual(decodes(engine), expected);
  });

  it('leaves out what the pool or the model has no room for', async () => {
    const attention = { ...fakeSettings, crossover: 1000 };
    const small = await warmed({ blocks: 17, decodeSizes: [1, 2], artifacts: ['a'], attention });
    assert.deepEqual([...new Set(decodes(small).map(String))], ['2,0', '1,0', '1,1024']);
    const short = await warmed({
      blocks: 64,
      maxModelLen: 1000,
      decodeSizes: [1],
      artifacts: ['a'],
      attention,
    });
    assert.deepEqual([...new Set(decodes(short).map(String))], ['1,0']);
  });

  it('retrieves nothing without an artifact', async () => {
    const engine = await warmed({ blocks: 64, decodeSizes: [1] });
    assert.deepEqual([...new Set(decodes(engine).map(String))], ['1,0']);
  });
});
