// What runs in which step, on the fake: budgets, order, and who gives way.
import assert from 'node:assert/strict';
import type { Batch } from '@spotlight/cuda';
import type { Harness, Seen } from './harness.js';
import { record } from './recording.js';

const prompt = (length: number, salt = 0): number[] =>
  Array.from({ length }, (_, i) => 1 + ((i * 7 + salt) % 200));
const decodes = (batch: Batch): number => batch.rows.filter(({ phase }) => phase === 'generated').length;
const prompts = (batch: Batch): number =>
  batch.rows.filter(({ phase }) => phase === 'prompt').reduce((sum, { tokens }) => sum + tokens.length, 0);

/** Notes the order in which requests give their first token. */
function firsts(harness: Harness, seen: readonly Seen[]): Promise<number[]> {
  const order: number[] = [];
  const { consumer } = harness;
  const send = consumer.send.bind(consumer);
  consumer.send = (step, updates, load) => {
    send(step, updates, load);
    seen.forEach((one, i) => {
      if (!order.includes(i) && one.choices.length > 0) order.push(i);
    });
  };
  return Promise.all(seen.map((one) => one.done)).then(() => order);
}

describe('what runs in a step', () => {
  it('never holds more tokens than a step may, nor more prompt tokens beside decoding than are allowed there', async () => {
    const [harness, native] = record({ maxBatchTokens: 50 }, { mixedPromptTokens: 20 });
    const seen = Array.from({ length: 12 }, (_, i) =>
      harness.start({
        promptTokens: prompt(30 + i * 5, i),
        sampling: { maxTokens: 10 + i, ignoreEos: true },
      }),
    );
    await Promise.all(seen.map((one) => one.done));
    for (const batch of native.batches) {
      assert(decodes(batch) + prompts(batch) <= 50);
      if (decodes(batch) > 0) assert(prompts(batch) <= 20);
    }
    assert(
      native.batches.some((batch) => prompts(batch) === 50),
      'a step without decoding is filled',
    );
    assert(native.batches.some((batch) => decodes(batch) > 0 && prompts(batch) === 20));
    await harness.stop();
  });

  it('draws a token of every stream in every step while a long prompt is filled', async () => {
    const [harness, native] = record({ maxBatchTokens: 64, blocks: 64 }, { mixedPromptTokens: 16 });
    const endless = { maxTokens: 1000, ignoreEos: true };
    const streams = [1, 2, 3].map((salt) =>
      harness.start({ promptTokens: prompt(10, salt), sampling: endless }),
    );
    while (streams.some((one) => one.choices.length === 0))
      await new Promise((resolve) => setImmediate(resolve));
    await harness.start({ promptTokens: prompt(400), sampling: { maxTokens: 1 } }).done;
    for (const { id } of streams) harness.engine.cancel(id, harness.consumer);
    const filling = native.batches.filter((batch) => prompts(batch) > 1 && decodes(batch) > 0);
    assert(filling.length > 10);
    for (const batch of filling.slice(0, 10)) assert.equal(decodes(batch), 3);
    await harness.stop();
  });

  it('serves first who came first', async () => {
    const [harness] = record({ maxSequences: 2, maxBatchTokens: 32 });
    const seen = Array.from({ length: 8 }, (_, i) =>
      harness.start({ promptTokens: prompt(40, i), sampling: { maxTokens: 5, ignoreEos: true } }),
    );
    assert.deepEqual(await firsts(harness, seen), [0, 1, 2, 3, 4, 5, 6, 7]);
    await harness.stop();
  });

  it('does not let a small request pass a large one that waits for blocks', async () => {
    const [harness] = record({ blocks: 10 });
    const seen = [500, 300, 5].map((length, i) =>
      harness.start({ promptTokens: prompt(length, i), sampling: { maxTokens: 20, ignoreEos: true } }),
    );
    assert.deepEqual(await firsts(harness, seen), [0, 1, 2]);
    await harness.stop();
  });

  it('preempts the youngest, and brings it back before those that came later', async () => {
    const [harness] = record({ blocks: 6 });
    const input = { sampling: { maxTokens: 150, ignoreEos: true } };
    const seen = [0, 1, 2, 3].map((i) => harness.start({ ...input, promptTokens: prompt(60, i) }));
    const ends: number[] = [];
    await Promise.all(seen.map((one, i) => one.done.then(() => ends.push(i))));
    assert(harness.preemptions > 0);
    assert.deepEqual(ends, [0, 1, 2, 3]);
    await harness.idle();
    await harness.stop();
  });

  it('reports what waits and what runs', async () => {
    const [harness] = record({ maxSequences: 1, stepMs: 5 });
    const seen = [0, 1, 2].map((i) =>
      harness.start({ promptTokens: prompt(20, i), sampling: { maxTokens: 5 } }),
    );
    await new Promise((resolve) => setTimeout(resolve, 2));
    const { running, waiting, waitingTokens, freeBlocks, totalBlocks } = harness.engine.load();
    assert.deepEqual([running, waiting, waitingTokens, totalBlocks - freeBlocks], [1, 2, 40, 1]);
    await Promise.all(seen.map((one) => one.done));
    assert.deepEqual(harness.consumer.lastLoad?.running, 0);
    await harness.stop();
  });
});
