// What the client of a request already has, kept as it passes: enough to run the request on another worker from there. Token ids and
// text lengths are kept, not text: a worker makes the text again and leaves out what has been sent.
import type { RequestUpdate, Resume, Usage } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';

interface ChoiceSoFar {
  /** Generated ones; empty once the transcript is too long to be kept. */
  tokenIds: number[];
  chars: number;
  finished: boolean;
}

export class Transcript {
  readonly #choices = new Map<number, ChoiceSoFar>();
  #promptTokens = 0;
  #cachedTokens: number | undefined;
  #tokens = 0;
  #kept = true;

  /**
   * @param echo the first token ids of a choice are the prompt's
   * @param mostTokens generated tokens kept, over all choices
   */
  constructor(
    private readonly echo: boolean,
    private readonly mostTokens: number,
  ) {}

  /** Generated tokens the client has, over all choices. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Whether the client has anything. */
  get begun(): boolean {
    return this.#choices.size > 0;
  }

  /** False once there are too many tokens to keep: the request cannot be continued elsewhere. */
  get kept(): boolean {
    return this.#kept;
  }

  /** Writes down an update that is about to go to the client. */
  take({ deltas, usage }: RequestUpdate): void {
    if (usage !== undefined) this.#promptTokens = usage.promptTokens;
    for (const { choice, tokenIds, text, finishReason } of deltas) {
      let soFar = this.#choices.get(choice);
      let skipped = 0;
      if (soFar === undefined) {
        soFar = { tokenIds: [], chars: 0, finished: false };
        this.#choices.set(choice, soFar);
        if (this.echo) skipped = Math.min(this.#promptTokens, tokenIds.length);
      }
      soFar.chars += text.length;
      soFar.finished ||= finishReason !== FinishReason.UNSPECIFIED;
      this.#tokens += tokenIds.length - skipped;
      if (!this.#kept) continue;
      for (let i = skipped; i < tokenIds.length; i++) soFar.tokenIds.push(tokenIds[i] ?? 0);
    }
    if (this.#kept && this.#tokens > this.mostTokens) {
      this.#kept = false;
      for (const choice of this.#choices.values()) choice.tokenIds = [];
    }
  }

  /** The usage the client is told: what the first worker found in its cache stays true when another runs the prompt again. */
  usage(usage: Usage | undefined): Usage | undefined {
    if (usage === undefined) return undefined;
    this.#cachedTokens ??= usage.cachedTokens;
    return usage.cachedTokens === this.#cachedTokens ? usage : { ...usage, cachedTokens: this.#cachedTokens };
  }

  /** One entry a choice that has begun. */
  resume(): Resume[] {
    if (!this.#kept) throw new Error('a transcript that was not kept cannot be resumed');
    return [...this.#choices].map(([choice, { tokenIds, chars, finished }]) => ({
      choice,
      tokenIds: [...tokenIds],
      emittedChars: chars,
      finished,
    }));
  }
}
