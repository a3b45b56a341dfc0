// `npm run bench -- NAME [--json] [--save]`: runs one benchmark and prints a table, or one JSON object a line.
// --save keeps the same lines under test/bench/results/NAME.DEVICE.jsonl, each with device and commit, and the benchmark's plot
// beside them; without it nothing is written. `results` makes the README's tables and all plots anew.
import { cpus } from 'node:os';
import type { Bench, BenchLine } from './bench.js';
import { commitHere, draw, FOLDER, nameOf, results, USAGE, write } from './results.js';
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
  swap: () => import('./swap.js'),
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
  for (const line of USAGE) err(`  ${line}`);
}

function save(bench: Bench, lines: readonly BenchLine[]): void {
  const processor = (cpus()[0]?.model ?? 'cpu').trim().replaceAll(/\s+/g, ' ');
  const other = lines.find((line) => line.device !== undefined)?.device;
  const device = other ?? processor;
  const commit = commitHere();
  const name = nameOf(bench.name, device, other === undefined ? cpus().length : undefined);
  write(
    name,
    lines.map((line) => ({ ...line, device, commit })),
  );
  err(`kept in ${FOLDER}${name}.jsonl`);
  const drawn = draw(name, bench, lines);
  if (drawn !== undefined) err(`drawn in ${drawn}`);
}

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === 'results') {
    await results(rest, BENCHES, err);
    return 0;
  }
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
