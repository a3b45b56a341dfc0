// What a task is given: the model, the texts, and the numbers of the command line.
import type { Engine } from '@spotlight/cuda';
import type { Tokenizer } from '../../tokenizer/tokenizer.js';
import type { Reads } from '../window.js';
import { rowsBetween } from '../window.js';
import type { Measured, Trial } from '../trial.js';

export interface Lab {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly seed: number;
  /** Most tokens of a context. */
  readonly length: number;
}

/** Runs `work`, whose sparse tokens all see about `context` tokens, and counts what they read. */
export async function counted(
  engine: Engine,
  context: number,
  work: () => Promise<Measured[]>,
): Promise<Trial> {
  const before: Reads = engine.stats();
  const measured = await work();
  return { measured, rowsRead: rowsBetween(before, engine.stats(), context) };
}

export async function encode({ tokenizer }: Lab, text: string): Promise<number[]> {
  return tokenizer.encode(text, { addSpecialTokens: false });
}

export function decode({ tokenizer }: Lab, ids: readonly number[]): string {
  const stream = tokenizer.openStream();
  return ids.map((id) => stream.push(id)).join('') + stream.flush();
}
