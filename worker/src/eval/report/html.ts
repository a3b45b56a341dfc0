// One page that needs no other file: what was run, the tables, and plots of them. The same rows give the same page, byte for byte.
import type { Row } from '../trial.js';
import { summaries } from './summary.js';
import type { Summary } from './summary.js';
import { cellsOf, HEAD } from './table.js';
import { escaped, heatMap, lineChart } from './plots.js';
import type { Series } from './plots.js';

export interface Report {
  /** The command that gives it again. */
  readonly command: string;
  /** Model, artifact, device: name and value. */
  readonly facts: readonly (readonly [string, string])[];
  readonly rows: readonly Row[];
}

const STYLE = `body{font:14px/1.45 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}td,th{padding:.25rem .7rem;border-bottom:1px solid #8884;text-align:left}
pre{padding:.8rem;background:#8882;overflow-x:auto}h2{margin-top:2.5rem}svg{max-width:100%;height:auto;margin:1rem 0}.wide{overflow-x:auto}summary{cursor:pointer}`;

export function htmlReport({ command, facts, rows }: Report): string {
  const tasks = [...new Set(rows.map(({ task }) => task))];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>spotlight eval</title><style>${STYLE}</style></head><body>
<h1>spotlight eval</h1>
<pre>${escaped(command)}</pre>
<table>${facts.map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`).join('')}</table>
<p>Bytes a step: index, keys, values and block means that one decode step of one sequence reads, its model's weights left out. Rows: of
K and V that a KV head reads. Beside each figure, in brackets, what exact top-k with a free index gives for as many bytes, to 1%.</p>
${summaries(rows).map(summaryTable).join('\n')}
${tasks
  .map((task) =>
    section(
      task,
      rows.filter((row) => row.task === task),
      [...new Set(rows.map(({ method }) => method))],
    ),
  )
  .join('\n')}
</body></html>
`;
}

/** One line a method. */
function summaryTable({ title, head, lines }: Summary): string {
  const row = (cells: readonly string[], tag: 'td' | 'th'): string =>
    `<tr>${cells.map((text) => `<${tag}>${escaped(text)}</${tag}>`).join('')}</tr>`;
  const body = lines.map((cells) => row(cells, 'td')).join('\n');
  return `<h2>${escaped(title)}</h2>\n<div class="wide"><table>${row(head, 'th')}\n${body}</table></div>`;
}

/** @param methods of the whole report: a method's place is its colour */
function section(task: string, rows: readonly Row[], methods: readonly string[]): string {
  const shown = rows.filter(({ detail }) => detail !== true);
  const head = HEAD.slice(1)
    .map((name) => `<th>${name}</th>`)
    .join('');
  const body = shown
    .map(
      (row) =>
        `<tr>${cellsOf(row)
          .slice(1)
          .map((cell) => `<td>${escaped(cell)}</td>`)
          .join('')}</tr>`,
    )
    .join('\n');
  return `<h2>${task}</h2>\n<details><summary>every row</summary><table><tr>${head}</tr>\n${body}</table></details>\n${plots(task, rows, methods).join('\n')}`;
}

function plots(task: string, rows: readonly Row[], methods: readonly string[]): string[] {
  const sweeps = groupsOf(rows.filter(({ detail }) => detail !== true)).map(([title, own]) =>
    lineChart({
      title: `${task}: ${title}`,
      xLabel: 'MB a decode step reads',
      yLabel: own[0]?.metric ?? '',
      logX: true,
      mostY: leastUseful(own),
      series: [
        ...seriesOf(own, methods, ({ bytes }) => bytes / 1e6),
        {
          name: 'exact top-k, as many bytes',
          colour: methods.length,
          points: own.flatMap(({ bytes, equal }) => (equal ? [[bytes / 1e6, equal.value] as const] : [])),
        },
      ],
    }),
  );
  return [
    ...sweeps,
    ...lines(rows, methods, 'layer', 'layer'),
    ...lines(rows, methods, 'position', 'tokens of context'),
    ...heatMaps(rows),
  ].filter((plot) => plot !== '');
}

/** Perplexities half as high again as dense attention's are no use to anyone: what lies above tells nothing apart. */
function leastUseful(rows: readonly Row[]): number | undefined {
  const dense = rows.find(({ method, metric }) => method === 'dense' && metric === 'perplexity');
  return dense === undefined ? undefined : 1.5 * dense.value;
}

function groupsOf(rows: readonly Row[]): [string, Row[]][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${row.group}, ${row.metric}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups];
}

function seriesOf(rows: readonly Row[], methods: readonly string[], x: (row: Row) => number): Series[] {
  return [...new Set(rows.map(({ method }) => method))].map((method) => ({
    name: method,
    colour: methods.indexOf(method),
    points: rows.filter((row) => row.method === method).map((row) => [x(row), row.value] as const),
  }));
}

/** What details named "layer 3" or "position 512" say, at the first budget. */
function lines(rows: readonly Row[], methods: readonly string[], word: string, xLabel: string): string[] {
  const budgets = rows.filter(({ method }) => method !== 'dense').map(({ budget }) => budget);
  const own = rows.filter(
    ({ group, detail, budget }) => detail === true && group.startsWith(`${word} `) && budget === budgets[0],
  );
  return [...new Set(own.map(({ metric }) => metric))].map((metric) =>
    lineChart({
      title: `${metric} by ${word}`,
      xLabel,
      yLabel: metric,
      series: seriesOf(
        own.filter((row) => row.metric === metric),
        methods,
        ({ group }) => Number(group.slice(word.length + 1)),
      ),
    }),
  );
}

const CELL = /^(.+) (\d+) tokens, depth (\d+)%$/;

/** Depth by length, a map for each needle, way and method. */
function heatMaps(rows: readonly Row[]): string[] {
  const cells = rows.flatMap((row) => {
    const [, kind, length, depth] = CELL.exec(row.group) ?? [];
    if (kind === undefined || length === undefined || depth === undefined) return [];
    const budget = row.method === 'dense' ? '' : ` ${Number((row.budget * 100).toPrecision(4))}%`;
    return [{ title: `${kind}, ${row.metric}: ${row.method}${budget}`, length, depth, value: row.value }];
  });
  const ordered = (values: readonly string[]): string[] =>
    [...new Set(values)].sort((a, b) => Number(a) - Number(b));
  return [...new Set(cells.map(({ title }) => title))].map((title) => {
    const own = cells.filter((cell) => cell.title === title);
    const columns = ordered(own.map(({ length }) => length));
    const depths = ordered(own.map(({ depth }) => depth));
    return heatMap({
      ...{
        title,
        xLabel: 'tokens of context',
        yLabel: 'depth',
        columns,
        rows: depths.map((depth) => `${depth}%`),
      },
      values: depths.map((depth) =>
        columns.map((length) => own.find((cell) => cell.depth === depth && cell.length === length)?.value),
      ),
    });
  });
}
