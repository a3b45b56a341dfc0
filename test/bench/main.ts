// `npm run bench -- NAME [--json] [--save]`: runs one benchmark and prints a table, or one JSON object a line.
// --save keeps the same lines under test/bench/results/NAME.DEVICE.jsonl, each with device and commit; without it nothing is written.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Bench, BenchLine } from './bench.js';
import { table } from './table.js';

// name -> loader; each benchmark registers itself here.
const BENCHES: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>> = {
  'cpu-decode': () => import('./cpu-decode.js'),
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

function save(name: string, lines: readonly BenchLine[]): void {
  const device = (cpus()[0]?.model ?? 'cpu').trim().replaceAll(/\s+/g, ' ');
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const commit = git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '-uno') ? '+' : '');
  // Compiled code runs from test/dist/bench; results stand beside the sources.
  const folder = fileURLToPath(new URL('../../bench/results/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  const file = `${folder}${name}.${device.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}-${String(cpus().length)}.jsonl`;
  writeFileSync(file, lines.map((line) => `${JSON.stringify({ ...line, device, commit })}\n`).join(''));
  err(`kept in ${file}`);
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
  if (rest.includes('--save')) save(name, lines);
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
