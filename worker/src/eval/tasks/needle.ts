// needle: facts in generated haystacks, by length and depth. The haystack is a prompt; the question is decoded sparsely, which is what
// tries retrieval, and densely for comparison (then only the answer's own tokens are sparse).
import type { Case, Measured } from '../trial.js';
import { generate, prefill, wholeBlocks } from '../continuation.js';
import type { Needle } from '../haystack.js';
import { isFound, layOut, makeHaystack } from '../haystack.js';
import { counted, decode, encode } from './task.js';
import type { Lab } from './task.js';

export interface NeedleTask {
  readonly kinds: readonly Needle[];
  /** Tokens of haystack, question and answer together. */
  readonly lengths: readonly number[];
  /** Places of the fact, 0 to 1. */
  readonly depths: readonly number[];
  /** Haystacks a cell. */
  readonly repeats: number;
}

/** More than an answer takes. */
const ANSWER_TOKENS: Readonly<Record<Needle, number>> = { single: 16, 'multi-key': 16, uuid: 48 };
/** Fewer than any sentence of the filler has. */
const LEAST_SENTENCE_TOKENS = 4;

export async function* needleCases(lab: Lab, task: NeedleTask): AsyncGenerator<Case> {
  for (const kind of task.kinds)
    for (const length of task.lengths)
      for (const depth of task.depths)
        for (let repeat = 0; repeat < task.repeats; repeat++)
          yield await needleCase(lab, kind, length, depth, repeat);
}

async function needleCase(
  lab: Lab,
  kind: Needle,
  length: number,
  depth: number,
  repeat: number,
): Promise<Case> {
  const { engine, seed, tokenizer } = lab;
  const haystack = makeHaystack(
    kind,
    `${seed} ${length} ${depth} ${repeat}`,
    Math.ceil(length / LEAST_SENTENCE_TOKENS),
  );
  const question = await encode(lab, haystack.question);
  const ids = await fitted(lab, length - question.length - ANSWER_TOKENS[kind], (count) =>
    layOut(haystack, count, depth),
  );
  const text = ids.slice(0, wholeBlocks(ids.length));
  const rest = ids.slice(text.length);
  const cell = `${kind} ${length} tokens, depth ${Math.round(depth * 100)}%`;
  return {
    task: 'needle',
    name: cell,
    context: length,
    prepare: () => prefill(engine, text),
    run: (setting) =>
      counted(engine, length, async () => {
        const ways = [
          ['question sparse', { text, dense: rest, sparse: question }],
          ['question dense', { text, dense: [...rest, ...question], sparse: [] }],
        ] as const;
        const measured: Measured[] = [];
        for (const [way, prompt] of ways) {
          if (setting.method.name === 'dense' && way === 'question sparse') continue;
          const drawn = await generate(engine, prompt, setting, ANSWER_TOKENS[kind], tokenizer.stopTokenIds);
          const value = isFound(decode(lab, drawn), haystack.answer) ? 1 : 0;
          measured.push(
            { group: kind, metric: way, value },
            { group: cell, metric: way, value, detail: true },
          );
        }
        return measured;
      }),
  };
}

/** Tokens of the longest text of whole sentences that has at most `most` tokens. */
async function fitted(lab: Lab, most: number, text: (sentences: number) => string): Promise<number[]> {
  let [low, high] = [0, Math.ceil(most / LEAST_SENTENCE_TOKENS)];
  let best = await encode(lab, text(0));
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const ids = await encode(lab, text(middle));
    if (ids.length <= most) [low, best] = [middle, ids];
    else high = middle - 1;
  }
  return best;
}
