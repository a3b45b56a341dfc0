// The JSON around a chunk's choice. Everything but the choice is the same for all chunks of an answer, so it becomes text once an
// answer instead of once a token.
import type { Usage } from '@spotlight/proto';
import type { AnswerHead } from './answer-shape.js';
import { openAiUsage } from './answer-shape.js';

export class ChunkFrame {
  readonly #before: string;
  readonly #after: string;

  /** @param includeUsage every chunk but the last then carries `usage: null`, as OpenAI's do */
  constructor(head: AnswerHead, object: string, includeUsage: boolean) {
    this.#before = `${JSON.stringify({ ...head, object }).slice(0, -1)},"choices":[`;
    this.#after = includeUsage ? '],"usage":null}' : ']}';
  }

  chunk(choice: object): string {
    return this.#before + JSON.stringify(choice) + this.#after;
  }

  /** The last chunk of a stream that asked for usage. */
  usage(usage: Usage): string {
    return `${this.#before}],"usage":${JSON.stringify(openAiUsage(usage))}}`;
  }
}
