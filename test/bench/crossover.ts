// crossover: the context from which Spotlight with the tail beats dense attention on this device, a shape and batch: what to set
// as the deployment's `crossover`. Measured at doubling contexts; between two of them times grow as powers, so the crossing is
// where the straight lines of a log-log plot meet.
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { parseCase } from './attention.js';
import { runGpuBench } from './gpu-executable.js';

const CONTEXTS = [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
const OURS = 'spotlight, tail';
const DENSE = ['dense cuDNN', 'dense FlashInfer'];

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

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const contexts = args.includes('--contexts') ? [] : ['--contexts', CONTEXTS.join(',')];
  const times = new Map<string, Map<number, Map<string, number>>>();
  let device: string | undefined;
  for await (const line of runGpuBench('attention_cuda_bench', ['--no-errors', ...contexts, ...args], log)) {
    device = line.device;
    const found = parseCase(line.case);
    if (found === undefined || !(line.metric === OURS || DENSE.includes(line.metric))) continue;
    const name = `${found.shape} batch ${found.batch}`;
    const ofCase = times.get(name) ?? new Map<number, Map<string, number>>();
    const ofContext = ofCase.get(found.context) ?? new Map<string, number>();
    times.set(name, ofCase.set(found.context, ofContext.set(line.metric, line.value)));
    yield { ...line, bench: 'crossover' };
  }
  for (const [name, ofCase] of times) {
    const races = [...ofCase].flatMap(([context, metrics]): Race[] => {
      const ours = metrics.get(OURS);
      const dense = Math.min(...DENSE.map((metric) => metrics.get(metric) ?? Infinity));
      return ours === undefined || dense === Infinity ? [] : [{ context, dense, ours }];
    });
    const value = crossing(races);
    if (value === undefined) log(`${name}: dense wins at every context measured`);
    else {
      const more = device === undefined ? {} : { device };
      yield { bench: 'crossover', case: name, metric: 'crossover', value, unit: 'tokens', ...more };
    }
  }
}

export const bench: Bench = {
  name: 'crossover',
  summary:
    'the context from which Spotlight beats dense attention on this GPU: the value for --attention-crossover',
  flags: ['--shape qwen2.5-7b,llama-3-8b,qwen3-8b   --batch 1,8,16   --contexts 1024,...,65536'],
  run,
};
