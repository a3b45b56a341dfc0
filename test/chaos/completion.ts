// One streamed completion seen as a client sees it, without a client library that would try again by itself.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { FAKE_MODEL } from '../fakes/worker.js';

interface Chunk {
  readonly id?: string;
  readonly choices?: readonly { readonly text: string }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface Outcome {
  /** As the last usage tells; 0 when none came. */
  readonly tokens: number;
  readonly text: string;
  /** Every id that a chunk carried, each once. */
  readonly ids: readonly string[];
  readonly error: { readonly code: string; readonly message: string } | undefined;
  /** performance.now() */
  readonly endedAt: number;
}

export interface Completion {
  /** Resolves at the first chunk. */
  readonly begun: Promise<void>;
  readonly ended: Promise<Outcome>;
}

export function completion(http: string, prompt: string, maxTokens: number, seed?: number): Completion {
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const ended = (async (): Promise<Outcome> => {
    const response = await fetch(`${http}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: FAKE_MODEL,
        prompt,
        max_tokens: maxTokens,
        stream: true,
        stream_options: { include_usage: true },
        seed,
      }),
    });
    if (!response.ok) {
      const { error } = (await response.json()) as Chunk;
      return { tokens: 0, text: '', ids: [], error, endedAt: performance.now() };
    }
    assert.ok(response.body);
    let [tokens, text, error, done]: [number, string, Chunk['error'], boolean] = [0, '', undefined, false];
    const ids = new Set<string>();
    for await (const line of createInterface({ input: Readable.fromWeb(response.body) })) {
      if (!line.startsWith('data: ')) continue;
      if (line === 'data: [DONE]') {
        done = true;
        continue;
      }
      const chunk = JSON.parse(line.slice('data: '.length)) as Chunk;
      begin();
      if (chunk.id !== undefined) ids.add(chunk.id);
      for (const choice of chunk.choices ?? []) text += choice.text;
      if (chunk.usage) tokens = chunk.usage.completion_tokens;
      if (chunk.error) error = chunk.error;
    }
    assert.ok(done || error !== undefined, 'the stream ended without a word');
    return { tokens, text, ids: [...ids], error, endedAt: performance.now() };
  })();
  // Whoever waits for the first chunk must not wait for ever when there is none.
  void ended.then(begin, begin);
  return { begun, ended };
}
