// The choices that draw tokens, in order of their requests' arrival: who is first is served first and preempted last.
import type { Choice, Request } from './request.js';

export class DecodeSet {
  readonly choices: Choice[] = [];

  /** All running choices of a request whose prompt is done. */
  join(request: Request): void {
    const { choices } = this;
    let at = choices.length;
    while (at > 0 && (choices[at - 1]?.request.arrival ?? 0) > request.arrival) at--;
    choices.splice(at, 0, ...request.unfinished());
  }

  leave(choice: Choice): void {
    const at = this.choices.indexOf(choice);
    if (at !== -1) this.choices.splice(at, 1);
  }

  /** Whether a request here does not wait for its client. */
  get ready(): boolean {
    return this.choices.some(({ request }) => !request.paused);
  }

  /** Requests with a choice here. */
  get requestCount(): number {
    let count = 0;
    let last: Request | undefined;
    for (const { request } of this.choices) {
      if (request !== last) count++;
      last = request;
    }
    return count;
  }
}
