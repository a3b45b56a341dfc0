// e2e: prompts and whole decode steps of a 7B shape on a GPU, dense and Spotlight, then what serving adds to one. The matrix is
// measured by the native executable, which keeps two steps in flight and does nothing else; host overhead is how much longer a step
// takes when a real worker schedules, detokenises and streams to a client; how long the GPU then stands idle is measured besides.
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { SamplingParams } from '@spotlight/proto';
import { WorkerProcess } from '../e2e/worker-process.js';
import type { Running } from '../e2e/worker-process.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { quantile } from './bench.js';
import { parseCase } from './attention.js';
import { runGpuBench } from './gpu-executable.js';
import { svg } from './plot.js';
import type { Series } from './plot.js';
import { FIRST_TOKEN, VLLM, VLLM_FIRST_TOKEN } from './vllm.js';

const QUOTED = 'quoted, not measured here';
const REQUESTS = 64;
const PROMPT = 512;
const WINDOWS = 8;
const WINDOW_MS = 500;
const LONG_PROMPT = 32_768;

async function* run({ args, log }: BenchOptions): AsyncGenerator<BenchLine> {
  const { values, tokens } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string', default: 'qwen2.5-7b' },
      'no-serving': { type: 'boolean', default: false },
    },
    strict: false,
    tokens: true,
  });
  const model = String(values.model);
  const own = tokens.flatMap((token) =>
    token.kind === 'option' && token.name === 'no-serving' ? [token.index] : [],
  );
  const native = args.filter((_, i) => !own.includes(i));
  let device: string | undefined;
  for await (const line of runGpuBench('engine_cuda_bench', native, log)) {
    device = line.device;
    yield line;
    if (model !== 'qwen2.5-7b') continue;
    const [, size = '', prompt = ''] = line.case.split(' ');
    const quoted = { bench: 'e2e', case: line.case, note: QUOTED };
    const step = VLLM[size];
    if (line.metric === 'dense' && step !== undefined)
      yield { ...quoted, metric: 'vLLM 0.26', value: step, unit: 'ms' };
    const first = VLLM_FIRST_TOKEN[prompt];
    if (line.metric === FIRST_TOKEN && first !== undefined)
      yield { ...quoted, metric: `${FIRST_TOKEN}, vLLM 0.26`, value: first, unit: 's' };
  }
  if (values['no-serving'] !== true) yield* serving(model, device, log);
}

async function* serving(
  model: string,
  device: string | undefined,
  log: (message: string) => void,
): AsyncGenerator<BenchLine> {
  const size = `${REQUESTS}x${PROMPT * 2}`;
  log(`serving ${REQUESTS} requests`);
  const bare: BenchLine[] = [];
  const args = ['--model', model, '--cases', size, '--ways', 'dense', '--prefill', 'none'];
  for await (const line of runGpuBench('engine_cuda_bench', args, log)) bare.push(line);
  const floor = bare.find((line) => line.metric === 'dense')?.value;
  if (floor === undefined) throw new Error(`the engine did not run ${size}`);
  const { step, idle, firstToken } = await serve(model);
  const about = { bench: 'e2e', ...(device && { device }) };
  const line = { ...about, case: `${model} ${size}`, unit: 'ms' };
  yield { ...line, metric: 'step, the engine alone', value: floor };
  yield { ...line, metric: 'step, served', value: step, baseline: floor, ratio: step / floor };
  yield { ...line, metric: 'host overhead', value: step - floor };
  yield { ...line, metric: 'GPU idle a step, served', value: idle };
  const prompt = { ...about, case: `${model} prefill ${LONG_PROMPT}`, unit: 's' };
  yield { ...prompt, metric: `${FIRST_TOKEN}, served`, value: firstToken };
}

interface Served {
  /** Milliseconds a step of a worker that decodes REQUESTS streamed requests: the median over windows. */
  readonly step: number;
  /** Of that, milliseconds in which the engine had no step on the device. */
  readonly idle: number;
  /** Seconds from a prompt of LONG_PROMPT tokens, alone in the worker, to its first token. */
  readonly firstToken: number;
}

