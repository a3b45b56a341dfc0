// When a choice ends, and which of its text may go out. Text that could be the beginning of a stop string is held back
// until the next token decides; a match counts when it ends in the newest token's text, so that min_tokens leaves
// earlier ones alone. The token that ends a choice is counted and reported, its own text is not.
import { FinishReason } from '@spotlight/proto';
import type { Delta } from '@spotlight/proto';
import type { TextStream } from './api.js';

export interface StopConfig {
  /** In order of precedence where two begin at one place. */
  readonly stop: readonly string[];
  /** The request's own stop tokens; named as the reason. */
  readonly stopTokenIds: ReadonlySet<number>;
  /** The model's end-of-text tokens; empty under ignore_eos. */
  readonly endTokenIds: ReadonlySet<number>;
  readonly minTokens: number;
  readonly maxTokens: number;
}

export class StopRules {
  /** UNSPECIFIED while the choice runs. */
  finish = FinishReason.UNSPECIFIED;
  reason: Delta['stopReason'] = undefined;
  #count = 0;
  #held = '';

  constructor(
    private readonly config: StopConfig,
    private readonly stream: TextStream,
  ) {}

  /** Takes the next token and gives the text that may go out; `finish` is set when it was the last. */
  accept(token: number): string {
    const { config } = this;
    const mayStop = this.#count >= config.minTokens;
    this.#count++;
    if (mayStop && (config.stopTokenIds.has(token) || config.endTokenIds.has(token))) {
      if (config.stopTokenIds.has(token)) this.reason = { $case: 'stopTokenId', value: token };
      return this.end(FinishReason.STOP);
    }
    let text = this.stream.push(token);
    if (config.stop.length > 0) text = this.#holdBack(text, mayStop);
    if (this.finish === FinishReason.UNSPECIFIED && this.#count >= config.maxTokens) {
      text += this.end(FinishReason.LENGTH);
    }
    return text;
  }

  /** Ends the choice from outside a token; gives what was held back. */
  end(finish: FinishReason): string {
    this.finish = finish;
    const rest = this.#held + this.stream.flush();
    this.#held = '';
    return rest;
  }

  #holdBack(text: string, mayStop: boolean): string {
    if (text === '') return '';
    const before = this.#held.length;
    const all = before === 0 ? text : this.#held + text;
    if (mayStop) {
      const match = firstMatch(all, this.config.stop, before);
      if (match !== undefined) {
        this.finish = FinishReason.STOP;
        this.reason = { $case: 'stopString', value: match.stop };
        this.#held = '';
        return all.slice(0, match.at);
      }
    }
    const keep = longestBeginning(all, this.config.stop);
    this.#held = keep === 0 ? '' : all.slice(all.length - keep);
    return keep === 0 ? all : all.slice(0, all.length - keep);
  }
}

/** The earliest match that ends past `old` characters. */
function firstMatch(
  text: string,
  stops: readonly string[],
  old: number,
): { readonly at: number; readonly stop: string } | undefined {
  let at = -1;
  let found = '';
  for (const stop of stops) {
    const index = text.indexOf(stop, Math.max(0, old - stop.length + 1));
    if (index !== -1 && (at === -1 || index < at)) {
      at = index;
      found = stop;
    }
  }
  return at === -1 ? undefined : { at, stop: found };
}

/** Length of the longest end of `text`, which is not empty, that is a proper beginning of a stop string. */
function longestBeginning(text: string, stops: readonly string[]): number {
  const last = text.charAt(text.length - 1);
  let longest = 0;
  for (const stop of stops) {
    // Only beginnings that end with the text's last character come into question.
    let end = stop.length < 2 ? -1 : stop.lastIndexOf(last, stop.length - 2);
    while (end >= longest) {
      if (text.endsWith(stop.slice(0, end + 1))) longest = end + 1;
      end = end === 0 ? -1 : stop.lastIndexOf(last, end - 1);
    }
  }
  return longest;
}
