// Builds a native benchmark (cuda/bench/NAME_cuda_bench.*) in the CUDA build folder and runs it. It prints bench lines itself,
// since what it times is below any language; here they are only parsed and checked.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { BenchLine } from './bench.js';

const ROOM = fileURLToPath(new URL('../../../cuda', import.meta.url));
const BUILD = `${ROOM}/build-cuda`;

async function ended(command: string, args: readonly string[], quiet: boolean): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', quiet ? 'ignore' : 2, 2] });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with status ${String(code)}`);
}

/** Path of the built executable. @throws when it does not build */
export async function buildGpuBench(name: string, log: (message: string) => void): Promise<string> {
  log(`building cuda/bench/${name}`);
  if (!existsSync(`${BUILD}/CMakeCache.txt`))
    await ended('cmake', ['-S', ROOM, '-B', BUILD, '-DSPOTLIGHT_CUDA=ON'], true);
  const parallel = String(availableParallelism());
  await ended('cmake', ['--build', BUILD, '--target', `bench_${name}`, '--parallel', parallel], true);
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
  const executable = await buildGpuBench(name, log);
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
