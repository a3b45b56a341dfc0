// Many requests at once on a real worker: a stream among 64 says what it says alone, and a thousand cancels at random moments
// leave every block where it belongs. The model is tiny and made here: what is tested is the worker, not the arithmetic.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FinishReason, SamplingParams } from '@spotlight/proto';
import type { Submit } from '@spotlight/proto';
import { tinyModel } from '../fakes/tiny-model.js';
import type { Outcome } from './worker-process.js';
import { WorkerProcess } from './worker-process.js';

/** Two choices nearer than this may swap when a row is computed beside others. */
const NEAR = 1e-3;

describe('a worker under load', () => {
  let folder: string;
  let worker: WorkerProcess;
  before(async function () {
    this.timeout(30_000);
    folder = await mkdtemp(join(tmpdir(), 'spotlight-load-'));
    await mkdir(join(folder, 'tiny'));
    for (const [name, content] of tinyModel()) await writeFile(join(folder, 'tiny', name), content);
    // 64 blocks for 64 requests of up to 4 each: they queue, share prefixes and are preempted.
    worker = await WorkerProcess.start(['--model', join(folder, 'tiny'), '--kv-memory', '4MiB']);
  });
  after(async () => {
    await worker.end();
    await rm(folder, { recursive: true });
  });

  async function sample(name: string): Promise<number> {
    const { body } = await worker.get('/metrics');
    const line = body.split('\n').find((candidate) => candidate.startsWith(name));
    return Number(line?.split(' ').at(-1));
  }
  const request = (i: number): Omit<Partial<Submit>, 'requestId'> => ({
    prompt: {
      $case: 'text',
      value: `${i % 3 === 0 ? 'a shared beginning '.repeat(6) : ''}request ${i} in the`,
    },
    sampling: SamplingParams.fromPartial({
      temperature: 0,
      maxTokens: 40 + (i % 50),
      ignoreEos: true,
      logprobs: 2,
    }),
  });

  it('gives each of 64 streams at once the text it gives alone', async () => {
    const alone: Outcome[] = [];
    for (let i = 0; i < 64; i++) alone.push(await worker.run(request(i)));
    const together = await Promise.all(alone.map((_, i) => worker.run(request(i))));
    together.forEach((outcome, i) => {
      assert.equal(outcome.deltas.at(-1)?.finishReason, FinishReason.LENGTH);
      const expected = alone[i]!;
      assert.equal(outcome.tokenIds.length, expected.tokenIds.length);
      const differs = outcome.tokenIds.findIndex((id, at) => id !== expected.tokenIds[at]);
      if (differs < 0) {
        assert.equal(outcome.text, expected.text);
        return;
      }
      const [best, next] = expected.deltas.flatMap((delta) => delta.logprobs)[differs]!.top;
      assert.ok(best!.logprob - next!.logprob < NEAR, `request ${i} differs at token ${differs}`);
    });
    assert.equal(await sample('spotlight:audit_failures_total'), 0);
  }).timeout(60_000);

  const held = (): Promise<number> =>
    sample('spotlight:kv_blocks{model_name="tiny",engine="0",state="held"}');

  it('has every block back after 1,000 cancels at random moments', async () => {
    const ends = new Map<FinishReason | undefined, number>();
    for (let round = 0; round < 20; round++) {
      const requests = Array.from({ length: 50 }, async (_, i) => {
        const running = worker.begin(request(round * 50 + i));
        await sleep(Math.random() * 60);
        running.cancel();
        const reason = (await running.ended).deltas.findLast(
          (delta) => delta.finishReason !== FinishReason.UNSPECIFIED,
        )?.finishReason;
        ends.set(reason, (ends.get(reason) ?? 0) + 1);
      });
      await Promise.all(requests);
    }
    assert.ok((ends.get(FinishReason.CANCELLED) ?? 0) > 500, JSON.stringify([...ends]));
    assert.equal((ends.get(FinishReason.CANCELLED) ?? 0) + (ends.get(FinishReason.LENGTH) ?? 0), 1000);
    const total = Number(/num_gpu_blocks="(\d+)"/.exec((await worker.get('/metrics')).body)?.[1]);
    // The steps in flight at the last cancel still have to retire.
    for (let tries = 0; tries < 100 && (await held()) > 0; tries++) await sleep(20);
    const states = await Promise.all(
      ['free', 'cached', 'held'].map((state) =>
        sample(`spotlight:kv_blocks{model_name="tiny",engine="0",state="${state}"}`),
      ),
    );
    assert.equal(states[2], 0, 'held');
    assert.equal(states[0]! + states[1]!, total);
    assert.equal(await sample('spotlight:audit_failures_total'), 0);
    assert.equal(await sample('vllm:num_requests_running'), 0);
  }).timeout(60_000);
});
