// text_completion, which OpenAI uses for chunks and whole answers alike.
import type { Delta, Usage } from '@spotlight/proto';
import type { AnswerHead, AnswerShape, FinishedChoice, ShapeOptions } from './answer-shape.js';
import { finishFields, isVisible, openAiUsage } from './answer-shape.js';
import type { CompletionLogprobs } from './logprobs.js';
import { completionLogprobs, logprobTextLength } from './logprobs.js';

export class CompletionShape implements AnswerShape {
  readonly idPrefix = 'cmpl';
  readonly chunkObject = 'text_completion';
  /** By choice: length of the tokens told so far, for text_offset. */
  readonly #offsets = new Map<number, number>();

  constructor(private readonly options: ShapeOptions) {}

  choice(index: number, delta: Delta): object | undefined {
    if (!isVisible(delta, this.options)) return undefined;
    return {
      index,
      text: delta.text,
      logprobs: this.options.logprobs ? this.#nextLogprobs(index, delta) : null,
      ...finishFields(delta),
      ...(this.options.returnTokenIds ? { token_ids: delta.tokenIds } : {}),
    };
  }

  whole(head: AnswerHead, choices: readonly FinishedChoice[], usage: Usage): object {
    return {
      ...head,
      object: this.chunkObject,
      choices: choices.map(({ index, text, tokenIds, logprobs, finish }) => ({
        index,
        text,
        logprobs: this.options.logprobs ? completionLogprobs(logprobs, 0) : null,
        ...finishFields(finish),
        ...(this.options.returnTokenIds ? { token_ids: tokenIds } : {}),
      })),
      usage: openAiUsage(usage),
    };
  }

  #nextLogprobs(index: number, delta: Delta): CompletionLogprobs {
    const offset = this.#offsets.get(index) ?? 0;
    this.#offsets.set(index, offset + logprobTextLength(delta.logprobs));
    return completionLogprobs(delta.logprobs, offset);
  }
}
