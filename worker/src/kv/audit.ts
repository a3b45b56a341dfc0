// The idle audit: free + cached + held = total, and every hold is one that somebody still has. Run when nothing is in
// flight or running; a problem is a bug here, so it is reported, never repaired in silence.
import type { BlockId } from '@spotlight/cuda';
import type { BlockManager } from './block-manager.js';
import type { BlockTable } from './block-table.js';

/** Problems found, as sentences; none when the books are right. `tables` are all tables that hold blocks. */
export function auditBlocks(blocks: BlockManager, tables: Iterable<BlockTable>): string[] {
  const problems: string[] = [];
  const expected = new Int32Array(blocks.total);
  for (const table of tables) {
    for (let i = 0; i < table.length; i++) bump(expected, table.at(i));
  }
  for (const block of blocks.retiringBlocks()) bump(expected, block);

  const free = new Uint8Array(blocks.total);
  for (const block of blocks.freeBlocks()) {
    if (free[block] === 1) problems.push(`block ${block} is free twice`);
    free[block] = 1;
  }
  let held = 0;
  for (let id = 0; id < blocks.total; id++) {
    const block = id as BlockId;
    const holders = blocks.holders(block);
    if (holders > 0) held++;
    const states = Number(free[id]) + Number(blocks.cache.isParked(block)) + Number(holders > 0);
    if (states !== 1) problems.push(`block ${id} is in ${states} of the states free, cached and held`);
    if (holders !== expected[id])
      problems.push(`block ${id} counts ${holders} holders and has ${expected[id] ?? 0}`);
    if (blocks.cache.isParked(block) && !blocks.cache.has(block))
      problems.push(`block ${id} is cached without a key`);
  }
  const sum = blocks.freeCount + blocks.cache.parkedCount + held;
  if (sum !== blocks.total) {
    problems.push(
      `free ${blocks.freeCount} + cached ${blocks.cache.parkedCount} + held ${held} is ${sum}, not ${blocks.total}`,
    );
  }
  return problems;
}

function bump(counts: Int32Array, block: number): void {
  counts[block] = (counts[block] ?? 0) + 1;
}
