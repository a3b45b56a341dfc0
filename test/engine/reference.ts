// What a request must give, worked out without the worker's engine: each choice runs alone on a native engine, its whole
// prompt in one row a phase and then one known token a step, and its end is found by searching the whole text anew
// after every token.
import { FinishReason } from '@spotlight/proto';
import type { BlockId, Engine, Logprobs, SequenceOptions } from '@spotlight/cuda';
import type { EngineRequest, TokenTexts } from '@spotlight/worker/engine/api.js';
import { validate } from '@spotlight/worker/engine/validate.js';
import type { ResolvedRequest, ResolvedSampling } from '@spotlight/worker/engine/validate.js';

export interface Expected {
  readonly tokens: readonly number[];
  readonly logprobs: readonly (Logprobs | undefined)[];
  readonly text: string;
  readonly finish: FinishReason;
  readonly stop: string | number | undefined;
}

/** One entry a choice. The native engine must have nothing in flight and room for the longest choice. */
export async function reference(
  request: EngineRequest,
  native: Engine,
  texts: TokenTexts,
): Promise<Expected[]> {
  const { model, blocks, maxSequences, selectors } = native.info;
  const resolved = validate(request, { model, blocks, sequences: maxSequences, selectors }, 0n);
  if ('code' in resolved) throw new Error(resolved.message);
  const expected: Expected[] = [];
  for (let choice = 0; choice < resolved.sampling.n; choice++) {
    const prefix = await promptLogprobs(request, native, resolved);
    expected.push(await runChoice(request, native, texts, resolved, choice, prefix));
  }
  return expected;
}

/** The end a choice comes to after `tokens`, or undefined while it runs. */
export function naiveEnd(
  tokens: readonly number[],
  sampling: Pick<ResolvedSampling, 'stop' | 'stopTokenIds' | 'ignoreEos' | 'minTokens' | 'maxTokens'>,
  texts: TokenTexts,
): Pick<Expected, 'text' | 'finish' | 'stop'> | undefined {
  const text = (count: number, flush: boolean): string => {
    const stream = texts.openStream({ skipSpecial: true });
    const whole = tokens
      .slice(0, count)
      .map((token) => stream.push(token))
      .join('');
    return flush ? whole + stream.flush() : whole;
  };
  const last = tokens.at(-1);
  if (last !== undefined && tokens.length > sampling.minTokens) {
    const own = sampling.stopTokenIds.has(last);
    if (own || (!sampling.ignoreEos && texts.stopTokenIds.has(last))) {
      return { text: text(tokens.length - 1, true), finish: FinishReason.STOP, stop: own ? last : undefined };
    }
    const now = text(tokens.length, false);
    const before = text(tokens.length - 1, false).length;
    let best: { readonly at: number; readonly stop: string } | undefined;
    for (const stop of sampling.stop) {
      for (let at = 0; at + stop.length <= now.length; at++) {
        const ends = at + stop.length;
        if (ends > before && now.startsWith(stop, at) && (best === undefined || at < best.at))
          best = { at, stop };
      }
    }
    if (best !== undefined)
      return { text: now.slice(0, best.at), finish: FinishReason.STOP, stop: best.stop };
  }
  if (tokens.length < sampling.maxTokens) return undefined;
  return { text: text(tokens.length, true), finish: FinishReason.LENGTH, stop: undefined };
}

async function promptLogprobs(
  request: EngineRequest,
  native: Engine,
  resolved: ResolvedRequest,
): Promise<readonly Logprobs[]> {
  const { echo, logprobs } = resolved.sampling;
  if (!echo || logprobs === undefined) return [];
  const run = new Run(native, options(request, resolved, 0));
  const boundary = Math.min(request.promptTokens.length, resolved.attention.densePrefixTokens ?? Infinity);
  const entries = [];
  for (const [from, to, phase] of [
    [0, boundary, 'prompt'],
    [boundary, request.promptTokens.length, 'generated'],
  ] as const) {
    if (from === to) continue;
    const next = request.promptTokens[to];
    const row = await run.row(request.promptTokens.slice(from, to), phase, false, {
      promptLogprobs: true,
      topPromptLogprobs: logprobs,
      ...(next === undefined ? {} : { nextToken: next }),
    });
    entries.push(...(row.promptLogprobs ?? []));
  }
  await run.close();
  return entries;
}

