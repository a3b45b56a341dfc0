// How answers are scored: LongBench's official measures (F1 over normalised words, ROUGE-L, classification, retrieval) and how far two
// continuations of a prompt agree. Pure.

/** SQuAD's normalisation, as LongBench has it: lower case, no punctuation, no articles, single spaces. */
export function normalized(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[!-/:-@[-`{-~]/g, '')
    .replaceAll(/\b(?:a|an|the)\b/g, ' ')
    .split(/\s+/)
    .filter(Boolean)
    .join(' ');
}

const words = (text: string): string[] => normalized(text).split(' ').filter(Boolean);

/** Harmonic mean of precision and recall of the words both have. */
export function f1(prediction: string, truth: string): number {
  const predicted = words(prediction);
  const wanted = words(truth);
  const left = new Map<string, number>();
  for (const word of wanted) left.set(word, (left.get(word) ?? 0) + 1);
  let same = 0;
  for (const word of predicted) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    same += 1;
  }
  return same === 0 ? 0 : (2 * same) / (predicted.length + wanted.length);
}

/** Length of the longest common subsequence. */
export function commonSubsequence<T>(a: readonly T[], b: readonly T[]): number {
  let before = new Array<number>(b.length + 1).fill(0);
  for (const x of a) {
    const now = [0];
    for (let j = 0; j < b.length; j++)
      now.push(x === b[j] ? (before[j] ?? 0) + 1 : Math.max(before[j + 1] ?? 0, now[j] ?? 0));
    before = now;
  }
  return before[b.length] ?? 0;
}

/** ROUGE-L's F1; 1 for two empty sequences. */
export function rougeL<T>(prediction: readonly T[], truth: readonly T[]): number {
  if (prediction.length + truth.length === 0) return 1;
  return (2 * commonSubsequence(prediction, truth)) / (prediction.length + truth.length);
}

/** Insertions, deletions and substitutions that turn one into the other. */
export function editDistance<T>(a: readonly T[], b: readonly T[]): number {
  let before = Array.from({ length: b.length + 1 }, (_, j) => j);
  a.forEach((x, i) => {
    const now = [i + 1];
    for (let j = 0; j < b.length; j++)
      now.push(
        Math.min((before[j] ?? 0) + (x === b[j] ? 0 : 1), (before[j + 1] ?? 0) + 1, (now[j] ?? 0) + 1),
      );
    before = now;
  });
  return before[b.length] ?? 0;
}

export type Measure = 'f1' | 'rouge-l' | 'classification' | 'retrieval' | 'count';

/** LongBench's English data sets; what is not among them is scored by F1. */
const MEASURES: Readonly<Record<string, Measure>> = {
  gov_report: 'rouge-l',
  qmsum: 'rouge-l',
  multi_news: 'rouge-l',
  samsum: 'rouge-l',
  trec: 'classification',
  passage_retrieval_en: 'retrieval',
  passage_count: 'count',
};

/** Of these only the first line of an answer counts. */
const FIRST_LINE: readonly string[] = ['trec', 'triviaqa', 'samsum', 'lsht'];

export interface Answered {
  readonly dataset: string;
  readonly answers: readonly string[];
  readonly classes: readonly string[];
}

export function measureOf(dataset: string): Measure {
  return MEASURES[dataset.replace(/_e$/, '')] ?? 'f1';
}

/** The best score over the accepted answers, 0 to 1. */
export function scoreAnswer(prediction: string, { dataset, answers, classes }: Answered): number {
  const measure = measureOf(dataset);
  const text = FIRST_LINE.includes(dataset.replace(/_e$/, ''))
    ? (prediction.replace(/^\n+/, '').split('\n')[0] ?? '')
    : prediction;
  return Math.max(0, ...answers.map((answer) => score(measure, text, answer, classes)));
}

function score(measure: Measure, prediction: string, answer: string, classes: readonly string[]): number {
  switch (measure) {
    case 'f1':
      return f1(prediction, answer);
    case 'rouge-l': {
      const split = (text: string): string[] => text.split(/\s+/).filter(Boolean);
      return rougeL(split(prediction), split(answer));
    }
    case 'classification': {
      // A class named within the right one is no second guess.
      const named = classes.filter((name) => prediction.includes(name));
      const guesses = named.filter((name) => !(name !== answer && answer.includes(name)));
      return guesses.includes(answer) ? 1 / guesses.length : 0;
    }
    case 'retrieval':
      return shareOf(prediction, /Paragraph (\d+)/.exec(answer)?.[1] ?? answer);
    case 'count':
      return shareOf(prediction, answer);
  }
}

/** Share of the numbers in the text that are the one wanted. */
function shareOf(text: string, wanted: string): number {
  const numbers = text.match(/\d+/g) ?? [];
  return numbers.length === 0 ? 0 : numbers.filter((number) => number === wanted).length / numbers.length;
}
