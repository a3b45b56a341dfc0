// One prompt step and one decode step before the worker says ready: weights are paged in, threads started and kernels chosen
// by the first step, and the first client should not pay for that. It also shows at start that the engine computes at all.
import type { BlockId, Engine } from '@spotlight/cuda';
import { LAST_SAMPLE } from '@spotlight/cuda';

const GREEDY = {
  seed: 0n,
  choice: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
};

/** [async] Seconds it took. Runs before any block has an owner, so it borrows block 0. */
export async function warmStep(native: Engine): Promise<number> {
  const started = performance.now();
  const sequence = native.openSequence({ sampling: GREEDY, slot: 0 });
  const token = native.info.model.bosTokenId ?? 0;
  native.submit({
    rows: [
      { sequence, position: 0, tokens: [token], phase: 'prompt', appendBlocks: [0 as BlockId], sample: true },
    ],
  });
  native.submit({
    rows: [{ sequence, position: 1, tokens: [LAST_SAMPLE], phase: 'generated', sample: true }],
  });
  await native.collect();
  await native.collect();
  native.submit({ rows: [], close: [sequence] });
  await native.collect();
  return (performance.now() - started) / 1000;
}
