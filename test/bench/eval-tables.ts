// Rows of `spotlight eval --json` as lines that are kept, and kept lines as the tables that the command printed. An evaluation is kept
// under a name of its own (eval-NAME.DEVICE), since one says nothing about another's texts, budgets and tasks.
import { readFileSync } from 'node:fs';
import type { Row } from '@spotlight/worker/eval/trial.js';
import { summaries } from '@spotlight/worker/eval/report/summary.js';
import type { BenchLine } from './bench.js';
import { markdownTable } from './markdown.js';

/** What names of kept evaluations begin with. */
export const EVAL = 'eval-';

interface Evaluation {
  readonly command: string;
  readonly artifact: string;
  /** "cuda NVIDIA H200, sm_90" */
  readonly device: string;
  readonly rows: readonly Row[];
}

/** Of a file of --json. @param name NAME @throws Error for a file that is none */
export function evalLines(name: string, path: string): BenchLine[] {
  const { command, artifact, device, rows } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Evaluation>;
  if (command === undefined || artifact === undefined || device === undefined || rows === undefined)
    throw new Error(`${path}: is not what spotlight eval --json writes`);
  const note = `${command}\nartifact ${artifact}`;
  // Points of plots stay out: a page of HTML shows them.
  return rows
    .filter(({ detail }) => detail !== true)
    .map((row) => ({
      bench: EVAL + name,
      case: `${row.task}, ${row.group}, ${row.method} ${row.budget}`,
      ...{ metric: row.metric, value: row.value, unit: '1' },
      ...(row.equal !== undefined && { baseline: row.equal.value, ratio: row.value / row.equal.value }),
      ...{ device: device.replace(/^\w+ /, '').replace(/, [^,]*$/, ''), note, row },
    }));
}

export function evalTables(lines: readonly BenchLine[]): string {
  const [command = '', artifact = ''] = (lines[0]?.note ?? '').split('\n');
  const rows = lines.flatMap(({ row }) => (row === undefined ? [] : [row]));
  const tables = summaries(rows).map(({ head, lines: cells }) => markdownTable(head, cells));
  return [`\`${command}\` (${artifact.slice(0, 'artifact '.length + 12)}):`, ...tables].join('\n\n');
}
