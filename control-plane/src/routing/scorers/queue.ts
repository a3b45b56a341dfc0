// Prefers the shorter queue, measured against the other candidates.
// The spread is never taken below FLOOR: 1 request against 0 must not outweigh a warm cache as 100 against 0 does.
import { depth } from '../depth.js';
import type { Scorer } from '../policy.js';

const FLOOR = 4;

export const queueScorer: Scorer = {
  name: 'queue',
  score: (workers) => {
    const depths = workers.map(depth);
    const least = Math.min(...depths);
    const spread = Math.max(Math.max(...depths) - least, FLOOR);
    return depths.map((value) => 1 - (value - least) / spread);
  },
};
