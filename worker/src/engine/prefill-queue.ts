// Requests whose prompts are not computed: those waiting for admission, and those admitted whose filler still runs.
// Both in order of arrival, so that a preempted request comes back to its old place: first come, first served.
import type { Request } from './request.js';

export class PrefillQueue {
  readonly waiting: Request[] = [];
  readonly filling: Request[] = [];

  wait(request: Request): void {
    insertByArrival(this.waiting, request);
  }

  /** A waiting request has been admitted. */
  fill(request: Request): void {
    remove(this.waiting, request);
    insertByArrival(this.filling, request);
  }

  /** A request's prompt is done. */
  filled(request: Request): void {
    remove(this.filling, request);
  }

  leave(request: Request): void {
    remove(this.waiting, request);
    remove(this.filling, request);
  }

  /** Whether a request here does not wait for its client. */
  get ready(): boolean {
    return this.waiting.some(isReady) || this.filling.some(isReady);
  }

  /** Tokens not computed yet of all requests here. */
  get tokens(): number {
    let sum = 0;
    for (const request of this.waiting) sum += tokensToRun(request);
    for (const request of this.filling) sum += tokensToRun(request) - (request.filler?.computed ?? 0);
    return sum;
  }
}

/** The prompt, and drawn tokens that run again: after a preemption, or on the worker that replaces a lost one. */
function tokensToRun(request: Request): number {
  let sum = request.prompt.length;
  for (const choice of request.choices) if (!choice.finished) sum += choice.generated.length;
  return sum;
}

function isReady(request: Request): boolean {
  return !request.paused;
}

function insertByArrival(list: Request[], request: Request): void {
  let at = list.length;
  while (at > 0 && (list[at - 1]?.arrival ?? 0) > request.arrival) at--;
  list.splice(at, 0, request);
}

function remove(list: Request[], request: Request): void {
  const at = list.indexOf(request);
  if (at !== -1) list.splice(at, 1);
}
