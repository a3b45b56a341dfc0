// Gathers the deltas of an answer that is sent whole, by choice. Text is joined once at the end.
import type { Delta, TokenLogprob } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';
import type { FinishedChoice } from './answer-shape.js';

interface OpenChoice {
  readonly texts: string[];
  readonly tokenIds: number[];
  readonly logprobs: TokenLogprob[];
  finish: Delta | undefined;
}

export class Collector {
  readonly #choices = new Map<number, OpenChoice>();

  add(index: number, delta: Delta): void {
    let choice = this.#choices.get(index);
    if (choice === undefined) {
      choice = { texts: [], tokenIds: [], logprobs: [], finish: undefined };
      this.#choices.set(index, choice);
    }
    choice.texts.push(delta.text);
    for (const id of delta.tokenIds) choice.tokenIds.push(id);
    for (const logprob of delta.logprobs) choice.logprobs.push(logprob);
    if (delta.finishReason !== FinishReason.UNSPECIFIED) choice.finish = delta;
  }

  /** In the order of their index. Throws when a choice never finished: a worker that says "done" owes every finish reason. */
  finished(): FinishedChoice[] {
    return [...this.#choices]
      .sort(([a], [b]) => a - b)
      .map(([index, { texts, tokenIds, logprobs, finish }]) => {
        if (finish === undefined) throw new Error(`choice ${index} ended without a finish reason`);
        return { index, text: texts.join(''), tokenIds, logprobs, finish };
      });
  }
}
