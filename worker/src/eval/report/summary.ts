// A task's rows as one line a method: what it reads, and what it gives on every document or kind at once. What the terminal and the
// page show first, and what the project's README keeps. Pure.
import type { Row } from '../trial.js';
import { bytesText, columns, figure } from './table.js';

export interface Summary {
  readonly title: string;
  readonly head: readonly string[];
  readonly lines: readonly (readonly string[])[];
}

/** Perplexity and IoU are of the same windows: one table. */
const TABLES: readonly (readonly [title: string, tasks: readonly string[]])[] = [
  ['perplexity and selections', ['ppl', 'iou']],
  ['needles', ['needle']],
  ['fidelity to dense', ['fidelity']],
  ['question answering', ['qa']],
  ['few-shot', ['fewshot']],
];

const FIRST = ['method', 'budget', 'index bits', 'rows', 'bytes a step'] as const;

/** Tables of the tasks that ran. A cell's second figure, in brackets, is exact top-k at as many bytes. */
export function summaries(rows: readonly Row[]): Summary[] {
  return TABLES.flatMap(([title, tasks]) => {
    const own = rows.filter(({ task, detail }) => tasks.includes(task) && detail !== true);
    return own.length === 0 ? [] : [summary(title, own)];
  });
}

function summary(title: string, rows: readonly Row[]): Summary {
  const columnOf = ({ group, metric }: Row): string => `${metric}\n${group}`;
  const wanted = [...new Set(rows.map(columnOf))];
  const names = shortNames([...new Set(rows.map(({ group }) => group))]);
  const lineOf = ({ method, budget }: Row): string => `${method}\n${budget}`;
  const lines = [...new Set(rows.map(lineOf))].map((line) => {
    const own = rows.filter((row) => lineOf(row) === line);
    const [first] = own as [Row, ...Row[]];
    const dense = first.method === 'dense';
    return [
      first.method,
      dense ? '' : `${figure(first.budget * 100)}%`,
      dense ? '' : figure(first.indexBits),
      figure(Math.round(meanOf(own, ({ rows: read }) => read))),
      bytesText(meanOf(own, ({ bytes }) => bytes)),
      ...wanted.map((column) => cell(own.find((row) => columnOf(row) === column))),
    ];
  });
  const head = wanted.map((column) => {
    const [metric = '', group = ''] = column.split('\n');
    const name = names.get(group) ?? group;
    return name === 'all' ? metric : `${metric}, ${name}`;
  });
  return { title, head: [...FIRST, ...head], lines };
}

/** Documents by the first word of their names where that tells them apart. */
function shortNames(groups: readonly string[]): Map<string, string> {
  const short = groups.map((group) => (/\.\w+$/.test(group) ? (group.split(/[-_. ]/)[0] ?? group) : group));
  const alone = new Set(short).size === short.length;
  return new Map(groups.map((group, i) => [group, alone ? (short[i] ?? group) : group]));
}

function meanOf(rows: readonly Row[], of: (row: Row) => number): number {
  return rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
}

function cell(row: Row | undefined): string {
  if (row === undefined) return '';
  // Exact top-k's IoU with itself says nothing.
  return row.equal === undefined || row.metric === 'IoU'
    ? figure(row.value)
    : `${figure(row.value)} [${figure(row.equal.value)}]`;
}

/** For a terminal. */
export function summaryText({ title, head, lines }: Summary): string {
  return `${title} [in brackets: exact top-k at as many bytes]\n${columns([head, ...lines])}`;
}
