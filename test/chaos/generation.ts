// One Generate call over gRPC, gathered by choice as its client has it, and the comparison of two that ought to be equal.
import assert from 'node:assert/strict';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { credentials } from '@grpc/grpc-js';
import type { GenerateRequest, GenerateResponse, TokenLogprob, Usage } from '@spotlight/proto';
import { FinishReason, GenerationClient } from '@spotlight/proto';

export interface ChoiceGot {
  readonly tokens: number[];
  readonly logprobs: TokenLogprob[];
  text: string;
  readonly finishes: FinishReason[];
}

export class Got {
  readonly choices = new Map<number, ChoiceGot>();
  /** request id and artifact of every chunk, each once. */
  readonly names = new Set<string>();
  usage: Usage | undefined;

  take(chunk: GenerateResponse): void {
    this.names.add(`${chunk.requestId} ${chunk.artifactDigest} ${chunk.seed}`);
    this.usage = chunk.usage ?? this.usage;
    for (const delta of chunk.deltas) {
      const choice = this.choice(delta.choice);
      choice.tokens.push(...delta.tokenIds);
      choice.logprobs.push(...delta.logprobs);
      choice.text += delta.text;
      if (delta.finishReason !== FinishReason.UNSPECIFIED) choice.finishes.push(delta.finishReason);
    }
  }

  choice(index: number): ChoiceGot {
    const known = this.choices.get(index);
    if (known !== undefined) return known;
    const made: ChoiceGot = { tokens: [], logprobs: [], text: '', finishes: [] };
    this.choices.set(index, made);
    return made;
  }
}

export interface Generating {
  readonly got: Got;
  /** Resolves at so many chunks, or at the end. */
  reached(chunks: number): Promise<void>;
  /** Rejects with the call's error. */
  readonly ended: Promise<Got>;
}

export class Client {
  readonly #client: GenerationClient;

  constructor(address: string, channel: ChannelCredentials = credentials.createInsecure()) {
    this.#client = new GenerationClient(address, channel);
  }

  generate(request: GenerateRequest): Generating {
    const got = new Got();
    const call = this.#client.generate(request);
    let chunks = 0;
    let over = false;
    const waiting: { at: number; wake: () => void }[] = [];
    const wake = (): void => {
      for (const { at, wake: resolve } of waiting) if (over || chunks >= at) resolve();
    };
    const ended = new Promise<Got>((resolve, reject) => {
      call.on('data', (chunk: GenerateResponse) => {
        chunks += 1;
        got.take(chunk);
        wake();
      });
      call.on('end', () => {
        over = true;
        wake();
        resolve(got);
      });
      call.on('error', (error) => {
        over = true;
        wake();
        reject(error);
      });
    });
    // Whoever only waits for a chunk is not told of the error twice.
    ended.catch(() => undefined);
    const reached = (at: number): Promise<void> =>
      new Promise((resolve) => {
        waiting.push({ at, wake: resolve });
        wake();
      });
    return { got, reached, ended };
  }

  close(): void {
    this.#client.close();
  }
}

/** Asserts that a disturbed answer is the undisturbed one, whole and each part once. */
export function assertSame(disturbed: Got, undisturbed: Got): void {
  assert.equal(disturbed.names.size, 1, [...disturbed.names].join(', '));
  assert.deepEqual([...disturbed.choices.keys()].sort(), [...undisturbed.choices.keys()].sort());
  for (const [index, expected] of undisturbed.choices) {
    const seen = disturbed.choice(index);
    assert.deepEqual(seen.tokens, expected.tokens, `tokens of choice ${index}`);
    assert.deepEqual([seen.text, seen.finishes], [expected.text, expected.finishes]);
    assert.deepEqual(seen.logprobs, expected.logprobs, `log-probabilities of choice ${index}`);
  }
  const { promptTokens, completionTokens } = disturbed.usage ?? assert.fail('no usage came');
  assert.deepEqual(
    [promptTokens, completionTokens],
    [undisturbed.usage?.promptTokens, undisturbed.usage?.completionTokens],
  );
}
