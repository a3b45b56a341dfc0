// The cases of the default model through a real worker, whatever its device, against vectors made by Hugging Face transformers in
// fp32: ids, chat template, the argmax along each greedy continuation, greedy text, and the mean NLL of a long text.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SamplingParams } from '@spotlight/proto';
import type { Submit } from '@spotlight/proto';
import type { WorkerProcess } from './worker-process.js';

interface Golden {
  readonly tokenize: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly prompts: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly greedy: readonly number[];
    readonly margins: readonly number[];
  }[];
  readonly long: {
    readonly file: string;
    readonly from: string;
    readonly chars: number;
    readonly tokens: number;
    readonly first_ids: readonly number[];
    readonly last_ids: readonly number[];
    readonly mean_nll: number;
  };
  readonly chat_template: string;
}

/** Two argmaxes nearer than this may swap: the reference computes in fp32, a CPU worker on the file's own quantised types, a GPU in bf16. */
const SURE_MARGIN = 0.3;
const root = fileURLToPath(new URL('../../../', import.meta.url));
const golden = JSON.parse(readFileSync(join(root, 'test/golden/smollm2-135m.json'), 'utf8')) as Golden;

const ids = (list: readonly number[]): Submit['prompt'] => ({ $case: 'tokenIds', value: { ids: [...list] } });
const sampling = (params: Partial<SamplingParams>): SamplingParams =>
  SamplingParams.fromPartial({ temperature: 0, ignoreEos: true, ...params });

/** Declares the cases, of a worker that a hook before them has started. */
export function goldenCases(started: () => WorkerProcess): void {
  it('encodes every text to the reference ids', async () => {
    for (const { text, ids: expected } of [...golden.tokenize, ...golden.prompts]) {
      assert.deepEqual(
        await started().encode({ $case: 'text', value: text }),
        expected,
        JSON.stringify(text),
      );
    }
  });

  it('renders the chat template as the reference does', async () => {
    const messages = [{ role: 'user', content: 'What is gravity?', name: '' }];
    const chat = await started().encode({ $case: 'chat', value: { messages } });
    const system =
      '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n';
    const text = `${system}<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n`;
    assert.deepEqual(chat, await started().encode({ $case: 'text', value: text }));
  });

  it('has the reference argmax at every sure position, teacher-forced along the continuations', async () => {
    let sure = 0;
    for (const { ids: prompt, greedy, margins } of golden.prompts) {
      const { deltas } = await started().run({
        prompt: ids([...prompt, ...greedy]),
        sampling: sampling({ echo: true, logprobs: 1, maxTokens: 0 }),
      });
      const logprobs = deltas.flatMap((delta) => delta.logprobs);
      assert.equal(logprobs.length, prompt.length + greedy.length);
      greedy.forEach((expected, i) => {
        if ((margins[i] ?? 0) < SURE_MARGIN) return;
        sure += 1;
        assert.equal(
          logprobs[prompt.length + i]?.top[0]?.tokenId,
          expected,
          `position ${i} of ${prompt.join()}`,
        );
      });
    }
    assert.equal(sure, 221);
  }).timeout(60_000);

  it('generates the reference text as far as every choice on the way is sure', async () => {
    for (const { text, greedy, margins } of golden.prompts) {
      const doubtful = margins.findIndex((margin) => margin < SURE_MARGIN);
      const sure = doubtful < 0 ? greedy.length : doubtful;
      const outcome = await started().run({
        prompt: { $case: 'text', value: text },
        sampling: sampling({ maxTokens: greedy.length }),
      });
      assert.equal(outcome.tokenIds.length, greedy.length);
      assert.deepEqual(outcome.tokenIds.slice(0, sure), greedy.slice(0, sure));
    }
  }).timeout(60_000);

  it('gives the mean NLL of a long text within 1%', async function () {
    const { file, from, chars, tokens, first_ids, last_ids, mean_nll } = golden.long;
    const path = join(root, '../shared/corpus/eval', file);
    if (!existsSync(path)) {
      process.stderr.write(
        `skipped: the evaluation corpus is not beside this clone (../shared/corpus/eval/${file})\n`,
      );
      this.skip();
    }
    const book = readFileSync(path, 'utf8');
    const start = book.indexOf(from);
    const encoded = await started().encode({ $case: 'text', value: book.slice(start, start + chars) });
    const text = encoded.slice(0, tokens);
    assert.deepEqual(text.slice(0, first_ids.length), first_ids);
    assert.deepEqual(text.slice(-last_ids.length), last_ids);
    const { deltas } = await started().run({
      prompt: ids(text),
      sampling: sampling({ echo: true, logprobs: 0, maxTokens: 0 }),
    });
    const logprobs = deltas.flatMap((delta) => delta.logprobs);
    assert.equal(logprobs.length, tokens);
    assert.equal(logprobs[0]?.logprob, undefined);
    const mean = -logprobs.slice(1).reduce((sum, { logprob }) => sum + (logprob ?? NaN), 0) / (tokens - 1);
    assert.ok(Math.abs(mean / mean_nll - 1) < 0.01, `mean NLL ${mean}, reference ${mean_nll}`);
  }).timeout(120_000);
}
