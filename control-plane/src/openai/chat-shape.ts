// chat.completion and chat.completion.chunk. The role rides on a choice's first chunk instead of having one of its own.
import type { Delta, Usage } from '@spotlight/proto';
import type { AnswerHead, AnswerShape, FinishedChoice, ShapeOptions } from './answer-shape.js';
import { finishFields, isVisible, openAiUsage } from './answer-shape.js';
import { chatLogprobs } from './logprobs.js';

export class ChatShape implements AnswerShape {
  readonly idPrefix = 'chatcmpl';
  readonly chunkObject = 'chat.completion.chunk';
  readonly #begun = new Set<number>();

  constructor(private readonly options: ShapeOptions) {}

  choice(index: number, delta: Delta): object | undefined {
    if (!isVisible(delta, this.options)) return undefined;
    const first = !this.#begun.has(index);
    if (first) this.#begun.add(index);
    const content = first || delta.text !== '' ? { content: delta.text } : {};
    return {
      index,
      delta: first ? { role: 'assistant', ...content } : content,
      logprobs: this.options.logprobs ? chatLogprobs(delta.logprobs) : null,
      ...finishFields(delta),
      ...(this.options.returnTokenIds ? { token_ids: delta.tokenIds } : {}),
    };
  }

  whole(head: AnswerHead, choices: readonly FinishedChoice[], usage: Usage): object {
    return {
      ...head,
      object: 'chat.completion',
      choices: choices.map(({ index, text, tokenIds, logprobs, finish }) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: this.options.logprobs ? chatLogprobs(logprobs) : null,
        ...finishFields(finish),
        ...(this.options.returnTokenIds ? { token_ids: tokenIds } : {}),
      })),
      usage: openAiUsage(usage),
    };
  }
}
