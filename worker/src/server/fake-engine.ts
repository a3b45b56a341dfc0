// Tests only: a RequestEngine that records what it is asked and says what the test tells it to.
import type { Error as WireError, Load, RequestUpdate } from '@spotlight/proto';
import { Delta, FinishReason, RequestUpdate as Update } from '@spotlight/proto';
import type { EngineRequest, RequestEngine, UpdateSink } from '../engine/api.js';

export class FakeEngine implements RequestEngine {
  readonly submitted: EngineRequest[] = [];
  /** cancel, cancelAll and credit calls, in order. */
  readonly calls: string[] = [];
  refusal: WireError | undefined;
  throws: Error | undefined;
  sink: UpdateSink | undefined;
  private waiters: (() => void)[] = [];
  private step = 0;

  submit(request: EngineRequest, sink: UpdateSink): WireError | undefined {
    if (this.throws !== undefined) throw this.throws;
    this.submitted.push(request);
    this.sink = sink;
    this.told();
    return this.refusal;
  }

  cancel(requestId: string): void {
    this.calls.push(`cancel ${requestId}`);
    this.told();
  }

  cancelAll(): void {
    this.calls.push('cancelAll');
    this.told();
  }

  credit(requestId: string, _sink: UpdateSink, credits: number): void {
    this.calls.push(`credit ${requestId} ${credits}`);
    this.told();
  }

  load(): Load {
    return { running: this.submitted.length, waiting: 0, freeBlocks: 7, totalBlocks: 9, waitingTokens: 0 };
  }

  /** Sends one token of a request; `done` makes it the last. */
  token(requestId: string, text: string, done = false): void {
    const delta = Delta.fromPartial({
      tokenIds: [1],
      text,
      finishReason: done ? FinishReason.LENGTH : FinishReason.UNSPECIFIED,
    });
    this.send([Update.fromPartial({ requestId, deltas: [delta], done })]);
  }

  send(updates: RequestUpdate[]): void {
    this.sink?.send(++this.step, updates, this.load());
  }

  /** Resolves when `ready` holds, looked at after every call. */
  async until(ready: () => boolean): Promise<void> {
    while (!ready()) await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  private told(): void {
    for (const wake of this.waiters.splice(0)) wake();
  }
}
