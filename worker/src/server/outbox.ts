// What a Serve stream still has to send while HTTP/2 holds it back: the updates of several steps become one message.
// Nothing is dropped and order within a choice is kept, so a slow reader costs bandwidth and memory of its own text only.
import type { Delta, Load, RequestUpdate, ServeResponse } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';

export interface Released {
  readonly message: ServeResponse;
  /** Steps with deltas that went out inside another step's update, by request: each had cost a credit. */
  readonly spared: ReadonlyMap<string, number>;
}

export class Outbox {
  private readonly held = new Map<string, RequestUpdate>();
  private spared = new Map<string, number>();
  private step = 0;
  private load: Load | undefined;

  get empty(): boolean {
    return this.held.size === 0;
  }

  /** Takes the updates over: they may be changed here. */
  add(step: number, updates: readonly RequestUpdate[], load: Load | undefined): void {
    this.step = Math.max(this.step, step);
    this.load = load ?? this.load;
    for (const update of updates) {
      const held = this.held.get(update.requestId);
      if (held === undefined) {
        this.held.set(update.requestId, update);
        continue;
      }
      if (held.deltas.length > 0 && update.deltas.length > 0) {
        this.spared.set(update.requestId, (this.spared.get(update.requestId) ?? 0) + 1);
      }
      mergeUpdate(held, update);
    }
  }

  /** Everything held as one message, and the outbox is empty. */
  take(): Released {
    const { spared } = this;
    const message = { step: BigInt(this.step), updates: [...this.held.values()], load: this.load };
    this.held.clear();
    this.spared = new Map();
    this.step = 0;
    return { message, spared };
  }
}

function mergeUpdate(held: RequestUpdate, next: RequestUpdate): void {
  for (const delta of next.deltas) {
    const same = held.deltas.find((candidate) => candidate.choice === delta.choice);
    if (same === undefined) held.deltas.push(delta);
    else mergeDelta(same, delta);
  }
  held.usage = next.usage ?? held.usage;
  held.error = next.error ?? held.error;
  held.done ||= next.done;
  if (next.artifactDigest !== '') held.artifactDigest = next.artifactDigest;
}

function mergeDelta(held: Delta, next: Delta): void {
  for (const id of next.tokenIds) held.tokenIds.push(id);
  for (const logprob of next.logprobs) held.logprobs.push(logprob);
  held.text += next.text;
  if (next.finishReason !== FinishReason.UNSPECIFIED) held.finishReason = next.finishReason;
  held.stopReason = next.stopReason ?? held.stopReason;
}
