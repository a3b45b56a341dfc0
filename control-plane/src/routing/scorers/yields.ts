// Wraps an affinity scorer so that it yields under imbalance: a worker far ahead of the least loaded one scores 0.
// Without this a popular prefix feeds one worker until it falls over while the others idle (the known hotspot of cache-aware routers).
import { depth } from '../depth.js';
import type { Scorer } from '../policy.js';

/** Both must hold, so that neither a small absolute nor a small relative lead moves work off a warm cache. */
const RELATIVE = 1.5;

/** @param lead requests a worker may be ahead of the least loaded candidate before its affinity counts nothing */
export function yieldsUnderImbalance(scorer: Scorer, lead: number): Scorer {
  return {
    name: scorer.name,
    score: (workers, request) => {
      const scores = scorer.score(workers, request);
      const depths = workers.map(depth);
      const least = Math.min(...depths);
      return scores.map((score, i) => {
        const own = depths[i] ?? 0;
        return own - least > lead && own > RELATIVE * least ? 0 : score;
      });
    },
  };
}
