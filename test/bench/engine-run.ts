// Drives one native engine without a worker: what cpu-decode and perplexity time is the step itself. Decode keeps two steps
// in flight and feeds tokens on the device, as the worker does.
import { BLOCK_SIZE, LAST_SAMPLE } from '@spotlight/cuda';
import type { BlockId, Engine, SequenceId, SequenceOptions } from '@spotlight/cuda';

const CHUNK = 512;

const GREEDY = {
  seed: 0n,
  choice: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
} as const;

export function openSequence(engine: Engine, attention: SequenceOptions['attention']): SequenceId {
  return engine.openSequence({ sampling: GREEDY, slot: 0, ...(attention && { attention }) });
}

/** Ids of the blocks a sequence needs for the tokens [from, to), counting from block 0: one sequence at a time. */
function blocksFor(from: number, to: number): BlockId[] {
  const blocks: BlockId[] = [];
  for (let block = Math.ceil(from / BLOCK_SIZE); block < Math.ceil(to / BLOCK_SIZE); block++) {
    blocks.push(block as BlockId);
  }
  return blocks;
}

async function close(engine: Engine, sequence: SequenceId): Promise<void> {
  engine.submit({ rows: [], close: [sequence] });
  await engine.collect();
}

export interface Timing {
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
  readonly tokens: readonly number[];
}

/** Prefills a prompt densely and decodes greedily; decodeSeconds spans `decode` tokens after the first. */
export async function timeGeneration(
  engine: Engine,
  prompt: readonly number[],
  decode: number,
  attention: SequenceOptions['attention'],
): Promise<Timing> {
  const sequence = openSequence(engine, attention);
  const tokens: number[] = [];
  const begin = performance.now();
  for (let from = 0; from < prompt.length; from += CHUNK) {
    const to = Math.min(from + CHUNK, prompt.length);
    const row = { sequence, position: from, tokens: prompt.slice(from, to), phase: 'prompt' } as const;
    engine.submit({ rows: [{ ...row, appendBlocks: blocksFor(from, to), sample: to === prompt.length }] });
    const first = (await engine.collect()).rows[0]?.token;
    if (first !== undefined) tokens.push(first);
  }
  const prefilled = performance.now();
  const submit = (position: number): void => {
    const appendBlocks = blocksFor(position, position + 1);
    const row = { sequence, position, tokens: [LAST_SAMPLE], phase: 'generated' } as const;
    engine.submit({ rows: [{ ...row, appendBlocks, sample: true }] });
  };
  // One token more than timed: the clock starts when the first decode step has come back.
  submit(prompt.length);
  let started = prefilled;
  for (let step = 0; step <= decode; step++) {
    if (step < decode) submit(prompt.length + step + 1);
    tokens.push((await engine.collect()).rows[0]?.token ?? Number.NaN);
    if (step === 0) started = performance.now();
  }
  const end = performance.now();
  await close(engine, sequence);
  return { prefillSeconds: (prefilled - begin) / 1e3, decodeSeconds: (end - started) / 1e3, tokens };
}

/** Mean negative log-likelihood in nats of window[1..] given what stands before; every token runs in `phase`. */
export async function meanNll(
  engine: Engine,
  window: readonly number[],
  phase: 'prompt' | 'generated',
  attention: SequenceOptions['attention'],
): Promise<number> {
  const sequence = openSequence(engine, attention);
  let sum = 0;
  let count = 0;
  for (let from = 0; from < window.length; from += CHUNK) {
    const to = Math.min(from + CHUNK, window.length);
    const nextToken = window[to];
    const row = { sequence, position: from, tokens: window.slice(from, to), phase, sample: false } as const;
    const appendBlocks = blocksFor(from, to);
    const next = nextToken === undefined ? {} : { nextToken };
    engine.submit({ rows: [{ ...row, appendBlocks, promptLogprobs: true, ...next }] });
    for (const { logprob } of (await engine.collect()).rows[0]?.promptLogprobs ?? []) {
      sum -= logprob;
      count += 1;
    }
  }
  await close(engine, sequence);
  if (count !== window.length - 1)
    throw new Error(`expected ${String(window.length - 1)} log-probabilities, got ${String(count)}`);
  return sum / count;
}
