// How far two texts or continuations agree: F1 over normalised words, ROUGE-L, edit distance. Pure.

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
