// LongBench's official measures by data set, to the bit: ROUGE-L of the `rouge` package (over sentences and distinct words), the code
// similarity of difflib, a classification's discount, so that figures stand beside published ones. Pure.
import { f1 } from './scores.js';

export type Measure = 'f1' | 'rouge-l' | 'classification' | 'retrieval' | 'count' | 'code similarity';

/** Data sets that are not scored by F1; those of other benchmarks are. */
const MEASURES: Readonly<Record<string, Measure>> = {
  gov_report: 'rouge-l',
  qmsum: 'rouge-l',
  multi_news: 'rouge-l',
  samsum: 'rouge-l',
  trec: 'classification',
  lsht: 'classification',
  passage_retrieval_en: 'retrieval',
  passage_retrieval_zh: 'retrieval',
  passage_count: 'count',
  lcc: 'code similarity',
  'repobench-p': 'code similarity',
};

/** Of these only the first line of an answer counts. */
const FIRST_LINE: readonly string[] = ['trec', 'triviaqa', 'samsum', 'lsht'];

/** Their words are those that the segmenter jieba finds: no measure of ours would be theirs. */
export const UNSCORED: readonly string[] = ['multifieldqa_zh', 'dureader', 'vcsum'];

export interface Answered {
  readonly dataset: string;
  readonly answers: readonly string[];
  readonly classes: readonly string[];
}

/** LongBench-E names its data sets with a suffix. */
const plainName = (dataset: string): string => dataset.replace(/_e$/, '');

export function measureOf(dataset: string): Measure {
  return MEASURES[plainName(dataset)] ?? 'f1';
}

/** The best score over the accepted answers, 0 to 1. */
export function scoreAnswer(prediction: string, { dataset, answers, classes }: Answered): number {
  const measure = measureOf(dataset);
  const text = FIRST_LINE.includes(plainName(dataset))
    ? (prediction.replace(/^\n+/, '').split('\n')[0] ?? '')
    : prediction;
  return Math.max(0, ...answers.map((answer) => score(measure, text, answer, classes)));
}

function score(measure: Measure, prediction: string, answer: string, classes: readonly string[]): number {
  switch (measure) {
    case 'f1':
      return f1(prediction, answer);
    case 'rouge-l':
      return rougeLOfSentences(prediction, answer);
    case 'classification':
      return classification(prediction, answer, classes);
    case 'retrieval':
      return shareOf(prediction, /(?:Paragraph |段落)(\d+)/.exec(answer)?.[1] ?? answer);
    case 'count':
      return shareOf(prediction, answer);
    case 'code similarity':
      return codeSimilarity(prediction, answer);
  }
}

/** Share of the numbers in the text that are the one wanted. */
function shareOf(text: string, wanted: string): number {
  const numbers = text.match(/\d+/g) ?? [];
  return numbers.length === 0 ? 0 : numbers.filter((number) => number === wanted).length / numbers.length;
}

/** Shared among the classes named. A class named within the right one is no second guess, unless it stands behind another such. */
function classification(prediction: string, answer: string, classes: readonly string[]): number {
  const named = classes.filter((name) => prediction.includes(name));
  // The list shrinks while it is walked over, as in the original: the one behind a class taken out is not looked at.
  for (let i = 0; i < named.length; i++) {
    const name = named[i] ?? '';
    if (name !== answer && answer.includes(name)) named.splice(named.indexOf(name), 1);
  }
  return named.includes(answer) ? 1 / named.length : 0;
}

/** Summary-level ROUGE-L: distinct words of the truth's sentences that lie on a longest common subsequence with one of the prediction's. */
export function rougeLOfSentences(prediction: string, truth: string): number {
  const sentences = (text: string): string[][] =>
    text
      .split('.')
      .filter((sentence) => sentence !== '')
      .map((sentence) => sentence.split(/\s+/).filter(Boolean).join(' ').split(' '));
  const [predicted, wanted] = [sentences(prediction), sentences(truth)];
  if (predicted.length === 0 || wanted.length === 0) return 0;
  const common = new Set<string>();
  for (const sentence of wanted)
    for (const other of predicted) for (const word of commonWords(sentence, other)) common.add(word);
  const recall = common.size / new Set(wanted.flat()).size;
  const precision = common.size / new Set(predicted.flat()).size;
  return (2 * precision * recall) / (precision + recall + 1e-8);
}

/** One longest common subsequence; of several the one that goes back in `b` first. */
function commonWords(a: readonly string[], b: readonly string[]): string[] {
  const width = b.length + 1;
  const lengths = new Int32Array((a.length + 1) * width);
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0;
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      lengths[i * width + j] =
        a[i - 1] === b[j - 1] ? at(i - 1, j - 1) + 1 : Math.max(at(i - 1, j), at(i, j - 1));
  const words: string[] = [];
  for (let [i, j] = [a.length, b.length]; i > 0 && j > 0;) {
    if (a[i - 1] === b[j - 1]) {
      words.push(a[i - 1] ?? '');
      [i, j] = [i - 1, j - 1];
    } else if (at(i - 1, j) > at(i, j - 1)) i--;
    else j--;
  }
  return words;
}

/** Of the first line without a backquote or a comment, in whole hundredths. */
function codeSimilarity(prediction: string, answer: string): number {
  const line = prediction
    .replace(/^\n+/, '')
    .split('\n')
    .find((one) => !/[`#]|\/\//.test(one));
  const [a, b] = [Array.from(line ?? ''), Array.from(answer)];
  if (a.length === 0 || b.length === 0) return 0;
  const ratio = (2 * matched(a, b, popular(b))) / (a.length + b.length);
  return roundHalfToEven(100 * ratio) / 100;
}

/** Characters that difflib ignores where a match begins: in texts of 200 and more, those that make up over a hundredth. */
function popular(text: readonly string[]): ReadonlySet<string> {
  if (text.length < 200) return new Set();
  const counts = new Map<string, number>();
  for (const char of text) counts.set(char, (counts.get(char) ?? 0) + 1);
  const most = Math.floor(text.length / 100) + 1;
  return new Set([...counts].filter(([, count]) => count > most).map(([char]) => char));
}

/** Characters in matching blocks, as difflib finds them: the longest (the first of several), then so on both sides of it. */
function matched(a: readonly string[], b: readonly string[], ignored: ReadonlySet<string>): number {
  let [from, other, size] = [0, 0, 0];
  let before = new Int32Array(b.length + 1);
  for (const [i, char] of a.entries()) {
    const now = new Int32Array(b.length + 1);
    for (let j = 0; j < b.length; j++) {
      if (b[j] !== char || ignored.has(char)) continue;
      const length = (before[j] ?? 0) + 1;
      now[j + 1] = length;
      if (length > size) [from, other, size] = [i - length + 1, j - length + 1, length];
    }
    before = now;
  }
  while (from > 0 && other > 0 && a[from - 1] === b[other - 1])
    [from, other, size] = [from - 1, other - 1, size + 1];
  while (from + size < a.length && other + size < b.length && a[from + size] === b[other + size]) size++;
  if (size === 0) return 0;
  return (
    size +
    matched(a.slice(0, from), b.slice(0, other), ignored) +
    matched(a.slice(from + size), b.slice(other + size), ignored)
  );
}

/** Python's round(). */
function roundHalfToEven(value: number): number {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
