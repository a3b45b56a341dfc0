// Builds a native benchmark (cuda/bench/NAME_cuda_bench.*) in the build folder that carries CUDA and runs it. It prints bench lines
// itself, since what it times is below any language; here they are only parsed and checked.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { devices } from '@spotlight/cuda';
import type { BenchLine } from './bench.js';

const BUILD = fileURLToPath(new URL('../../../cuda/build-cuda', import.meta.url));

/** [async] @throws with what is missing when there is no GPU that an engine can use */
async function needGpu(): Promise<void> {
  const found = await devices();
  if (found.devices.some((device) => device.usable)) return;
  const problems = found.devices.map(({ name, problem }) => `${name}: ${problem ?? 'cannot be used'}.`);
  throw new Error(['This benchmark needs a GPU.', ...found.missing, ...problems].join(' '));
}

/** [async] Path of the built executable. `npm run setup` has configured the folder: a GPU gets a build with CUDA. */
async function build(name: string, log: (message: string) => void): Promise<string> {
  log(`building cuda/bench/${name}`);
  const parallel = String(availableParallelism());
  const args = ['--build', BUILD, '--target', `bench_${name}`, '--parallel', parallel];
  const child = spawn('cmake', args, { stdio: ['ignore', 'ignore', 2] });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (code !== 0) throw new Error(`cmake ${args.join(' ')} ended with status ${String(code)}`);
  return `${BUILD}/cuda_benches/bench_${name}`;
}

function isLine(value: unknown): value is BenchLine {
  const line = value as Partial<BenchLine>;
  return typeof line.bench === 'string' && typeof line.case === 'string' && typeof line.value === 'number';
}

/** Its lines as they come. @throws with the reason when there is no GPU, or when it fails */
export async function* runGpuBench(
  name: string,
  args: readonly string[],
  log: (message: string) => void,
): AsyncGenerator<BenchLine> {
  await needGpu();
  const executable = await build(name, log);
  const child = spawn(executable, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = new Promise<number | string | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve(code ?? signal);
    });
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000);
    log(text.trimEnd());
  });
  for await (const text of createInterface({ input: child.stdout })) {
    const line: unknown = JSON.parse(text);
    if (!isLine(line)) throw new Error(`${name} printed what is no bench line: ${text}`);
    yield line;
  }
  const status = await exit;
  if (status !== 0) throw new Error(said.trim() || `${name} ended with ${String(status)}`);
}
