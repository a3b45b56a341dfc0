// A window of text through the model, every token in one phase: what perplexity, IoU and kept mass are measured on.
import type { Engine, Quality, SequenceOptions } from '@spotlight/cuda';
import { blocksFor, closeSequence, openSequence } from './sequence.js';

const CHUNK = 512;

export interface WindowOptions {
  /** Of the tokens after `densePrefix`. */
  readonly phase: 'prompt' | 'generated';
  readonly attention: SequenceOptions['attention'];
  /** Leading tokens that run as a prompt and are not scored. Default 0. */
  readonly densePrefix?: number;
  /** Positions whose selection is compared with the exact top-k, in every layer and KV head; ascending. */
  readonly probes?: readonly number[];
}

export interface WindowResult {
  /** Mean negative log-likelihood in nats of the scored tokens, each given those before it. */
  readonly nll: number;
  readonly probes: readonly { readonly position: number; readonly quality: readonly Quality[] }[];
  /** Rows of K and V that a KV head which selects has read for a token at the window's end, mean; undefined where none did. */
  readonly rowsRead: number | undefined;
}

/** Row boundaries: chunks of 512, cut after every probe. */
export function rowEnds(length: number, densePrefix: number, probes: readonly number[]): number[] {
  const ends = new Set([densePrefix, length, ...probes.map((position) => position + 1)]);
  let last = 0;
  const all: number[] = [];
  for (const end of [...ends].filter((at) => at > 0 && at <= length).sort((a, b) => a - b)) {
    for (let at = last + CHUNK; at < end; at += CHUNK) all.push(at);
    all.push(end);
    last = end;
  }
  return all;
}

/** [async] The engine holds nothing else, and blocks for the window. */
export async function runWindow(
  engine: Engine,
  window: readonly number[],
  { phase, attention, densePrefix = 0, probes = [] }: WindowOptions,
): Promise<WindowResult> {
  const sequence = openSequence(engine, attention);
  const probed = new Set(probes);
  const found: { position: number; quality: readonly Quality[] }[] = [];
  let sum = 0;
  let count = 0;
  let from = 0;
  let rowsRead: number | undefined;
  for (const to of rowEnds(window.length, densePrefix, probes)) {
    const prompt = to <= densePrefix;
    const nextToken = window[to];
    const before = engine.stats();
    engine.submit({
      rows: [
        {
          sequence,
          position: from,
          tokens: window.slice(from, to),
          phase: prompt ? 'prompt' : phase,
          sample: false,
          appendBlocks: blocksFor(from, to),
          ...(!prompt && { promptLogprobs: true, ...(nextToken !== undefined && { nextToken }) }),
          ...(probed.has(to - 1) && { quality: {} }),
        },
      ],
    });
    const row = (await engine.collect()).rows[0];
    for (const { logprob } of row?.promptLogprobs ?? []) {
      sum -= logprob;
      count += 1;
    }
    if (row?.quality !== undefined) found.push({ position: to - 1, quality: row.quality });
    rowsRead = rowsBetween(before, engine.stats(), (from + 1 + to) / 2);
    from = to;
  }
  await closeSequence(engine, sequence);
  const expected = window.length - 1 - densePrefix;
  if (count !== expected) throw new Error(`expected ${expected} log-probabilities, got ${count}`);
  return { nll: sum / count, probes: found, rowsRead };
}

export type Reads = Pick<ReturnType<Engine['stats']>, 'selectedTokens' | 'contextTokens'>;

/** Rows that a KV head which selects has read for a token between two counts, given the mean context of the tokens. */
export function rowsBetween(before: Reads, after: Reads, context: number): number | undefined {
  const seen = after.contextTokens - before.contextTokens;
  return seen === 0 ? undefined : ((after.selectedTokens - before.selectedTokens) / seen) * context;
}
