// Needles in generated haystacks: seeded filler of plain sentences with facts put in at a depth, and the question whose answer is one
// of them. Pure: text in pieces, so that the runner can count tokens and cut the filler to length.
import { Random } from './random.js';

export const NEEDLES = ['single', 'multi-key', 'uuid'] as const;
export type Needle = (typeof NEEDLES)[number];

export interface Haystack {
  /** Sentences of filler, more than enough; each ends with a space. */
  readonly filler: readonly string[];
  /** The fact asked for. */
  readonly fact: string;
  /** Facts of other keys, to be spread evenly. */
  readonly others: readonly string[];
  /** What follows the haystack: the question and the start of the answer. */
  readonly question: string;
  readonly answer: string;
}

const SUBJECTS = ['The grass', 'The old bridge', 'A quiet street', 'The morning train', 'Our garden'];
const VERBS = ['looks', 'remains', 'seems', 'turns', 'stays'];
const QUALITIES = ['green', 'calm', 'busy', 'bright', 'empty', 'warm', 'grey', 'still'];
const TIMES = ['in spring', 'after the rain', 'before noon', 'on Sundays', 'at dusk', 'all winter'];
const KEYS = [
  'apple',
  'river',
  'candle',
  'falcon',
  'marble',
  'ladder',
  'violin',
  'pepper',
  'anchor',
  'meadow',
];
const OTHER_KEYS = 3;

/** @param sentences of filler */
export function makeHaystack(kind: Needle, seed: string, sentences: number): Haystack {
  const random = new Random(`${kind}\n${seed}`);
  const filler = Array.from(
    { length: sentences },
    () => `${random.pick(SUBJECTS)} ${random.pick(VERBS)} ${random.pick(QUALITIES)} ${random.pick(TIMES)}. `,
  );
  const value = (): string =>
    kind === 'uuid' ? uuid(random) : String(1_000_000 + random.integer(9_000_000));
  const keys = kind === 'uuid' ? distinct(() => uuid(random)) : distinct(() => random.pick(KEYS));
  const noun = kind === 'uuid' ? 'code' : 'number';
  const facts = keys.map((key) => {
    const secret = value();
    return { key, secret, text: `The special magic ${noun} for ${key} is: ${secret}. ` };
  });
  const [fact, ...others] = facts;
  if (fact === undefined) throw new RangeError('a haystack without a needle');
  return {
    filler,
    fact: fact.text,
    others: kind === 'single' ? [] : others.map((other) => other.text),
    question: `\n\nQuestion: What is the special magic ${noun} for ${fact.key}?\nAnswer: The special magic ${noun} for ${fact.key} is:`,
    answer: fact.secret,
  };
}

function distinct(make: () => string): string[] {
  const all = new Set<string>();
  while (all.size < OTHER_KEYS + 1) all.add(make());
  return [...all];
}

function uuid(random: Random): string {
  const hex = (digits: number): string =>
    Array.from({ length: digits }, () => random.integer(16).toString(16)).join('');
  return `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`;
}

/**
 * The haystack's text with the fact at `depth` (0: first, 1: last) of the first `count` sentences, the other facts spread evenly.
 */
export function layOut({ filler, fact, others }: Haystack, count: number, depth: number): string {
  const kept = filler.slice(0, count);
  const at = (share: number): number => Math.round(share * kept.length);
  const inserts: { at: number; text: string }[] = [
    { at: at(depth), text: fact },
    ...others.map((text, i) => ({ at: at((i + 0.5) / others.length), text })),
  ];
  const parts: string[] = [];
  for (let i = 0; i <= kept.length; i++) {
    for (const insert of inserts) if (insert.at === i) parts.push(insert.text);
    parts.push(kept[i] ?? '');
  }
  return parts.join('');
}

/** Whether a continuation gives the answer: the secret, before anything else that looks like one. */
export function isFound(continuation: string, answer: string): boolean {
  return (/[0-9a-f][0-9a-f-]{5,}/.exec(continuation.toLowerCase())?.[0] ?? '') === answer;
}
