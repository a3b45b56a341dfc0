// Drives one native engine without a worker: what cpu-decode times is the step itself. Decode keeps two steps
// in flight and feeds tokens on the device, as the worker does.
import { LAST_SAMPLE } from '@spotlight/cuda';
import type { Engine, SequenceOptions } from '@spotlight/cuda';
import { blocksFor, closeSequence, openSequence } from '@spotlight/worker/eval/sequence.js';

const CHUNK = 512;

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
  await closeSequence(engine, sequence);
  return { prefillSeconds: (prefilled - begin) / 1e3, decodeSeconds: (end - started) / 1e3, tokens };
}
