// Continuing a text that stands in the cache. The text is prefilled densely once and every method opens on its blocks, as requests do
// on a shared prefix; a method that evicts is shown the text itself, since what it keeps depends on every query.
import { BLOCK_SIZE, LAST_SAMPLE } from '@spotlight/cuda';
import type { Engine, SequenceId } from '@spotlight/cuda';
import { blocksFor, closeSequence, openSequence } from './sequence.js';
import type { Setting } from './trial.js';

const CHUNK = 512;

/** Tokens of a text that fill whole blocks. */
export function wholeBlocks(tokens: number): number {
  return tokens - (tokens % BLOCK_SIZE);
}

async function feed(
  engine: Engine,
  sequence: SequenceId,
  position: number,
  tokens: readonly number[],
  phase: 'prompt' | 'generated',
): Promise<void> {
  for (let from = 0; from < tokens.length; from += CHUNK) {
    const to = Math.min(from + CHUNK, tokens.length);
    const appendBlocks = blocksFor(position + from, position + to);
    const row = { sequence, position: position + from, tokens: tokens.slice(from, to), phase, appendBlocks };
    engine.submit({ rows: [{ ...row, sample: false }] });
    await engine.collect();
  }
}

/** [async] Fills the first blocks with a text, a multiple of 64 tokens. */
export async function prefill(engine: Engine, text: readonly number[]): Promise<void> {
  const sequence = openSequence(engine, undefined);
  await feed(engine, sequence, 0, text, 'prompt');
  await closeSequence(engine, sequence);
}

/** [async] A sequence of this setting that holds the text prefilled before. */
async function openOn(engine: Engine, text: readonly number[], setting: Setting): Promise<SequenceId> {
  const { attention, method } = setting;
  if (!method.evicts) return openSequence(engine, attention, text.length);
  const sequence = openSequence(engine, attention);
  await feed(engine, sequence, 0, text, 'prompt');
  return sequence;
}

export interface Continuation {
  /** In the cache already, by prefill(). */
  readonly text: readonly number[];
  /** Still of the prompt: attends densely. */
  readonly dense: readonly number[];
  /** Attends as generated tokens do: a question decoded sparsely. */
  readonly sparse: readonly number[];
}

/** [async] Greedy tokens after it, at most `count`; ends before a token of `stop`. The prompt must not be empty past the text. */
export async function generate(
  engine: Engine,
  { text, dense, sparse }: Continuation,
  setting: Setting,
  count: number,
  stop: ReadonlySet<number>,
): Promise<number[]> {
  const sequence = await openOn(engine, text, setting);
  let position = text.length;
  const step = async (tokens: readonly number[], phase: 'prompt' | 'generated'): Promise<number> => {
    const appendBlocks = blocksFor(position, position + tokens.length);
    engine.submit({ rows: [{ sequence, position, tokens, phase, appendBlocks, sample: true }] });
    position += tokens.length;
    const token = (await engine.collect()).rows[0]?.token;
    if (token === undefined) throw new Error('the engine drew no token: its logits held nothing finite');
    return token;
  };
  const last = sparse.length > 0 ? sparse : dense;
  if (sparse.length > 0) {
    await feed(engine, sequence, position, dense, 'prompt');
    position += dense.length;
  }
  const phase = sparse.length > 0 ? 'generated' : 'prompt';
  await feed(engine, sequence, position, last.slice(0, -1), phase);
  position += last.length - 1;
  const drawn: number[] = [];
  let token = await step(last.slice(-1), phase);
  while (!stop.has(token)) {
    drawn.push(token);
    if (drawn.length === count) break;
    token = await step([LAST_SAMPLE], 'generated');
  }
  await closeSequence(engine, sequence);
  return drawn;
}

/** [async] Log-probability of the last `scored` tokens of what follows the text, all run sparsely. */
export async function logLikelihood(
  engine: Engine,
  text: readonly number[],
  rest: readonly number[],
  scored: number,
  setting: Setting,
): Promise<number> {
  const sequence = await openOn(engine, text, setting);
  const phase = setting.method.backend === 'dense' ? 'prompt' : 'generated';
  // The token before the first that is scored says how likely that was.
  const before = rest.slice(0, -scored - 1);
  const tokens = rest.slice(before.length);
  await feed(engine, sequence, text.length, before, phase);
  const position = text.length + before.length;
  const appendBlocks = blocksFor(position, position + tokens.length);
  engine.submit({
    rows: [{ sequence, position, tokens, phase, appendBlocks, sample: false, promptLogprobs: true }],
  });
  const logprobs = (await engine.collect()).rows[0]?.promptLogprobs ?? [];
  await closeSequence(engine, sequence);
  if (logprobs.length !== scored)
    throw new Error(`expected ${scored} log-probabilities, got ${logprobs.length}`);
  return logprobs.reduce((sum, { logprob }) => sum + logprob, 0);
}
