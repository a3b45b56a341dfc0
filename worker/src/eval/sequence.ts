// One sequence at a time on a native engine, greedy, without a worker around it. Blocks are named by the position they hold: block i
// holds tokens 64 i to 64 i + 63, so that what one sequence filled the next may open on.
import { BLOCK_SIZE } from '@spotlight/cuda';
import type { BlockId, Engine, SequenceId, SequenceOptions } from '@spotlight/cuda';

export const GREEDY = {
  seed: 0n,
  choice: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
} as const;

/** @param filled tokens in leading blocks that another sequence filled, a multiple of 64 */
export function openSequence(
  engine: Engine,
  attention: SequenceOptions['attention'],
  filled = 0,
): SequenceId {
  const blocks = blocksFor(0, filled);
  return engine.openSequence({
    sampling: GREEDY,
    slot: 0,
    ...(attention && { attention }),
    ...(blocks.length > 0 && { blocks }),
  });
}

/** Blocks a sequence that holds `from` tokens needs to hold `to`. */
export function blocksFor(from: number, to: number): BlockId[] {
  const blocks: BlockId[] = [];
  for (let block = Math.ceil(from / BLOCK_SIZE); block < Math.ceil(to / BLOCK_SIZE); block++)
    blocks.push(block as BlockId);
  return blocks;
}

export async function closeSequence(engine: Engine, sequence: SequenceId): Promise<void> {
  engine.submit({ rows: [], close: [sequence] });
  await engine.collect();
}