async function runChoice(
  request: EngineRequest,
  native: Engine,
  texts: TokenTexts,
  resolved: ResolvedRequest,
  choice: number,
  prefix: readonly Logprobs[],
): Promise<Expected> {
  const { sampling, attention } = resolved;
  const { promptTokens } = request;
  const run = new Run(native, options(request, resolved, choice, texts));
  const boundary = Math.min(promptTokens.length, attention.densePrefixTokens ?? Infinity);
  const tokens: number[] = [];
  const logprobs: (Logprobs | undefined)[] = sampling.echo ? [undefined, ...prefix] : [];
  let row: Awaited<ReturnType<Run['row']>> | undefined;
  if (boundary > 0) {
    row = await run.row(promptTokens.slice(0, boundary), 'prompt', boundary === promptTokens.length);
  }
  if (boundary < promptTokens.length) row = await run.row(promptTokens.slice(boundary), 'generated', true);
  let end = sampling.maxTokens === 0 ? naiveEnd([], sampling, texts) : undefined;
  while (end === undefined) {
    const { token, logprobs: entry } = row ?? {};
    if (token === undefined) throw new Error('no token was drawn');
    tokens.push(token);
    if (entry !== undefined) logprobs.push(entry);
    end = naiveEnd(tokens, sampling, texts);
    if (end === undefined) row = await run.row([token], 'generated', true);
  }
  await run.close();
  if (!sampling.echo) return { tokens, logprobs, ...end };
  const stream = texts.openStream({ skipSpecial: true });
  const echoed = promptTokens.map((token) => stream.push(token)).join('') + stream.flush();
  return {
    ...end,
    tokens: [...promptTokens, ...tokens],
    logprobs: sampling.logprobs === undefined ? [] : logprobs,
    text: echoed + end.text,
  };
}

function options(
  request: EngineRequest,
  { sampling, attention }: ResolvedRequest,
  choice: number,
  texts?: TokenTexts,
): SequenceOptions {
  const { densePrefixTokens: _boundary, ...overrides } = attention;
  const { minTokens, logprobs, logitBias, ...rest } = sampling;
  const ends = sampling.ignoreEos ? [] : (texts?.stopTokenIds ?? []);
  return {
    sampling: {
      ...rest,
      choice,
      banned: [...sampling.stopTokenIds, ...ends],
      bannedUntil: request.promptTokens.length + minTokens,
      ...(logprobs === undefined ? {} : { logprobs }),
      ...(logitBias === undefined ? {} : { logitBias }),
    },
    attention: overrides,
    slot: 0,
    promptTokens: Int32Array.from(request.promptTokens),
  };
}

/** One sequence on blocks 0, 1, 2, ... */
class Run {
  readonly #sequence;
  #position = 0;
  #blocks = 0;

  constructor(
    private readonly native: Engine,
    sequence: SequenceOptions,
  ) {
    this.#sequence = native.openSequence(sequence);
  }

  async row(
    tokens: readonly number[],
    phase: 'prompt' | 'generated',
    sample: boolean,
    extra: { promptLogprobs?: true; topPromptLogprobs?: number; nextToken?: number } = {},
  ) {
    const appendBlocks: BlockId[] = [];
    while (this.#blocks * 64 < this.#position + tokens.length) appendBlocks.push(this.#blocks++ as BlockId);
    const row = {
      sequence: this.#sequence,
      position: this.#position,
      tokens,
      phase,
      sample,
      appendBlocks,
      ...extra,
    };
    this.native.submit({ rows: [row] });
    this.#position += tokens.length;
    const [result] = (await this.native.collect()).rows;
    if (result === undefined) throw new Error('a row without a result');
    return result;
  }

  async close(): Promise<void> {
    this.native.submit({ rows: [], close: [this.#sequence] });
    await this.native.collect();
  }
}
