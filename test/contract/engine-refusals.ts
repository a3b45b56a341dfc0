// The contract's cases of what an engine refuses: each with INVALID_ARGUMENT, before anything has changed.
import assert from 'node:assert/strict';
import { LAST_SAMPLE } from '@spotlight/cuda';
import type { Batch, BlockId, Engine, SequenceId } from '@spotlight/cuda';
import { Sequence, generate, greedy, ids, prompt, run, throwsWith } from './sequence.js';

const block = (id: number): BlockId => id as BlockId;

export function describeRefusals(engine: () => Engine): void {
  const refused = async (message: RegExp, batch: (sequence: Sequence) => Batch): Promise<void> => {
    const expected = await generate(engine(), prompt(30), 1);
    const sequence = new Sequence(engine(), greedy(), ids(20));
    const before = engine().stats();
    const error = throwsWith('INVALID_ARGUMENT', () => engine().submit(batch(sequence)));
    assert.match(error.message, message);
    assert.equal(engine().stats().inFlight, before.inFlight);
    assert.equal(engine().stats().openSequences, before.openSequences);
    const row = sequence.row(prompt(30), { sample: true });
    assert.deepEqual([await sequence.draw(row)], expected, 'a refused batch changes nothing');
    await sequence.close();
  };
  const row = (sequence: Sequence, tokens: readonly number[], change: object = {}): Batch => ({
    rows: [{ ...sequence.peek(tokens, { sample: true }), ...change }],
  });

  const cases: [string, RegExp, (sequence: Sequence) => Batch][] = [
    ['a row past its next position', /^rows\[0\]/, (s) => row(s, prompt(4), { position: 3 })],
    ['a row without tokens', /^rows\[0\]/, (s) => row(s, [])],
    ['a token beyond the vocabulary', /^rows\[0\]/, (s) => row(s, [1, engine().info.model.vocabSize])],
    ['a negative token', /^rows\[0\]/, (s) => row(s, [1, -2])],
    ['the last sample of a sequence that drew none', /^rows\[0\]/, (s) => row(s, [LAST_SAMPLE])],
    ['a block table too short', /^rows\[0\]/, (s) => row(s, prompt(65))],
    [
      'a block beyond the pool',
      /^rows\[0\]/,
      (s) => row(s, prompt(4), { appendBlocks: ids(engine().info.blocks) }),
    ],
    ['an unknown sequence', /^rows\[0\]/, (s) => row(s, prompt(4), { sequence: 1_000_000 as SequenceId })],
    ['two rows of one sequence', /^rows\[1\]/, (s) => ({ rows: [...row(s, [1]).rows, ...row(s, [1]).rows] })],
    [
      'more tokens than a batch holds',
      /tokens/,
      (s) => row(s, prompt(engine().info.maxBatchTokens + 1), { appendBlocks: ids(20, 21, 22) }),
    ],
    ['closing an unknown sequence', /close/, () => ({ rows: [], close: [1_000_000 as SequenceId] })],
    [
      'a copy of a block beyond the pool',
      /copies/,
      (s) => ({ ...row(s, [1]), copies: [{ from: block(0), to: block(99) }] }),
    ],
  ];
  for (const [what, message, batch] of cases) {
    it(`refuses ${what}, whole`, () => refused(message, batch));
  }

  it('refuses sampling, attention and slots out of range', () => {
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy({ temperature: -1 })));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy({ topP: 1.5 })));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy({ minP: 2 })));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence({ ...greedy(), attention: { fraction: 0 } }));
    throwsWith('INVALID_ARGUMENT', () => engine().openSequence({ ...greedy(), slot: 2 as 0 }));
    throwsWith('INVALID_ARGUMENT', () =>
      engine().openSequence({ ...greedy(), blocks: ids(engine().info.blocks) }),
    );
  });

  it('refuses one sequence more than it was opened for', async () => {
    const all = Array.from({ length: engine().info.maxSequences }, () => engine().openSequence(greedy()));
    const error = throwsWith('INVALID_ARGUMENT', () => engine().openSequence(greedy()));
    assert(error.message.includes(String(engine().info.maxSequences)), error.message);
    await run(engine(), { rows: [], close: all });
  });
}
