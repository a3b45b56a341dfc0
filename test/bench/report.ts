// Benchmark lines as the tables of the README: pure functions, so that a test can tell whether what stands there is what was measured.
import type { BenchLine } from './bench.js';
import { parseCase } from './attention.js';
import { EVAL, evalTables } from './eval-tables.js';
import { markdownTable as table } from './markdown.js';
import { tokens } from './plot.js';
import { FIRST_TOKEN, VLLM, VLLM_FIRST_TOKEN } from './vllm.js';

/** Metric of `attention` -> its row. */
const ATTENTION_ROWS: readonly (readonly [metric: string, name: string])[] = [
  ['dense cuDNN', 'dense, cuDNN'],
  ['dense FlashInfer', 'dense, FlashInfer'],
  ['spotlight', 'Spotlight'],
  ['spotlight, tail', 'Spotlight with the tail'],
  ['byte floor', 'what its bytes take'],
  ['byte floor, tail', 'what its bytes take with the tail'],
  ['hash', 'alone: hash'],
  ['score', 'alone: score'],
  ['select and attend', 'alone: select and attend'],
];
const SHAPE = 'qwen2.5-7b';

/** Three digits that count: 24.2, 0.96, 468. */
function short(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return '';
  return value >= 100 ? value.toFixed(0) : value.toPrecision(value < 1 ? 2 : 3);
}

/** case -> metric -> value. */
function byCase(lines: readonly BenchLine[]): Map<string, Map<string, number>> {
  const cases = new Map<string, Map<string, number>>();
  for (const { case: name, metric, value } of lines) {
    const metrics = cases.get(name) ?? new Map<string, number>();
    cases.set(name, metrics.set(metric, value));
  }
  return cases;
}

export function attentionTables(lines: readonly BenchLine[]): string {
  const found = [...byCase(lines)].flatMap(([name, metrics]) => {
    const parsed = parseCase(name);
    return parsed === undefined ? [] : [{ ...parsed, metrics }];
  });
  const contexts = (all: typeof found): number[] =>
    [...new Set(all.map(({ context }) => context))].sort((a, b) => a - b);
  const first = found.filter(({ shape, batch }) => shape === SHAPE && batch === 1);
  const columns = contexts(first);
  const rows = ATTENTION_ROWS.flatMap(([metric, name]) => {
    const values = columns.map((context) =>
      short(first.find((one) => one.context === context)?.metrics.get(metric)),
    );
    return values.every((value) => value === '') ? [] : [[name, ...values]];
  });
  const tables = [table([`${SHAPE}, batch 1, µs`, ...columns.map(tokens)], rows)];
  const names = [...new Set(found.map(({ shape, batch }) => `${shape}, batch ${batch}`))];
  if (names.length > 1) {
    const wide = contexts(found);
    const others = names.map((name) => [
      name,
      ...wide.map((context) => {
        const metrics = found.find(
          (one) => one.context === context && `${one.shape}, batch ${one.batch}` === name,
        )?.metrics;
        const [dense, ours] = [metrics?.get('dense cuDNN'), metrics?.get('spotlight, tail')];
        if (dense === undefined || ours === undefined) return '';
        return `${short(dense)} → ${short(ours)} (${short(dense / ours)}x)`;
      }),
    ]);
    tables.push(table(['cuDNN → Spotlight with the tail, µs', ...wide.map(tokens)], others));
  }
  return tables.join('\n\n');
}

