// e2e: whole decode steps of a 7B shape on a GPU, dense and Spotlight, then what serving adds to one. The matrix is measured by the
// native executable, which keeps two steps in flight and does nothing else; host overhead is how much longer a step takes when a
// real worker schedules, detokenises and streams to a client, which is how long the GPU then stands idle.
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { SamplingParams } from '@spotlight/proto';
import { WorkerProcess } from '../e2e/worker-process.js';
import type { Bench, BenchLine, BenchOptions } from './bench.js';
import { quantile } from './bench.js';
import { runGpuBench } from './gpu-executable.js';

/** ms a step of vLLM 0.26 (FlashAttention 3, CUDA graphs) serving Qwen2.5-7B in bf16 on one H200, as reported; not measured here. */
const VLLM: Readonly<Record<string, number>> = {
  '1x32768': 5.2,
  '1x131072': 6.5,
  '8x32768': 8.2,
  '8x131072': 18.1,
  '16x122880': 29.2,
  '1x1048576': 18.5,
};
const QUOTED = 'quoted, not measured here';
const REQUESTS = 64;
const PROMPT = 512;
const WINDOWS = 8;
const WINDOW_MS = 500;

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
    const size = line.case.split(' ')[1] ?? '';
    const value = VLLM[size];
    if (model === 'qwen2.5-7b' && line.metric === 'dense' && value !== undefined)
      yield { bench: 'e2e', case: line.case, metric: 'vLLM 0.26', value, unit: 'ms', note: QUOTED };
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
  const args = ['--model', model, '--cases', size, '--ways', 'dense'];
  for await (const line of runGpuBench('engine_cuda_bench', args, log)) bare.push(line);
  const floor = bare.find((line) => line.metric === 'dense')?.value;
  if (floor === undefined) throw new Error(`the engine did not run ${size}`);
  const served = await servedStep(model);
  const line = { bench: 'e2e', case: `${model} ${size}`, unit: 'ms', ...(device && { device }) };
  yield { ...line, metric: 'step, the engine alone', value: floor };
  yield { ...line, metric: 'step, served', value: served, baseline: floor, ratio: served / floor };
  yield { ...line, metric: 'host overhead', value: served - floor };
}

/** Milliseconds a step of a worker that decodes REQUESTS streamed requests: the median over windows. */
async function servedStep(model: string): Promise<number> {
  const worker = await WorkerProcess.start([
    ...['--model', `dummy:${model}`, '--device', 'cuda', '--artifact', 'none'],
    ...['--max-sequences', String(REQUESTS)],
  ]);
  try {
    const running = Array.from({ length: REQUESTS }, (_, i) =>
      worker.begin({
        prompt: {
          $case: 'tokenIds',
          value: { ids: Array.from({ length: PROMPT }, (_, p) => 256 + ((i * 31 + p * 7) % 4000)) },
        },
        sampling: SamplingParams.fromPartial({ seed: BigInt(i), ignoreEos: true, maxTokens: 100_000 }),
      }),
    );
    while ((await metric(worker, 'vllm:num_requests_running')) < REQUESTS) await setTimeout(50);
    // Contexts then pass through PROMPT * 2, the bare engine's: the weights' bytes are nearly all of a step here.
    await setTimeout(1000);
    const windows: number[] = [];
    for (let i = 0; i < WINDOWS; i++) {
      const [before, begin] = [await metric(worker, 'spotlight:steps_total'), performance.now()];
      await setTimeout(WINDOW_MS);
      const [after, end] = [await metric(worker, 'spotlight:steps_total'), performance.now()];
      windows.push((end - begin) / (after - before));
    }
    for (const request of running) request.cancel();
    await Promise.all(running.map(({ ended }) => ended));
    return quantile(windows, 0.5);
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

export const bench: Bench = {
  name: 'e2e',
  summary: 'decode steps of a 7B shape on a GPU, dense and spotlight, and what serving adds to a step',
  flags: [
    '--cases 1x8192,...,16x122880,1x1048576   --ways dense,spotlight   --steps 96   --layers N   --fraction 0.02',
    '--model qwen2.5-7b   --no-tail   --no-serving   only the engine',
  ],
  run,
};
