// qa: questions over long contexts (LongBench's format) with its official scores. The context is a prompt, cut in the middle where it
// is too long, as LongBench does; the question is decoded sparsely.
import type { Case } from '../trial.js';
import type { Question } from '../sources.js';
import { SourceError } from '../sources.js';
import { measureOf, scoreAnswer } from '../scores.js';
import { generate, prefill, wholeBlocks } from '../continuation.js';
import { counted, decode, encode } from './task.js';
import type { Lab } from './task.js';

export async function* qaCases(
  lab: Lab,
  questions: readonly Question[],
  answerTokens: number,
): AsyncGenerator<Case> {
  const { engine, length, tokenizer } = lab;
  for (const [i, one] of questions.entries()) {
    const question = await encode(lab, `\n\nQuestion: ${one.input}\nAnswer:`);
    if (question.length + answerTokens >= length)
      throw new SourceError(
        `${one.dataset} ${i + 1}: the question and --answer-tokens take more than --length ${length}`,
      );
    const context = cutMiddle(await encode(lab, one.context), length - question.length - answerTokens);
    const text = context.slice(0, wholeBlocks(context.length));
    const prompt = { text, dense: context.slice(text.length), sparse: question };
    yield {
      task: 'qa',
      name: `${one.dataset} ${i + 1}/${questions.length}`,
      context: context.length + question.length,
      prepare: () => prefill(engine, text),
      run: (setting) =>
        counted(engine, context.length + question.length, async () => {
          const dense = setting.method.name === 'dense';
          const asked = dense ? { text, dense: [...prompt.dense, ...question], sparse: [] } : prompt;
          const drawn = await generate(engine, asked, setting, answerTokens, tokenizer.stopTokenIds);
          const value = scoreAnswer(decode(lab, drawn), one);
          return [{ group: one.dataset, metric: measureOf(one.dataset), value }];
        }),
    };
  }
}

/** The first and the last half of what fits. */
export function cutMiddle(ids: readonly number[], most: number): number[] {
  if (ids.length <= most) return [...ids];
  const first = Math.ceil(most / 2);
  return [...ids.slice(0, first), ...ids.slice(ids.length - (most - first))];
}
