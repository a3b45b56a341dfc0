// Prefers the worker with the larger share of its cache free or reclaimable: long contexts preempt each other on a full one.
import type { Scorer } from '../policy.js';

export const freeBlocksScorer: Scorer = {
  name: 'free-blocks',
  score: (workers) =>
    workers.map(({ load }) => (load.totalBlocks === 0 ? 0 : Math.min(1, load.freeBlocks / load.totalBlocks))),
};
