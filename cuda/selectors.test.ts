// Evaluation methods through the engine's face: who offers them, what a sequence may ask for, and what comes back. What each
// selects is held by the native tests. Skipped without the addon.
import assert from 'node:assert/strict';
import { loadAddon } from './addon.js';
import { DEFAULT_ATTENTION } from './attention.js';
import { createEngine, selectors } from './engine.js';
import { SELECTOR_NAMES, EVICTING_SELECTORS } from './types.js';
import type { BlockId, Engine, RowResult, SequenceOptions } from './types.js';

const OPTIONS = { model: { kind: 'dummy', shape: 'tiny-llama' }, threads: 2, blocks: 16 } as const;
const SAMPLING = {
  seed: 1n,
  choice: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
};
const tokens = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => ((from + i) * 37 + 11) % 1000);

/** 300 tokens densely, 40 by the settings: the last row's answer. */
async function run(engine: Engine, attention: NonNullable<SequenceOptions['attention']>): Promise<RowResult> {
  const sequence = engine.openSequence({ sampling: SAMPLING, slot: 0, attention });
  const appendBlocks = Array.from({ length: 6 }, (_, i) => i as BlockId);
  const prompt = { sequence, position: 0, tokens: tokens(0, 300), phase: 'prompt', sample: false } as const;
  engine.submit({ rows: [{ ...prompt, appendBlocks }] });
  await engine.collect();
  const rest = { sequence, position: 300, tokens: tokens(300, 340), phase: 'generated' } as const;
  engine.submit({ rows: [{ ...rest, sample: true, trace: true, quality: {}, promptLogprobs: true }] });
  const { rows } = await engine.collect();
  engine.submit({ rows: [], close: [sequence] });
  await engine.collect();
  return rows[0] ?? assert.fail();
}

describe('evaluation selectors', () => {
  before(function () {
    try {
      loadAddon();
    } catch (error) {
      process.stderr.write(`skipped: ${(error as Error).message}\n`);
      this.skip();
    }
  });

  it('are told apart by name, paper and index', () => {
    const all = selectors();
    assert.deepEqual(
      all.map(({ name }) => name),
      [...SELECTOR_NAMES],
    );
    assert.deepEqual(
      all.filter(({ evicts }) => evicts).map(({ name }) => name),
      EVICTING_SELECTORS,
    );
    for (const { paper, rule } of all) assert(paper.length > 5 && rule.length > 10);
    const quest = all.find(({ name }) => name === 'quest');
    assert.equal((quest?.indexBits ?? 0) + (quest?.indexBitsPerDim ?? 0) * 64, 128);
  });

  it('are refused by an engine that was not told to have them', async () => {
    const engine = await createEngine({ ...OPTIONS, attention: DEFAULT_ATTENTION });
    const refused = { code: 'INVALID_ARGUMENT', message: /evaluation selectors/ };
    assert.equal(engine.info.selectors, false);
    assert.throws(
      () => engine.openSequence({ sampling: SAMPLING, slot: 0, attention: { backend: 'quest' } }),
      refused,
    );
    await engine.dispose();
    await assert.rejects(
      createEngine({ ...OPTIONS, attention: { ...DEFAULT_ATTENTION, backend: 'oracle' } }),
      refused,
    );
    await assert.rejects(
      createEngine({ ...OPTIONS, device: 'cuda', selectors: true, attention: DEFAULT_ATTENTION }),
      { code: 'INVALID_ARGUMENT', message: /^selectors: .*device is cuda/ },
    );
  });

  it('serve every method beside dense rows, within its budget and the same every time', async () => {
    const engine = await createEngine({ ...OPTIONS, selectors: true, attention: DEFAULT_ATTENTION });
    assert.equal(engine.info.selectors, true);
    const settings = { minTokens: 96, fraction: 0.01, crossover: 0, sink: 4, recent: 16 };
    const dense = await run(engine, { backend: 'dense' });
    const { kvHeads } = engine.info.model;
    for (const { name, perQueryHead } of selectors()) {
      const first = await run(engine, { ...settings, backend: name });
      const again = await run(engine, { ...settings, backend: name });
      assert.deepEqual(first.trace, again.trace, name);
      assert.deepEqual(first.promptLogprobs, again.promptLogprobs, name);
      const selected = first.trace?.flat() ?? assert.fail();
      assert.equal(selected.length % kvHeads, 0);
      for (const positions of selected) {
        assert((positions.at(-1) ?? 0) < 340 && (positions[0] ?? -1) >= 0);
        // Only these may leave the newest token out.
        if (!['oracle', 'oracle-head', 'lsh', 'lsh-head'].includes(name))
          assert.equal(positions.at(-1), 339, name);
        // What the budget does not bind, and query heads that choose for themselves, read more.
        if (!perQueryHead && !['snapkv', 'fastgen'].includes(name)) assert.equal(positions.length, 96, name);
      }
      for (const { keptMass, bestMass, iou } of first.quality ?? assert.fail()) {
        assert(keptMass <= bestMass + 1e-6 && iou <= 1);
        if (name === 'oracle') assert(iou === 1 && keptMass > 0.2);
      }
      if (name === 'window') assert.notDeepEqual(first.promptLogprobs, dense.promptLogprobs);
    }
    const tailed = await run(engine, { ...settings, backend: 'oracle', tail: 'block-mean', tailFrom: 0 });
    const bare = await run(engine, { ...settings, backend: 'oracle', tail: 'none' });
    assert.notDeepEqual(tailed.promptLogprobs, bare.promptLogprobs);
    await engine.dispose();
  }).timeout(30_000);
});