async function serve(model: string): Promise<Served> {
  const worker = await WorkerProcess.start([
    ...['--model', `dummy:${model}`, '--device', 'cuda', '--artifact', 'none'],
    ...['--max-sequences', String(REQUESTS)],
  ]);
  try {
    const begin = (salt: number, length: number): Running =>
      worker.begin({
        prompt: {
          $case: 'tokenIds',
          value: { ids: Array.from({ length }, (_, p) => 256 + ((salt * 31 + p * 7) % 700)) },
        },
        sampling: SamplingParams.fromPartial({ seed: BigInt(salt), ignoreEos: true, maxTokens: 50_000 }),
      });
    const running = Array.from({ length: REQUESTS }, (_, i) => begin(i, PROMPT));
    let ended: string | undefined;
    for (const request of running)
      void request.ended.then(
        ({ updates }) => (ended ??= updates.at(-1)?.error?.message ?? 'a request ended'),
      );
    while ((await metric(worker, 'vllm:num_requests_running')) < REQUESTS) {
      if (ended !== undefined) throw new Error(`${model}: ${ended}`);
      await setTimeout(50);
    }
    // Contexts then pass through PROMPT * 2, the bare engine's: the weights' bytes are nearly all of a step here.
    await setTimeout(1000);
    const look = async (): Promise<{ steps: number; busy: number; at: number }> => ({
      steps: await metric(worker, 'spotlight:steps_total'),
      busy: 1000 * (await metric(worker, 'spotlight:native_busy_seconds_total')),
      at: performance.now(),
    });
    const steps: number[] = [];
    const idle: number[] = [];
    for (let i = 0; i < WINDOWS; i++) {
      const before = await look();
      await setTimeout(WINDOW_MS);
      const after = await look();
      const count = after.steps - before.steps;
      steps.push((after.at - before.at) / count);
      idle.push((after.at - before.at - (after.busy - before.busy)) / count);
    }
    for (const request of running) request.cancel();
    await Promise.all(running.map(({ ended }) => ended));
    let firstToken = NaN;
    // The first loads what a long prompt wants besides; no token of one is where the other has it, so that nothing is found cached.
    for (const salt of [1000, 2001]) {
      const at = performance.now();
      const request = begin(salt, LONG_PROMPT);
      await request.begun;
      firstToken = (performance.now() - at) / 1000;
      request.cancel();
      await request.ended;
    }
    return { step: quantile(steps, 0.5), idle: quantile(idle, 0.5), firstToken };
  } finally {
    await worker.end();
  }
}

/** The sum over a metric's labels. */
async function metric(worker: WorkerProcess, name: string): Promise<number> {
  const { body } = await worker.get('/metrics');
  const samples = body
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  if (samples.length === 0) throw new Error(`the worker has no metric ${name}`);
  return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** Milliseconds a step over the context, a line a batch and way. */
export function plotSteps(lines: readonly BenchLine[]): string | undefined {
  const points = lines.flatMap((line) => {
    const found = parseCase(line.case);
    return found !== undefined && ['dense', 'spotlight'].includes(line.metric) ? [{ ...found, line }] : [];
  });
  const shape = points[0]?.shape;
  if (shape === undefined) return undefined;
  const own = points.filter((point) => point.shape === shape);
  const batches = [...new Set(own.map(({ batch }) => batch))].sort((a, b) => a - b);
  const series = batches.flatMap((batch) =>
    ['dense', 'spotlight'].map((way): Series => ({
      name: `${way}, batch ${batch}`,
      points: own
        .filter((point) => point.batch === batch && point.line.metric === way)
        .map(({ context, line }) => [context, line.value] as const),
    })),
  );
  if (series.every((one) => one.points.length < 2)) return undefined;
  return svg({
    title: `A decode step, ${shape}, ${points[0]?.line.device ?? 'GPU'}`,
    xLabel: 'context of each sequence, tokens',
    yLabel: 'milliseconds a step',
    series,
  });
}

export const bench: Bench = {
  name: 'e2e',
  summary: 'decode steps of a 7B shape on a GPU, dense and spotlight, and what serving adds to a step',
  flags: [
    '--cases 1x8192,...,16x122880,1x1048576   --ways dense,spotlight   --steps 96   --layers N   --fraction 0.02',
    '--prefill 32768,131072 | none   --chunk 8192   --rounds 2',
    '--model qwen2.5-7b   --no-tail   --no-serving   only the engine',
  ],
  run,
  plot: plotSteps,
};
