// Lines as a table for people: one row a line, columns as wide as they need to be.
import type { BenchLine } from './bench.js';

const HEAD = ['case', 'metric', 'value', 'unit', 'baseline', 'ratio'] as const;

/** Four significant digits; integers whole. */
export function figure(value: number | undefined): string {
  if (value === undefined) return '';
  if (!Number.isFinite(value)) return String(value);
  return Number.isInteger(value) ? String(value) : Number(value.toPrecision(4)).toString();
}

export function table(lines: readonly BenchLine[]): string {
  const cells = [
    [...HEAD],
    ...lines.map((line) => [
      line.case,
      line.metric,
      figure(line.value),
      line.unit,
      figure(line.baseline),
      figure(line.ratio),
    ]),
  ];
  const widths = HEAD.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
