// crossover: the context from which Spotlight with the tail beats dense attention on this device, a shape and batch; last the number
// that cuda/attention/crossover.cc holds of the device. Measured at doubling contexts; between two of them times grow as powers, so the
// crossing is where the straight lines of a log-log plot meet. The default rests on batch 1 alone: it is a row's own context that
// decides, whoever shares its step, and with others beside it retrieval wins earlier.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { parseCase } from './attention.js';
import { runGpuBench } from './gpu-executable.js';

const CONTEXTS = [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072];
const OURS = 'spotlight, tail';
const DENSE = ['dense cuDNN', 'dense FlashInfer'];
/** Values of K a token has in one layer, by shape: dense attention's bytes follow it. */
const WIDTHS: Readonly<Record<string, number>> = { 'qwen2.5-7b': 512, 'llama-3-8b': 1024, 'qwen3-8b': 1024 };
/** The width that the default is given for. */
const WIDTH = 512;

export interface Race {
  readonly context: number;
  readonly dense: number;
  readonly ours: number;
}

/**
 * The smallest context from which ours is faster at every context measured, rounded up to a block of 64; undefined when it is
 * not at the longest.
 */
export function crossing(races: readonly Race[]): number | undefined {
  const sorted = [...races].sort((a, b) => a.context - b.context);
  const lastLoss = sorted.findLastIndex(({ dense, ours }) => ours >= dense);
  const [loss, win] = [sorted[lastLoss], sorted[lastLoss + 1]];
  if (win === undefined) return undefined;
  if (loss === undefined) return win.context;
  const lead = ({ dense, ours }: Race): number => Math.log(dense / ours);
  const share = lead(loss) === lead(win) ? 1 : -lead(loss) / (lead(win) - lead(loss));
  const at = loss.context * (win.context / loss.context) ** share;
  return Math.ceil(at / 64) * 64;
}

/** The lines of an attention benchmark that race, of shapes whose width is known. */
export function races(line: BenchLine): boolean {
  const shape = parseCase(line.case)?.shape;
  return shape !== undefined && shape in WIDTHS && (line.metric === OURS || DENSE.includes(line.metric));
}

/** The crossing of every shape and batch among such lines, then the default; what dense wins throughout is told to `log`. */
export function crossovers(lines: readonly BenchLine[], log: (message: string) => void): BenchLine[] {
  const times = new Map<string, Map<number, Map<string, number>>>();
  for (const line of lines.filter(races)) {
    const found = parseCase(line.case);
    if (found === undefined) continue;
    const name = `${found.shape} batch ${found.batch}`;
    const ofCase = times.get(name) ?? new Map<number, Map<string, number>>();
    const ofContext = ofCase.get(found.context) ?? new Map<string, number>();
    times.set(name, ofCase.set(found.context, ofContext.set(line.metric, line.value)));
  }
  const device = lines.find((line) => line.device !== undefined)?.device;
  const result = { bench: 'crossover', unit: 'tokens', ...(device !== undefined && { device }) };
  const found: BenchLine[] = [];
  let least: number | undefined = 0;
  for (const [name, ofCase] of times) {
    const value = crossing(
      [...ofCase].flatMap(([context, metrics]): Race[] => {
        const ours = metrics.get(OURS);
        const dense = Math.min(...DENSE.map((metric) => metrics.get(metric) ?? Infinity));
        return ours === undefined || dense === Infinity ? [] : [{ context, dense, ours }];
      }),
    );
    const [shape = '', , batch] = name.split(' ');
    if (value === undefined) log(`${name}: dense wins at the longest context measured`);
    else found.push({ ...result, case: name, metric: 'crossover', value });
    if (batch !== '1') continue;
    const scaled = value === undefined ? undefined : (value * (WIDTHS[shape] ?? WIDTH)) / WIDTH;
    least = scaled === undefined || least === undefined ? undefined : Math.max(least, scaled);
  }
  if (least !== undefined && least > 0)
    found.push({ ...result, case: `batch 1, ${WIDTH} values of K`, metric: 'default', value: least });
  return found;
}

async function* kept(path: string): AsyncGenerator<BenchLine> {
  for await (const text of createInterface({ input: createReadStream(path) }))
    yield JSON.parse(text) as BenchLine;
}

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const { values } = parseArgs({ args: [...args], options: { from: { type: 'string' } }, strict: false });
  const contexts = args.includes('--contexts') ? [] : ['--contexts', CONTEXTS.join(',')];
  const measured =
    typeof values.from === 'string'
      ? kept(values.from)
      : runGpuBench('attention_cuda_bench', ['--no-errors', ...contexts, ...args], log);
  const lines: BenchLine[] = [];
  for await (const line of measured) {
    if (!races(line)) continue;
    lines.push(line);
    yield { ...line, bench: 'crossover' };
  }
  yield* crossovers(lines, log);
}

export const bench: Bench = {
  name: 'crossover',
  summary:
    'the context from which Spotlight beats dense attention on this GPU: the default of --attention-crossover',
  flags: [
    '--shape qwen2.5-7b,llama-3-8b,qwen3-8b   --batch 1,8,16   --contexts 1024,...,131072',
    '--from FILE   of lines that attention or crossover kept: measures nothing',
  ],
  run,
};
