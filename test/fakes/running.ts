// One request on a fake worker: it gives a step's update when it has one and a credit to send it with.
import type { Delta, RequestUpdate, Submit, TokenLogprob } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';
import type { FakeToken, Script } from './script.js';

export class RunningRequest {
  readonly requestId: string;
  /** Tokens given so far, by choice; those of a lost worker count. */
  readonly #given: number[];
  /** Text of given tokens that the client lacks, by choice: it goes out with the next one. */
  readonly #owed: string[];
  readonly #finished: readonly boolean[];
  #first = true;
  #delay: number;
  /** undefined is unlimited. */
  #credits: number | undefined;

  constructor(
    readonly submit: Submit,
    private readonly script: Script,
    private readonly artifactDigest: string,
  ) {
    this.requestId = submit.requestId;
    const parts = script.choices.map((_, choice) => submit.resume.find((part) => part.choice === choice));
    this.#given = parts.map((part) => part?.tokenIds.length ?? 0);
    this.#finished = parts.map((part) => part?.finished ?? false);
    this.#owed = script.choices.map((tokens, choice) => {
      const told = tokens.slice(0, this.#given[choice]).map(textOf).join('');
      return told.slice(parts[choice]?.emittedChars ?? 0);
    });
    this.#delay = script.delaySteps ?? 0;
    this.#credits = submit.credits === 0 ? undefined : submit.credits;
  }

  get paused(): boolean {
    return this.#credits === 0;
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
    const deltas = this.script.choices.flatMap((tokens, choice) => {
      const at = this.#given[choice] ?? 0;
      const token = tokens[at];
      if (token === undefined || this.#finished[choice] === true) return [];
      this.#given[choice] = at + 1;
      const owed = this.#owed[choice] ?? '';
      this.#owed[choice] = '';
      return [this.#delta(choice, token, owed, at === tokens.length - 1)];
    });
    const first = this.#first;
    this.#first = false;
    return {
      requestId: this.requestId,
      deltas,
      usage: {
        promptTokens: this.script.promptTokens,
        completionTokens: this.#given.reduce((total, count) => total + count, 0),
        cachedTokens: 0,
      },
      error: undefined,
      done: this.script.choices.every(
        (tokens, choice) => this.#finished[choice] === true || (this.#given[choice] ?? 0) >= tokens.length,
      ),
      artifactDigest: first ? this.artifactDigest : '',
    };
  }

  #delta(choice: number, token: FakeToken, owed: string, last: boolean): Delta {
    const alternatives = this.submit.sampling?.logprobs;
    const text = textOf(token);
    return {
      choice,
      tokenIds: [token.id],
      text: owed + text,
      logprobs: alternatives === undefined ? [] : [logprob(token.id, text, alternatives)],
      finishReason: last ? this.script.finish : FinishReason.UNSPECIFIED,
      stopReason: undefined,
    };
  }
}

function textOf({ text }: FakeToken): string {
  return typeof text === 'string' ? text : text();
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
