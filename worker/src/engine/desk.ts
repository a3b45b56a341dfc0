// Where requests come in and where callers ask about them: submit, cancel, credit, deadlines. The desk leaves word with
// the queue and the lifecycle and wakes the loop; it never runs a step itself.
import { ErrorCode } from '@spotlight/proto';
import type { Error as WireError } from '@spotlight/proto';
import type { EngineRequest, UpdateSink } from './api.js';
import type { Clients } from './clients.js';
import type { Intake } from './intake.js';
import type { Lifecycle } from './lifecycle.js';
import type { EngineObserver } from './observer.js';
import type { Output } from './output.js';
import type { PrefillQueue } from './prefill-queue.js';
import { refusal } from './refusal.js';
import { Request } from './request.js';

export class Desk {
  /** Why no request is taken any more. */
  closed: WireError | undefined;
  #nextDeadline = Number.POSITIVE_INFINITY;

  constructor(
    private readonly clients: Clients,
    private readonly intake: Intake,
    private readonly queue: PrefillQueue,
    private readonly lifecycle: Lifecycle,
    private readonly output: Output,
    private readonly observer: EngineObserver,
    private readonly maxWaiting: number,
    private readonly rouse: () => void,
  ) {}

  /** Earliest deadline of a request here, on performance.now()'s clock. */
  get nextDeadline(): number {
    return this.#nextDeadline;
  }

  submit(source: EngineRequest, sink: UpdateSink): WireError | undefined {
    const client = this.clients.open(sink);
    const now = performance.now();
    const request = this.closed ?? this.#queueFull() ?? this.intake.take(source, client, now);
    if (!(request instanceof Request)) {
      this.clients.close(client);
      this.observer.rejected(request.code);
      return request;
    }
    client.requests.set(request.id, request);
    this.queue.wait(request);
    this.#nextDeadline = Math.min(this.#nextDeadline, request.deadline ?? Number.POSITIVE_INFINITY);
    this.lifecycle.resume(request, source.resume, now);
    this.rouse();
    return undefined;
  }

  cancel(requestId: string, sink: UpdateSink): void {
    const request = this.clients.find(sink)?.requests.get(requestId);
    if (request === undefined) return;
    this.lifecycle.cancel(request, performance.now());
    this.rouse();
  }

  cancelAll(sink: UpdateSink): void {
    const client = this.clients.find(sink);
    if (client === undefined) return;
    for (const request of client.requests.values()) this.lifecycle.cancel(request, performance.now());
    this.rouse();
  }

  credit(requestId: string, sink: UpdateSink, credits: number): void {
    const request = this.clients.find(sink)?.requests.get(requestId);
    if (request === undefined) return;
    request.credits += credits;
    if (request.choices.some((choice) => choice.delta !== undefined)) this.output.announce(request);
    this.rouse();
  }

  /** Ends every request whose deadline has passed. */
  expire(now: number): void {
    if (now < this.#nextDeadline) return;
    this.#nextDeadline = Number.POSITIVE_INFINITY;
    for (const request of this.clients.requests()) {
      const { deadline } = request;
      if (deadline === undefined) continue;
      if (deadline <= now) this.lifecycle.expire(request, now);
      else this.#nextDeadline = Math.min(this.#nextDeadline, deadline);
    }
  }

  /** Ends every request with an error. */
  failAll(error: WireError): void {
    const now = performance.now();
    for (const request of this.clients.requests()) this.lifecycle.fail(request, error, now);
  }

  #queueFull(): WireError | undefined {
    if (this.queue.waiting.length < this.maxWaiting) return undefined;
    const message = `${this.maxWaiting} requests wait already; try again later or on another worker`;
    return refusal(ErrorCode.OVERLOADED, message);
  }
}
