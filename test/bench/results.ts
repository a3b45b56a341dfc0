// `npm run bench -- results`: no benchmark, but what is made of those that were kept: plots beside their lines, and the README's tables.
// Lines that were printed on a machine without the repository are taken in first (--add), under the commit they were made of.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Bench, BenchLine } from './bench.js';
import { EVAL, evalLines } from './eval-tables.js';
import { merged, withMarks, withTables } from './report.js';

/** A line as it is kept. */
export type KeptLine = BenchLine & { readonly device: string; readonly commit: string };

// Compiled code runs from test/dist/bench; results stand beside the sources.
export const FOLDER = fileURLToPath(new URL('../../bench/results/', import.meta.url));
const inRepository = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
/** Every evaluation that is kept has a table here. */
const EVAL_PAGE = inRepository('worker/src/eval/README.md');
/** Where tables stand. */
export const PAGES = [inRepository('README.md'), EVAL_PAGE];

/** Name of a results file without its ending. `cores` where the device is the machine's CPU. */
export function nameOf(bench: string, device: string, cores?: number): string {
  const slug = device.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  return `${bench}.${slug}${cores === undefined ? '' : `-${cores}`}`;
}

/** The commit that stands here, with a plus where tracked files differ from it. */
export function commitHere(): string {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '-uno') ? '+' : '');
}

export function readLines(path: string): KeptLine[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((text) => text.trim() !== '')
    .map((text) => JSON.parse(text) as KeptLine);
}

/** All results files, by name. */
export function readResults(): Map<string, KeptLine[]> {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.jsonl'));
  return new Map(names.map((name) => [name.slice(0, -'.jsonl'.length), readLines(FOLDER + name)]));
}

export function write(name: string, lines: readonly KeptLine[]): void {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(`${FOLDER}${name}.jsonl`, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

/** @returns the plot's path, undefined where the benchmark draws none */
export function draw(name: string, bench: Bench, lines: readonly BenchLine[]): string | undefined {
  const drawn = bench.plot?.(lines);
  if (drawn === undefined) return undefined;
  writeFileSync(`${FOLDER}${name}.svg`, drawn);
  return `${FOLDER}${name}.svg`;
}

export const USAGE = [
  'results      plots and the README’s tables, made anew of the results that are kept',
  '               --add FILE   lines printed elsewhere take the place of those of the same case and metric; may be repeated',
  '               --eval NAME=FILE   the same of a file that spotlight eval --json wrote, kept as eval-NAME; may be repeated',
  '               --commit C   what those were measured of; default: the commit here',
  '               --replace    nothing is left of what was kept before of the same benchmarks and devices',
];

/** @throws Error for a line that does not say on what it was measured, and for a mark in the README without results */
export async function results(
  args: readonly string[],
  benches: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>>,
  say: (message: string) => void,
): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      add: { type: 'string', multiple: true, default: [] },
      eval: { type: 'string', multiple: true, default: [] },
      commit: { type: 'string' },
      replace: { type: 'boolean', default: false },
    },
  });
  const commit = values.commit ?? commitHere();
  const added = new Map<string, KeptLine[]>();
  const add = ({ bench, device, ...line }: BenchLine): void => {
    if (device === undefined) return; // quoted from elsewhere
    const name = nameOf(bench, device);
    added.set(name, [...(added.get(name) ?? []), { bench, ...line, device, commit }]);
  };
  for (const path of values.add) readLines(path).forEach(add);
  for (const given of values.eval) {
    const [, name, path] = /^([a-z0-9-]+)=(.+)$/.exec(given) ?? [];
    if (name === undefined || path === undefined)
      throw new Error(`--eval ${given}: must be NAME=FILE, the name in lower case`);
    evalLines(name, path).forEach(add);
  }
  for (const [name, lines] of added) {
    const path = `${FOLDER}${name}.jsonl`;
    // An evaluation is one command's: no row of another stays.
    const anew = values.replace || name.startsWith(EVAL);
    const kept = existsSync(path) && !anew ? readLines(path) : [];
    write(name, merged(kept, lines) as KeptLine[]);
    say(`${lines.length} lines kept in ${path}`);
  }
  const all = readResults();
  for (const [name, lines] of all) {
    const load = benches[name.split('.')[0] ?? ''];
    const drawn = load === undefined ? undefined : draw(name, (await load()).bench, lines);
    if (drawn !== undefined) say(`drawn in ${drawn}`);
  }
  for (const page of PAGES) {
    const evaluations = page === EVAL_PAGE ? [...all.keys()].filter((name) => name.startsWith(EVAL)) : [];
    writeFileSync(page, withTables(withMarks(readFileSync(page, 'utf8'), evaluations), all));
    say(`tables made in ${page}`);
  }
}
