// A CUDA error in the middle of serving (an illegal instruction, injected after some steps): the worker says that it is dead and
// why, every request in flight ends with an error that may be tried again, and the process ends by itself, so that it is restarted.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { SamplingParams } from '@spotlight/proto';
import { WorkerProcess } from '../e2e/worker-process.js';
import { needCuda, needGpu } from './gpu.js';

/** Steps of the device. Those before ready are among them, of which there are fewer the fewer sizes a decode step can have. */
const FAULT_AFTER = 150;
const REQUESTS = 8;

describe('a CUDA error in a worker', () => {
  let worker: WorkerProcess | undefined;
  before(async function () {
    this.timeout(180_000);
    needCuda(this);
    await needGpu(this);
    const flags = [
      ...['--model', 'dummy:smollm2-135m', '--artifact', 'none', '--device', 'cuda'],
      ...['--max-sequences', String(REQUESTS)],
    ];
    worker = await WorkerProcess.start(flags, { SPOTLIGHT_CUDA_FAULT_AFTER: String(FAULT_AFTER) });
  });
  after(() => worker?.end('SIGKILL'));

  it('ends every request with an error that may be tried again, and the process with status 1', async () => {
    assert(worker);
    const exited = once(worker.child, 'exit') as Promise<[number | null, string | null]>;
    const outcomes = await Promise.all(
      Array.from({ length: REQUESTS }, (_, i) =>
        worker!.run({
          prompt: { $case: 'tokenIds', value: { ids: [1, 2, 3, 4, 5] } },
          sampling: SamplingParams.fromPartial({ seed: BigInt(i), ignoreEos: true, maxTokens: 1000 }),
        }),
      ),
    );
    for (const { updates, tokenIds } of outcomes) {
      const error = updates.at(-1)?.error;
      assert(error, 'a request ended without an error');
      assert.equal(error.retryable, true, error.message);
      assert.match(error.message, /dead/);
      assert.ok(tokenIds.length <= FAULT_AFTER, `${tokenIds.length} tokens`);
    }
    assert.ok(
      outcomes.some(({ tokenIds }) => tokenIds.length > 0),
      'the error came before any request ran',
    );
    assert.deepEqual(await exited, [1, null]);
  }).timeout(30_000);
});
