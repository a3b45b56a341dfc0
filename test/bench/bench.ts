// What a benchmark is: a name and a generator of lines. A line carries a baseline and a ratio only where a peer or a floor
// was measured in the same run, since absolute times of a shared machine mean little.
import type { Row } from '@spotlight/worker/eval/trial.js';

export interface BenchLine {
  readonly bench: string;
  readonly case: string;
  readonly metric: string;
  readonly value: number;
  readonly unit: string;
  readonly baseline?: number;
  /** value / baseline. */
  readonly ratio?: number;
  /** What was measured on, where it is not this machine's CPU. */
  readonly device?: string;
  /** What a figure leaves out; of a row of an evaluation the command that gave it. */
  readonly note?: string;
  /** Of an evaluation: its row in full, which tables are made of. */
  readonly row?: Row;
}

export interface BenchOptions {
  /** What stood behind the benchmark's name on the command line, for its own parseArgs. */
  readonly args: readonly string[];
  /** Progress for people, on standard error. */
  readonly log: (message: string) => void;
}

export interface Bench {
  readonly name: string;
  readonly summary: string;
  /** The benchmark's own flags, a line each, for the help. */
  readonly flags?: readonly string[];
  run(options: BenchOptions): AsyncIterable<BenchLine>;
  /** Its lines as an SVG, kept beside them by --save; undefined where they are too few to draw. */
  plot?(lines: readonly BenchLine[]): string | undefined;
}

/** The q-quantile of samples, nearest rank; NaN without samples. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))] ?? Number.NaN;
}
