// Steps before the worker says ready: weights are paged in, threads started and kernels chosen by the first ones, and the first
// client should not pay for that. They also show at start that the engine computes at all. A device that keeps something by the size
// of a decode step (a GPU: matrix kernels, a graph) gets every size twice, in each way that requests will take: graphs are made the
// second time. Runs before any block has an owner, so it borrows the first ones.
import type { AttentionSettings, BlockId, Engine, SamplingState } from '@spotlight/cuda';
import { BLOCK_SIZE, LAST_SAMPLE } from '@spotlight/cuda';

const GREEDY: SamplingState = {
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
const NUCLEUS: SamplingState = { ...GREEDY, temperature: 1, topP: 0.9 };

/** [async] Seconds it took. `settings`: what the engine was opened with. */
export async function warmStep(native: Engine, settings: AttentionSettings): Promise<number> {
  const started = performance.now();
  const { blocks, decodeSizes, maxBatchTokens, maxSequences, model } = native.info;
  const bySize = decodeSizes.length > 0;
  // A whole chunk where sizes matter, since long prompts come in those.
  const room = Math.min(maxBatchTokens, model.maxModelLen - 1, blocks * BLOCK_SIZE - 1);
  await promptAndToken(native, bySize ? room : 1);
  const contexts = [0, ...sparseContext(native, settings)];
  // The largest first: should a device keep fewer than all, then the common ones.
  for (const size of [...decodeSizes].reverse()) {
    const rows = Math.min(size, maxSequences, maxBatchTokens);
    for (const context of contexts) {
      if (context + rows > blocks) continue;
      for (const sampling of [GREEDY, NUCLEUS]) {
        for (let time = 0; time < 2; time++) await decode(native, rows, sampling, context);
      }
    }
  }
  return (performance.now() - started) / 1000;
}

/** Full blocks in front of a token that then retrieves; none where no context does. */
function sparseContext({ artifacts, info }: Engine, settings: AttentionSettings): number[] {
  const { backend, fraction, minTokens, sink, recent } = settings;
  if (backend === 'dense' || artifacts[0] === undefined || fraction >= 1) return [];
  const dense = Math.max(info.crossover - 1, minTokens, sink + recent);
  const blocks = Math.ceil(dense / BLOCK_SIZE);
  return blocks * BLOCK_SIZE < info.model.maxModelLen ? [blocks] : [];
}

const firstBlocks = (count: number, from = 0): BlockId[] =>
  Array.from({ length: count }, (_, i) => (from + i) as BlockId);

async function promptAndToken(native: Engine, length: number): Promise<void> {
  const sequence = native.openSequence({ sampling: GREEDY, slot: 0 });
  const tokens = new Array<number>(length).fill(native.info.model.bosTokenId ?? 0);
  const appendBlocks = firstBlocks(Math.ceil((length + 1) / BLOCK_SIZE));
  native.submit({ rows: [{ sequence, position: 0, tokens, phase: 'prompt', appendBlocks, sample: true }] });
  native.submit({
    rows: [{ sequence, position: length, tokens: [LAST_SAMPLE], phase: 'generated', sample: true }],
  });
  await native.collect();
  await native.collect();
  native.submit({ rows: [], close: [sequence] });
  await native.collect();
}

/** One token of each of `rows` sequences; the first stands behind `context` blocks of whatever they hold and samples so. */
async function decode(native: Engine, rows: number, sampling: SamplingState, context: number): Promise<void> {
  const token = native.info.model.bosTokenId ?? 0;
  const sequences = Array.from({ length: rows }, (_, i) =>
    native.openSequence(
      i === 0 ? { sampling, slot: 0, blocks: firstBlocks(context) } : { sampling: GREEDY, slot: 0 },
    ),
  );
  native.submit({
    rows: sequences.map((sequence, i) => ({
      sequence,
      position: i === 0 ? context * BLOCK_SIZE : 0,
      tokens: [token],
      phase: 'generated',
      appendBlocks: firstBlocks(1, context + i),
      sample: true,
    })),
  });
  await native.collect();
  native.submit({ rows: [], close: sequences });
  await native.collect();
}
