// How much work stands before a new request on a worker, in requests.
// A load report is a step old, so what this replica has sent since counts too, or a burst would all land on one worker.
import type { WorkerSnapshot } from '../workers/api.js';

/** Prompt tokens that delay a newcomer about as much as one more decoding request does. */
const TOKENS_PER_REQUEST = 2048;

/** Requests this replica has sent that the last load report cannot know of yet. */
export function unseen(worker: WorkerSnapshot): number {
  return Math.max(0, worker.inFlight - worker.load.running - worker.load.waiting);
}

/** Requests running, waiting or on their way, with waiting prompt tokens as a share of a request. */
export function depth(worker: WorkerSnapshot): number {
  const { running, waiting, waitingTokens } = worker.load;
  return running + waiting + unseen(worker) + waitingTokens / TOKENS_PER_REQUEST;
}
