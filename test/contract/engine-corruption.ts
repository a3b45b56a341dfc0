// The contract's cases of damage: an engine whose weights hold no number for one token. Rows that see it draw nothing and say so, the
// engine lives on, and what it leaves in blocks does not reach whoever gets them next: a kernel that masks by a product with zero
// would bring it back.
import assert from 'node:assert/strict';
import { LAST_SAMPLE } from '@spotlight/cuda';
import type { Engine } from '@spotlight/cuda';
import { CONTRACT_OPTIONS } from './engine.js';
import type { OpenEngine } from './engine.js';
import { Sequence, generate, greedy, ids, prompt, run } from './sequence.js';

/** The token without a number. No prompt() has it. */
export const POISON = 5;

/** @param open an engine in which whatever sees POISON has no finite logits */
export function corruptionContract(name: string, open: OpenEngine): void {
  describe(`engine contract, a damaged model: ${name}`, function () {
    this.timeout(120_000);
    let engine: Engine;
    before(async () => {
      engine = await open(CONTRACT_OPTIONS);
    });
    after(() => engine.dispose());
    afterEach(() => {
      assert.equal(engine.stats().openSequences, 0, 'a case cleans up');
    });

    const poisoned = (length: number, at: number): number[] => prompt(length, 9).with(at, POISON);

    it('tells the row that sees it, which draws nothing, and gives the others what they draw alone', async () => {
      const expected = await generate(engine, prompt(70), 2);
      const struck = new Sequence(engine, greedy(), ids(10, 11));
      const other = new Sequence(engine, greedy(), ids(12, 13));
      const first = await run(engine, {
        rows: [struck.row(poisoned(40, 17), { sample: true }), other.row(prompt(70), { sample: true })],
      });
      assert.equal(first.rows[0]?.corrupted, true);
      assert.equal(first.rows[0].token, undefined);
      assert.equal(first.rows[1]?.corrupted, undefined);
      // Who has seen it sees it for good.
      const second = await run(engine, {
        rows: [
          other.row([LAST_SAMPLE], { phase: 'generated', sample: true }),
          struck.row(prompt(1), { phase: 'generated', sample: true }),
        ],
      });
      assert.deepEqual([first.rows[1]?.token, second.rows[0]?.token], expected);
      assert.deepEqual([second.rows[1]?.corrupted, second.rows[1]?.token], [true, undefined]);
      await run(engine, { rows: [], close: [struck.id, other.id] });
    });

    it('says so where log-probabilities are wanted, too', async () => {
      for (const spec of [{ sample: true }, { promptLogprobs: true, topPromptLogprobs: 2 }]) {
        const sequence = new Sequence(engine, greedy({ logprobs: 3 }), ids(10));
        const { rows } = await run(engine, { rows: [sequence.row(poisoned(20, 0), spec)] });
        assert.equal(rows[0]?.corrupted, true, JSON.stringify(spec));
        assert.equal(rows[0].logprobs, undefined);
        await sequence.close();
      }
    });

    it('draws on the blocks it has spoiled what it would draw on others', async () => {
      for (const length of [30, 64, 100]) {
        const expected = await generate(engine, prompt(length, 3), 3);
        const spoiler = new Sequence(engine, greedy(), ids(0, 1, 2));
        await run(engine, { rows: [spoiler.row(poisoned(150, 2), { sample: true })] });
        await spoiler.close();
        assert.deepEqual(await generate(engine, prompt(length, 3), 3), expected, `${length} tokens`);
      }
    });
  });
}
