// fewshot: multiple choice after solved examples. The model's answer is the choice whose text is likeliest; the examples are a prompt,
// the question and the choice run sparsely.
import type { Case } from '../trial.js';
import type { Choice } from '../sources.js';
import { SourceError } from '../sources.js';
import { logLikelihood, prefill, wholeBlocks } from '../continuation.js';
import { counted, encode } from './task.js';
import type { Lab } from './task.js';

export async function* fewshotCases(lab: Lab, items: readonly Choice[], shots: number): AsyncGenerator<Case> {
  const { engine, length } = lab;
  if (items.length <= shots)
    throw new SourceError(`few-shot: ${items.length} lines, ${shots} of them examples: none is left to ask`);
  const solved = items
    .slice(0, shots)
    .map(({ question, choices, answer }) => `Question: ${question}\nAnswer: ${choices[answer] ?? ''}\n\n`)
    .join('');
  const examples = await encode(lab, solved);
  const asked = items.slice(shots);
  for (const [i, { question, choices, answer }] of asked.entries()) {
    const start = [...examples, ...(await encode(lab, `Question: ${question}\nAnswer:`))];
    const endings = await Promise.all(choices.map((choice) => encode(lab, ` ${choice}`)));
    const longest = start.length + Math.max(...endings.map((ending) => ending.length));
    if (longest > length)
      throw new SourceError(
        `few-shot: question ${i + 1} takes ${longest} tokens of ${length}; give fewer --shots`,
      );
    // The examples as far as they fill blocks; with none at all, nothing is prefilled.
    const text = start.slice(0, Math.min(wholeBlocks(examples.length), wholeBlocks(start.length - 1)));
    const rest = start.slice(text.length);
    yield {
      task: 'fewshot',
      name: `question ${i + 1}/${asked.length}`,
      context: longest,
      async prepare() {
        if (text.length > 0) await prefill(engine, text);
      },
      run: (setting) =>
        counted(engine, longest, async () => {
          const scores: number[] = [];
          for (const ending of endings)
            scores.push(await logLikelihood(engine, text, [...rest, ...ending], ending.length, setting));
          const byToken = scores.map((score, c) => score / (endings[c]?.length ?? 1));
          return [
            { group: `${shots} shots`, metric: 'accuracy', value: best(scores) === answer ? 1 : 0 },
            { group: `${shots} shots`, metric: 'accuracy by token', value: best(byToken) === answer ? 1 : 0 },
          ];
        }),
    };
  }
}

function best(scores: readonly number[]): number {
  return scores.indexOf(Math.max(...scores));
}
