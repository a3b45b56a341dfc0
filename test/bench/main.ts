// `npm run bench -- NAME [--json] [--save]`: runs one benchmark and prints a table, or one JSON object a line.
// --save keeps the same lines under test/bench/results/NAME.DEVICE.jsonl, each with device and commit, and the benchmark's plot
// beside them; without it nothing is written.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Bench, BenchLine } from './bench.js';
import { table } from './table.js';

// name -> loader; each benchmark registers itself here.
const BENCHES: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>> = {
  attention: () => import('./attention.js'),
  'cpu-decode': () => import('./cpu-decode.js'),
  crossover: () => import('./crossover.js'),
  e2e: () => import('./e2e-gpu.js'),
  gateway: () => import('./gateway.js'),
  perplexity: () => import('./perplexity.js'),
  scheduler: () => import('./scheduler.js'),
};

const err = (message: string): void => {
  process.stderr.write(`${message}\n`);
};

async function usage(): Promise<void> {
  err('usage: npm run bench -- NAME [--json] [--save] [flags of the benchmark]\n');
  for (const load of Object.values(BENCHES)) {
    const { bench } = await load();
    err(`  ${bench.name.padEnd(12)} ${bench.summary}`);
    for (const flag of bench.flags ?? []) err(`  ${' '.repeat(12)}   ${flag}`);
  }
}

function save(bench: Bench, lines: readonly BenchLine[]): void {
  const processor = (cpus()[0]?.model ?? 'cpu').trim().replaceAll(/\s+/g, ' ');
  const other = lines.find((line) => line.device !== undefined)?.device;
  const device = other ?? processor;
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const commit = git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '-uno') ? '+' : '');
  // Compiled code runs from test/dist/bench; results stand beside the sources.
  const folder = fileURLToPath(new URL('../../bench/results/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  const slug = device.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  const file = `${folder}${bench.name}.${slug}${other === undefined ? `-${String(cpus().length)}` : ''}`;
  const kept = lines.map((line) => `${JSON.stringify({ ...line, device, commit })}\n`).join('');
  writeFileSync(`${file}.jsonl`, kept);
  err(`kept in ${file}.jsonl`);
  const drawn = bench.plot?.(lines);
  if (drawn === undefined) return;
  writeFileSync(`${file}.svg`, drawn);
  err(`drawn in ${file}.svg`);
}

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  const load = name === undefined ? undefined : BENCHES[name];
  if (name === undefined || load === undefined) {
    if (name !== undefined && !name.startsWith('-')) err(`no benchmark is called ${name}`);
    await usage();
    return name === '--help' ? 0 : 2;
  }
  const json = rest.includes('--json');
  const args = rest.filter((flag) => flag !== '--json' && flag !== '--save');
  const { bench } = await load();
  const lines: BenchLine[] = [];
  for await (const line of bench.run({ args, log: err })) {
    lines.push(line);
    if (json) process.stdout.write(`${JSON.stringify(line)}\n`);
  }
  if (!json) process.stdout.write(`${table(lines)}\n`);
  if (rest.includes('--save')) save(bench, lines);
  return 0;
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    err(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  },
);
