// attention: one decode step of one layer's attention on a GPU, whole and by stages, against dense cuDNN and FlashInfer in the
// same run. The native executable measures; here its lines become the table and the plot.
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { runGpuBench } from './gpu-executable.js';
import { svg } from './plot.js';
import type { Series } from './plot.js';

/** Metric -> its name in the plot. */
const DRAWN: Readonly<Record<string, string>> = {
  'dense cuDNN': 'dense, cuDNN',
  'dense FlashInfer': 'dense, FlashInfer',
  spotlight: 'Spotlight',
  'spotlight, tail': 'Spotlight with tail',
  'byte floor': 'byte floor',
};

/** "qwen2.5-7b 1x32768" taken apart; undefined for lines about the device. */
export function parseCase(
  name: string,
): { readonly shape: string; readonly batch: number; readonly context: number } | undefined {
  const [, shape, batch, context] = /^(\S+) (\d+)x(\d+)$/.exec(name) ?? [];
  if (shape === undefined) return undefined;
  return { shape, batch: Number(batch), context: Number(context) };
}

/** Of the first shape at batch 1: what the README shows. */
export function plotAttention(lines: readonly BenchLine[]): string | undefined {
  const points = lines.flatMap((line) => {
    const found = parseCase(line.case);
    return found?.batch === 1 && line.metric in DRAWN ? [{ ...found, line }] : [];
  });
  const shape = points[0]?.shape;
  if (shape === undefined) return undefined;
  const series = Object.entries(DRAWN).map(([metric, name]): Series => ({
    name,
    floor: metric === 'byte floor',
    points: points
      .filter((point) => point.shape === shape && point.line.metric === metric)
      .map(({ context, line }) => [context, line.value] as const),
  }));
  return svg({
    title: `One layer's attention, ${shape}, batch 1, ${points[0]?.line.device ?? 'GPU'}`,
    xLabel: 'context, tokens',
    yLabel: 'microseconds a decode step',
    series,
  });
}

export const bench: Bench = {
  name: 'attention',
  summary: 'decode attention on a GPU: byte floor, dense cuDNN and FlashInfer, Spotlight by stages, errors',
  flags: [
    '--shape qwen2.5-7b,llama-3-8b,qwen3-8b   --batch 1,8,16   --contexts 8192,...,2097152',
    '--fraction 0.02   --repetitions 9   --no-errors',
  ],
  run: ({ args, log }: BenchOptions) => runGpuBench('attention_cuda_bench', args, log),
  plot: plotAttention,
};