export function stepTables(lines: readonly BenchLine[]): string {
  const cases = byCase(lines);
  const tables: string[] = [];
  const steps = [...cases].flatMap(([name, metrics]) => {
    const parsed = parseCase(name);
    const [dense, ours] = [metrics.get('dense'), metrics.get('spotlight')];
    if (parsed === undefined || dense === undefined) return [];
    const { shape, batch, context } = parsed;
    const quoted = shape === SHAPE ? VLLM[`${batch}x${context}`] : undefined;
    const gain = ours === undefined ? '' : ` (${short(dense / ours)}x)`;
    const floors = [metrics.get('dense byte floor'), metrics.get('spotlight byte floor')].map(short);
    return [
      {
        order: [batch, context] as const,
        cells: [
          `${batch} x ${tokens(context)}`,
          short(quoted),
          short(dense),
          short(ours) + gain,
          floors.join(' / '),
        ],
      },
    ];
  });
  steps.sort((a, b) => a.order[0] - b.order[0] || a.order[1] - b.order[1]);
  if (steps.length > 0)
    tables.push(
      table(
        ['batch x context', 'vLLM 0.26, quoted', 'dense, ms', 'Spotlight', 'their bytes take'],
        steps.map(({ cells }) => cells),
      ),
    );
  const prompts = [...cases].flatMap(([name, metrics]) => {
    const prompt = /^(\S+) prefill (\d+)$/.exec(name)?.[2];
    if (prompt === undefined) return [];
    const share = metrics.get("codes' share");
    return [
      [
        tokens(Number(prompt)),
        short(VLLM_FIRST_TOKEN[prompt]),
        short(metrics.get(`${FIRST_TOKEN}, no codes`)),
        short(metrics.get(FIRST_TOKEN)),
        share === undefined ? '' : `${share.toFixed(1)}%`,
        short(metrics.get(`${FIRST_TOKEN}, served`)),
      ],
    ];
  });
  if (prompts.length > 0)
    tables.push(
      table(
        ['prompt', 'vLLM 0.26, quoted', 'first token without codes, s', 'with codes', 'codes', 'served'],
        prompts,
      ),
    );
  const served = [...cases].flatMap(([name, metrics]) => {
    const [alone, step] = [metrics.get('step, the engine alone'), metrics.get('step, served')];
    if (alone === undefined || step === undefined) return [];
    const idle = metrics.get('GPU idle a step, served');
    return [[name, short(alone), short(step), short(metrics.get('host overhead')), short(idle)]];
  });
  if (served.length > 0)
    tables.push(table(['streaming', 'step alone, ms', 'served', 'host overhead', 'GPU idle a step'], served));
  return tables.join('\n\n');
}

const TABLES: Readonly<Record<string, (lines: readonly BenchLine[]) => string>> = {
  attention: attentionTables,
  e2e: stepTables,
};

const tablesOf = (name: string): ((lines: readonly BenchLine[]) => string) | undefined =>
  TABLES[name] ?? (name.startsWith(EVAL) ? evalTables : undefined);

/**
 * `text` with everything between `<!-- bench NAME -->` and `<!-- bench end -->` made anew of that results file (NAME has no `.jsonl`).
 *
 * @throws Error for a name without lines or a mark without an end
 */
export function withTables(text: string, results: ReadonlyMap<string, readonly BenchLine[]>): string {
  const opened = text.match(/<!-- bench (?!end)\S+ -->/g)?.length ?? 0;
  let made = 0;
  const changed = text.replaceAll(
    /(<!-- bench (?!end)(\S+) -->\n)[^]*?(<!-- bench end -->)/g,
    (_, begin: string, name: string, end: string) => {
      const lines = results.get(name);
      const make = tablesOf(name.split('.')[0] ?? '');
      if (lines === undefined || make === undefined)
        throw new Error(`${name}: there are no such results, or no table of them`);
      made++;
      return `${begin}\n${make(lines)}\n\n${end}`;
    },
  );
  if (made !== opened) throw new Error('a mark of a table has no end');
  return changed;
}

/** `text` with a place for each of these tables that it has none for, under "Results" at its end. */
export function withMarks(text: string, names: readonly string[]): string {
  const missing = names.filter((name) => !text.includes(`<!-- bench ${name} -->`));
  if (missing.length === 0) return text;
  const heading = text.includes('\n## Results\n') ? '' : '\n## Results\n';
  return `${text.trimEnd()}\n${heading}${missing.map((name) => `\n<!-- bench ${name} -->\n<!-- bench end -->\n`).join('')}`;
}

/** `kept`, with the lines of `fresh` in place of those of the same case and metric, and behind them what is new. */
export function merged(kept: readonly BenchLine[], fresh: readonly BenchLine[]): BenchLine[] {
  const key = ({ case: name, metric }: BenchLine): string => `${name}\n${metric}`;
  const lines = new Map(kept.map((line) => [key(line), line]));
  for (const line of fresh) lines.set(key(line), line);
  return [...lines.values()];
}
