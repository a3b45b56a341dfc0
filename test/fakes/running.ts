// One request on a fake worker: it gives a step's update when it has one and a credit to send it with.
import type { Delta, RequestUpdate, Submit, TokenLogprob } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';
import type { FakeToken, Script } from './script.js';

export class RunningRequest {
  readonly requestId: string;
  #position = 0;
  #delay: number;
  /** undefined is unlimited. */
  #credits: number | undefined;

  constructor(
    readonly submit: Submit,
    private readonly script: Script,
    private readonly artifactDigest: string,
  ) {
    this.requestId = submit.requestId;
    this.#delay = script.delaySteps ?? 0;
    this.#credits = submit.credits === 0 ? undefined : submit.credits;
  }

  /** Tokens sent of each choice so far. */
  get position(): number {
    return this.#position;
  }

  get paused(): boolean {
    return this.#credits === 0;
  }

  get #length(): number {
    return Math.max(...this.script.choices.map((choice) => choice.length));
  }

  credit(steps: number): void {
    if (this.#credits !== undefined) this.#credits += steps;
  }

  /** The news of this step: one token of every choice that is not done. */
  step(): RequestUpdate | undefined {
    if (this.#delay > 0) {
      this.#delay -= 1;
      return undefined;
    }
    if (this.#credits === 0) return undefined;
    if (this.#credits !== undefined) this.#credits -= 1;
    const at = this.#position;
    this.#position += 1;
    const deltas = this.script.choices.flatMap((tokens, choice) => {
      const token = tokens[at];
      return token === undefined ? [] : [this.#delta(choice, token, at === tokens.length - 1)];
    });
    const done = this.#position >= this.#length;
    return {
      requestId: this.requestId,
      deltas,
      usage: {
        promptTokens: this.script.promptTokens,
        completionTokens: this.script.choices.reduce(
          (total, tokens) => total + Math.min(this.#position, tokens.length),
          0,
        ),
        cachedTokens: 0,
      },
      error: undefined,
      done,
      artifactDigest: at === 0 ? this.artifactDigest : '',
    };
  }

  #delta(choice: number, token: FakeToken, last: boolean): Delta {
    const alternatives = this.submit.sampling?.logprobs;
    const text = typeof token.text === 'string' ? token.text : token.text();
    return {
      choice,
      tokenIds: [token.id],
      text,
      logprobs: alternatives === undefined ? [] : [logprob(token.id, text, alternatives)],
      finishReason: last ? this.script.finish : FinishReason.UNSPECIFIED,
      stopReason: undefined,
    };
  }
}

function logprob(tokenId: number, text: string, alternatives: number): TokenLogprob {
  const token = Buffer.from(text);
  return {
    tokenId,
    token,
    logprob: -0.25,
    top: Array.from({ length: alternatives }, (_, rank) => ({
      tokenId: tokenId + rank,
      token: rank === 0 ? token : Buffer.from(`alt${rank}`),
      logprob: -0.25 - rank,
    })),
  };
}
