// Takes the highest score; ties fall by a hash of the request and the worker, so that equal workers share the load and
// the same request falls on the same worker again.
import { hash64 } from './hash.js';
import type { Picker } from './policy.js';

/** Below this two sums of weighted scores differ by rounding only. */
const EPSILON = 1e-9;

export const maxScorePicker: Picker = (workers, scores, request) => {
  const best = Math.max(...scores);
  const tied = scores.flatMap((score, index) => (best - score <= EPSILON ? [index] : []));
  const first = tied[0] ?? 0;
  if (tied.length <= 1) return first;
  // The longest hash covers the whole prompt: prompts that only begin alike still spread.
  const key = request.sessionId ?? String(request.prefixHashes.at(-1) ?? request.promptBytes);
  let chosen = first;
  let high = -1n;
  for (const index of tied) {
    const draw = hash64(`${key}\0${workers[index]?.workerId ?? ''}`);
    if (draw > high) {
      high = draw;
      chosen = index;
    }
  }
  return chosen;
};
