// What a task is given: the model, the texts, and the numbers of the command line.
import type { Engine } from '@spotlight/cuda';
import type { Tokenizer } from '../../tokenizer/tokenizer.js';
import type { Document } from '../sources.js';
import { SourceError } from '../sources.js';
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

export interface Window {
  /** Of the document. */
  readonly name: string;
  /** "window 2/4" */
  readonly place: string;
  /** As many as the lab's length. */
  readonly ids: readonly number[];
}

/**
 * [async] Leading windows of every document: all first ones, then all second ones, so that what a limit cuts off all lose alike.
 * @throws SourceError for a document shorter than a window
 */
export async function windowsOf(
  lab: Lab,
  documents: readonly Document[],
  most: number,
): Promise<readonly Window[]> {
  const { length } = lab;
  const windows: (Window & { readonly at: number })[] = [];
  for (const { name, text } of documents) {
    const ids = await encode(lab, text);
    const whole = Math.min(most, Math.floor(ids.length / length));
    if (whole === 0)
      throw new SourceError(
        `${name}: has ${ids.length} tokens, a window has ${length}: give less by --length`,
      );
    for (let at = 0; at < whole; at++)
      windows.push({
        ...{ at, name, place: `window ${at + 1}/${whole}` },
        ids: ids.slice(at * length, (at + 1) * length),
      });
  }
  return windows.sort((a, b) => a.at - b.at);
}
