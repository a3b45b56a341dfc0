// Prefers the worker that has seen the longest prefix of the prompt; the score is the share of the prompt's chunks it knows.
import type { Scorer } from '../policy.js';
import type { PrefixIndex } from '../prefix-index.js';

export function prefixScorer(index: PrefixIndex): Scorer {
  return {
    name: 'prefix',
    score: (workers, request) => {
      const { prefixHashes } = request;
      if (prefixHashes.length === 0) return workers.map(() => 0);
      const known = index.match(prefixHashes);
      return workers.map((worker) => (known.get(worker.workerId) ?? 0) / prefixHashes.length);
    },
  };
}
