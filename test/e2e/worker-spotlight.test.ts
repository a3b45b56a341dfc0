// Spotlight retrieval on the default model with the artifact that ships, as a client sees it: on by itself, named on every
// answer, counted in metrics; with all of the context retrieved it says what dense attention says.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { AttentionSettings, ErrorCode, SamplingParams } from '@spotlight/proto';
import type { Submit, TokenLogprob } from '@spotlight/proto';
import { WorkerProcess } from './worker-process.js';

const SHIPPED = fileURLToPath(
  new URL('../../../worker/artifacts/smollm2-135m-instruct.linear-asym-128.safetensors', import.meta.url),
);
/** Two choices nearer than this may swap between two ways to sum the same numbers. */
const SURE_MARGIN = 0.3;
const TOKENS = 24;

/** About 1,400 tokens: past the crossover, so that generated tokens retrieve. */
const story = Array.from(
  { length: 70 },
  (_, i) =>
    `On day ${i + 1} the captain wrote that the wind came from the ${['north', 'east', 'south'][i % 3]}.`,
).join('\n');
const prompt: Submit['prompt'] = { $case: 'text', value: `${story}\nOn day 71 the captain` };

describe('spotlight retrieval on the default model', () => {
  let worker: WorkerProcess;
  before(async function () {
    this.timeout(120_000);
    worker = await WorkerProcess.start();
  });
  after(() => worker.end());

  async function run(attention: Partial<AttentionSettings>): Promise<readonly TokenLogprob[]> {
    const { deltas, updates } = await worker.run({
      prompt,
      attention: AttentionSettings.fromPartial(attention),
      sampling: SamplingParams.fromPartial({
        temperature: 0,
        maxTokens: TOKENS,
        ignoreEos: true,
        logprobs: 2,
      }),
    });
    assert.equal(updates.at(-1)?.error, undefined);
    assert.equal(updates[0]?.artifactDigest, worker.announced.artifact);
    const logprobs = deltas.flatMap((delta) => delta.logprobs);
    assert.equal(logprobs.length, TOKENS);
    return logprobs;
  }

  async function sample(name: string): Promise<number> {
    const { body } = await worker.get('/metrics');
    return Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(body)?.[1]);
  }

  it('is on by itself, with the artifact that ships', () => {
    assert.equal(worker.announced.backend, 'spotlight');
    const digest = createHash('sha256').update(readFileSync(SHIPPED)).digest('hex');
    assert.equal(worker.announced.artifact, digest);
  });

  it('says what dense attention says when it retrieves everything', async () => {
    const dense = await run({ backend: 'dense' });
    const all = await run({ backend: 'spotlight', fraction: 1 });
    for (const [i, expected] of dense.entries()) {
      const margin = (expected.top[0]?.logprob ?? 0) - (expected.top[1]?.logprob ?? 0);
      if (all[i]?.tokenId !== expected.tokenId) {
        assert.ok(margin < SURE_MARGIN, `token ${i}: ${all[i]?.tokenId} instead of ${expected.tokenId}`);
        return;
      }
      assert.ok(Math.abs((all[i].logprob ?? 0) - (expected.logprob ?? 0)) < 0.05, `token ${i}`);
    }
  }).timeout(180_000);

  it('reads a small share of the context, and counts it', async () => {
    const before = {
      rows: await sample('spotlight:sparse_rows_total'),
      selected: await sample('spotlight:selected_tokens_total'),
      context: await sample('spotlight:context_tokens_total'),
    };
    await run({});
    assert.ok((await sample('spotlight:sparse_rows_total')) >= before.rows + TOKENS - 2);
    const selected = (await sample('spotlight:selected_tokens_total')) - before.selected;
    const context = (await sample('spotlight:context_tokens_total')) - before.context;
    assert.ok(selected > 0 && selected / context < 0.3, `${selected} of ${context} tokens`);
  }).timeout(120_000);

  it('refuses attention settings it cannot follow, naming the field', async () => {
    for (const [attention, field] of [
      [{ fraction: 0 }, 'attention.fraction'],
      [{ backend: 'quest' }, 'attention.backend'],
    ] as const) {
      const { updates } = await worker.run({ prompt, attention: AttentionSettings.fromPartial(attention) });
      assert.equal(updates.at(-1)?.error?.code, ErrorCode.INVALID_ARGUMENT);
      assert.equal(updates.at(-1)?.error?.field, field);
    }
  });
});
