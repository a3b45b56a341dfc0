// Rows as text for a terminal: one line a row, columns as wide as they need to be.
import type { SelectorInfo } from '@spotlight/cuda';
import type { Row } from '../trial.js';

/** Four significant digits. */
export function figure(value: number | undefined): string {
  if (value === undefined) return '';
  if (!Number.isFinite(value)) return String(value);
  return Number(value.toPrecision(4)).toString();
}

export function bytesText(bytes: number): string {
  return bytes >= 1e6 ? `${figure(bytes / 1e6)} MB` : `${figure(bytes / 1e3)} kB`;
}

export function columns(cells: readonly (readonly string[])[]): string {
  const widths = (cells[0] ?? []).map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export const HEAD = [
  ...['task', 'of', 'method', 'budget', 'metric', 'value', 'vs dense', 'rows', 'bytes a step'],
  'exact top-k at equal bytes',
] as const;

export function cellsOf(row: Row): string[] {
  const { task, group, method, budget, metric, value, ratio, rows, bytes, equal } = row;
  return [
    ...[task, group, method, method === 'dense' ? '' : `${figure(budget * 100)}%`, metric, figure(value)],
    ratio === undefined ? '' : figure(ratio),
    ...[figure(Math.round(rows)), bytesText(bytes)],
    equal === undefined ? '' : `${figure(equal.value)} (${equal.tokens} tokens)`,
  ];
}

export function table(rows: readonly Row[]): string {
  return columns([[...HEAD], ...rows.filter(({ detail }) => detail !== true).map(cellsOf)]);
}

/** What --list-methods prints. @param headDim of the index bits */
export function methodTable(selectors: readonly SelectorInfo[]): string {
  const own = [
    ['dense', '0', 'full attention', '', 'every token'],
    [
      'spotlight',
      "the artifact's",
      'Spotlight',
      'yes',
      'the k tokens of best learned code score; open block besides',
    ],
  ];
  const bits = ({ indexBits, indexBitsPerDim }: SelectorInfo): string =>
    [indexBits > 0 ? String(indexBits) : '', indexBitsPerDim > 0 ? `${indexBitsPerDim} d` : '']
      .filter(Boolean)
      .join(' + ') || '0';
  return columns([
    ['method', 'index bits a token and KV head', 'paper', '+tail', 'what a query reads'],
    ...own,
    ...selectors.map((info) => [info.name, bits(info), info.paper, info.tail ? 'yes' : '', info.rule]),
  ]);
}
