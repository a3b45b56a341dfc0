// qa: questions over long contexts (LongBench's format) with its official scores. The context is a prompt, cut in the middle where it
// is too long, as LongBench does; what stands behind it, the question, is decoded sparsely.
import type { Case } from '../trial.js';
import type { Prompts, Question } from '../sources.js';
import { CONTEXT, SourceError } from '../sources.js';
import { measureOf, scoreAnswer, UNSCORED } from '../longbench.js';
import { generate, prefill, wholeBlocks } from '../continuation.js';
import { counted, decode, encode } from './task.js';
import type { Lab } from './task.js';

export async function* qaCases(
  lab: Lab,
  questions: readonly Question[],
  answerTokens: number,
  prompts: Prompts,
): AsyncGenerator<Case> {
  const { engine, length, tokenizer } = lab;
  for (const [i, one] of questions.entries()) {
    if (UNSCORED.includes(one.dataset))
      throw new SourceError(
        `${one.dataset}: its official score counts words that jieba finds; it is not scored here`,
      );
    const { before, behind } = promptOf(prompts, one);
    const [opening, question] = [await encode(lab, before), await encode(lab, behind)];
    const most = length - opening.length - question.length - answerTokens;
    if (most <= 0)
      throw new SourceError(
        `${one.dataset} ${i + 1}: the question and --answer-tokens take more than --length ${length}`,
      );
    const context = [...opening, ...cutMiddle(await encode(lab, one.context), most)];
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

/** What stands before and behind a context; a data set without a prompt of its own gets the plainest. */
export function promptOf(prompts: Prompts, { dataset, input }: Question): { before: string; behind: string } {
  const template = prompts.get(dataset.replace(/_e$/, '')) ?? '{context}\n\nQuestion: {input}\nAnswer:';
  const at = template.indexOf(CONTEXT);
  const filled = (text: string): string => text.replaceAll('{input}', () => input);
  return { before: filled(template.slice(0, at)), behind: filled(template.slice(at + CONTEXT.length)) };
}

/** The first and the last half of what fits. */
export function cutMiddle(ids: readonly number[], most: number): number[] {
  if (ids.length <= most) return [...ids];
  const first = Math.ceil(most / 2);
  return [...ids.slice(0, first), ...ids.slice(ids.length - (most - first))];
}
