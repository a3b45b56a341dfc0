// needle: facts in generated haystacks, by length and depth. The haystack is a prompt; the question is decoded sparsely, which is what
// tries retrieval, and densely for comparison (then only the answer's own tokens are sparse). What dense attention does not find no
// method can be blamed for: shares are told over all haystacks, and over those in which dense attention finds the fact.
import type { Case, Measured, Setting } from '../trial.js';
import { generate, prefill, wholeBlocks } from '../continuation.js';
import type { Continuation } from '../continuation.js';
import type { Needle } from '../haystack.js';
import { isFound, layOut, makeHaystack } from '../haystack.js';
import { settingsOf } from '../methods.js';
import type { Method } from '../methods.js';
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

/** @param dense what decides which facts are to be found */
export async function* needleCases(lab: Lab, task: NeedleTask, dense: Method): AsyncGenerator<Case> {
  for (let repeat = 0; repeat < task.repeats; repeat++)
    for (const kind of task.kinds)
      for (const length of task.lengths)
        for (const depth of task.depths) yield await needleCase(lab, dense, kind, length, depth, repeat);
}

async function needleCase(
  lab: Lab,
  dense: Method,
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
  const find = async (prompt: Continuation, setting: Setting): Promise<0 | 1> => {
    const drawn = await generate(engine, prompt, setting, ANSWER_TOKENS[kind], tokenizer.stopTokenIds);
    return isFound(decode(lab, drawn), haystack.answer) ? 1 : 0;
  };
  const asked: Continuation = { text, dense: [...rest, ...question], sparse: [] };
  let denseFinds: 0 | 1 = 0;
  return {
    task: 'needle',
    name: cell,
    context: length,
    async prepare() {
      await prefill(engine, text);
      const attention = settingsOf(dense, length, { denseLayers: 0, tailFrom: 0, sink: 0, recent: 0 });
      denseFinds = await find(asked, { method: dense, tokens: length, attention });
    },
    run: (setting) =>
      counted(engine, length, async () => {
        const ways = [
          ['question sparse', { text, dense: rest, sparse: question }],
          ['question dense', asked],
        ] as const;
        const measured: Measured[] = [];
        for (const [way, prompt] of ways) {
          const isDense = setting.method.name === 'dense';
          if (isDense && way === 'question sparse') continue;
          const value = isDense ? denseFinds : await find(prompt, setting);
          measured.push(
            { group: kind, metric: way, value },
            { group: cell, metric: way, value, detail: true },
          );
          if (denseFinds === 1 && !isDense)
            measured.push({ group: kind, metric: `${way}, of those dense finds`, value });
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
